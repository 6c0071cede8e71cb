// SPDX-License-Identifier: Apache-2.0
/**
 * The primitives of verification, by OpenSSL: hashes, ECDSA over P-256 with SHA-256 (Intel) and over P-384 with SHA-384
 * (AMD), RSA (AMD's certificates, virtual TPMs).
 *
 * Synchronous OpenSSL behind the same asynchronous shape as `crypto.web.ts`: WebCrypto's thread-pool round trips
 * make one P-256 check cost about three times as much here (bench/verify.ts prints both).
 */
import { constants, createPublicKey, type KeyObject, verify } from "node:crypto";
import { hash } from "@caisson/vocabulary/hash";

export async function digest(
  algorithm: "sha256" | "sha384" | "sha512",
  data: Uint8Array,
): Promise<Uint8Array> {
  return hash(algorithm, data);
}

/** DER of SubjectPublicKeyInfo (RFC 5480) up to the uncompressed point, of 65 and 97 bytes. */
const p256Prefix = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d030107034200", "hex");
const p384Prefix = Buffer.from("3076301006072a8648ce3d020106052b81040022036200", "hex");

/** A public key ready for use; opaque to callers. */
export type PublicKey = KeyObject;

/** Imports an uncompressed point (65 bytes, 04 ‖ x ‖ y). Undefined unless it is a point of the curve. */
export async function importP256(point: Uint8Array): Promise<PublicKey | undefined> {
  return point.length === 65 && point[0] === 4 ? importSpki(Buffer.concat([p256Prefix, point])) : undefined;
}

/** Imports an uncompressed point (97 bytes, 04 ‖ x ‖ y). Undefined unless it is a point of the curve. */
export async function importP384(point: Uint8Array): Promise<PublicKey | undefined> {
  return point.length === 97 && point[0] === 4 ? importSpki(Buffer.concat([p384Prefix, point])) : undefined;
}

/** Imports an RSA key (DER of SubjectPublicKeyInfo) for one padding. Undefined unless it is one. */
export async function importRsa(spki: Uint8Array, _padding: "pss" | "pkcs1"): Promise<PublicKey | undefined> {
  const key = importSpki(spki);
  return key?.asymmetricKeyType === "rsa" ? key : undefined;
}

function importSpki(spki: Uint8Array): PublicKey | undefined {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" });
  } catch {
    return undefined;
  }
}

/** Whether `signature` (96 bytes, r ‖ s) is the key's ECDSA-SHA384 signature of `data`. */
export async function verifyP384(key: PublicKey, signature: Uint8Array, data: Uint8Array): Promise<boolean> {
  return signature.length === 96 && verify("sha384", data, { key, dsaEncoding: "ieee-p1363" }, signature);
}

/** Whether it is the key's RSASSA-PSS signature: SHA-384, MGF1 with SHA-384, 48 bytes of salt. */
export async function verifyPss(key: PublicKey, signature: Uint8Array, data: Uint8Array): Promise<boolean> {
  return verify("sha384", data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 }, signature);
}

/** Whether it is the key's RSASSA-PKCS1-v1_5 signature with SHA-256. */
export async function verifyPkcs1(key: PublicKey, signature: Uint8Array, data: Uint8Array): Promise<boolean> {
  return verify("sha256", data, { key, padding: constants.RSA_PKCS1_PADDING }, signature);
}

/** Whether `signature` (64 bytes, r ‖ s) is the key's ECDSA-SHA256 signature of `data`. */
export async function verifyP256(key: PublicKey, signature: Uint8Array, data: Uint8Array): Promise<boolean> {
  return signature.length === 64 && verify("sha256", data, { key, dsaEncoding: "ieee-p1363" }, signature);
}
