// SPDX-License-Identifier: Apache-2.0
/** SHA-384 and the digests of other TPM banks, by WebCrypto (in browsers: secure contexts). See `sha.node.ts`. */
import { concat } from "@caisson/vocabulary/bytes";

/** SHA-384 of the concatenation of `parts`: 48 bytes. */
export async function sha384(...parts: readonly Uint8Array[]): Promise<Uint8Array> {
  return digest("sha384", ...parts);
}

const names = { sha1: "SHA-1", sha256: "SHA-256", sha384: "SHA-384", sha512: "SHA-512" };

/** Digest of the concatenation of `parts` with a named algorithm. WebCrypto has no streaming, hence one copy. */
export async function digest(
  algorithm: keyof typeof names,
  ...parts: readonly Uint8Array[]
): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest(names[algorithm], concat(...parts)));
}
