// SPDX-License-Identifier: Apache-2.0
/**
 * The two primitives of verification, by OpenSSL: hashes and ECDSA over P-256 with SHA-256.
 *
 * Synchronous OpenSSL behind the same asynchronous shape as `crypto.web.ts`: WebCrypto's thread-pool round trips
 * make one P-256 check cost about three times as much here (bench/verify.ts prints both).
 */
import { createPublicKey, hash, type KeyObject, verify } from "node:crypto";

export async function digest(algorithm: "sha256" | "sha512", data: Uint8Array): Promise<Uint8Array> {
  return hash(algorithm, data, "buffer");
}

/** DER of a P-256 SubjectPublicKeyInfo (RFC 5480) up to the 65 bytes of the uncompressed point. */
const spkiPrefix = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d030107034200", "hex");

/** A public key ready for use; opaque to callers. */
export type PublicKey = KeyObject;

/** Imports an uncompressed point (65 bytes, 04 ‖ x ‖ y). Undefined unless it is a point of the curve. */
export async function importP256(point: Uint8Array): Promise<PublicKey | undefined> {
  if (point.length !== 65 || point[0] !== 4) return undefined;
  try {
    return createPublicKey({ key: Buffer.concat([spkiPrefix, point]), format: "der", type: "spki" });
  } catch {
    return undefined;
  }
}

/** Whether `signature` (64 bytes, r ‖ s) is the key's ECDSA-SHA256 signature of `data`. */
export async function verifyP256(key: PublicKey, signature: Uint8Array, data: Uint8Array): Promise<boolean> {
  return signature.length === 64 && verify("sha256", data, { key, dsaEncoding: "ieee-p1363" }, signature);
}
