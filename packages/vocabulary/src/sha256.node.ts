// SPDX-License-Identifier: Apache-2.0
import { hash } from "./hash.node.ts";

/** SHA-256, 32 bytes. OpenSSL called directly: a round trip of WebCrypto costs more than hashing what is hashed here. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  return hash("sha256", bytes);
}
