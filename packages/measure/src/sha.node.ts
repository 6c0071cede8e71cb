// SPDX-License-Identifier: Apache-2.0
/**
 * SHA-384 and the digests of other TPM banks, for Node: synchronous OpenSSL behind the same asynchronous shape as
 * `sha.web.ts`. A thread-pool round trip of WebCrypto costs more than hashing one register.
 */
import { createHash } from "node:crypto";
import { hash } from "@caisson/vocabulary/hash";

/** SHA-384 of the concatenation of `parts`: 48 bytes. */
export function sha384(...parts: readonly Uint8Array[]): Promise<Uint8Array> {
  return digest("sha384", ...parts);
}

/** Digest of the concatenation of `parts` with a named algorithm. */
export async function digest(
  algorithm: "sha1" | "sha256" | "sha384" | "sha512",
  ...parts: readonly Uint8Array[]
): Promise<Uint8Array> {
  if (parts.length === 1) return hash(algorithm, parts[0]!);
  // A hash in one piece costs half of one that is fed: what is short is put together first.
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  if (size <= 1024) return hash(algorithm, Buffer.concat(parts, size));
  const running = createHash(algorithm);
  for (const part of parts) running.update(part);
  return new Uint8Array(running.digest());
}
