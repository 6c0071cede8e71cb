// SPDX-License-Identifier: Apache-2.0
import { hash } from "node:crypto";

/** SHA-256, 32 bytes. OpenSSL called directly: a round trip of WebCrypto costs more than hashing what is hashed here. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(hash("sha256", bytes, "buffer"));
}
