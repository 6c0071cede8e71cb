// SPDX-License-Identifier: Apache-2.0
/**
 * Hashes in one piece, for Node. As text first: what its bindings give as bytes is memory outside of V8's heap, and that
 * costs three times what hashing a few hundred bytes does.
 */
import * as crypto from "node:crypto";

export type Algorithm = "sha1" | "sha256" | "sha384" | "sha512";

export const hash = (algorithm: Algorithm, bytes: Uint8Array): Uint8Array =>
  bytesOf(crypto.hash(algorithm, bytes, "latin1"));

/** HMAC-SHA-256 (RFC 2104): 32 bytes. */
export const hmac = (key: Uint8Array, message: Uint8Array): Uint8Array =>
  bytesOf(crypto.createHmac("sha256", key).update(message).digest("latin1"));

function bytesOf(text: string): Uint8Array {
  const { buffer, byteOffset, length } = Buffer.from(text, "latin1");
  return new Uint8Array(buffer, byteOffset, length);
}
