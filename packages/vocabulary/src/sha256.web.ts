// SPDX-License-Identifier: Apache-2.0
/** SHA-256, 32 bytes; in browsers, in secure contexts. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as BufferSource));
}
