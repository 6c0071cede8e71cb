// SPDX-License-Identifier: Apache-2.0
/** The primitives of verification, by WebCrypto (in browsers: secure contexts). See `crypto.node.ts`. */

const names = { sha256: "SHA-256", sha384: "SHA-384", sha512: "SHA-512" };
const p256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const p384 = { name: "ECDSA", namedCurve: "P-384", hash: "SHA-384" };
const rsa = {
  pss: { name: "RSA-PSS", hash: "SHA-384", saltLength: 48 },
  pkcs1: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
};

export async function digest(algorithm: keyof typeof names, data: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest(names[algorithm], data as BufferSource));
}

/** A public key ready for use; opaque to callers. */
export type PublicKey = CryptoKey;

/** Imports an uncompressed point (65 bytes, 04 ‖ x ‖ y). Undefined unless it is a point of the curve. */
export async function importP256(point: Uint8Array): Promise<PublicKey | undefined> {
  return point.length === 65 && point[0] === 4 ? importKey("raw", point, p256) : undefined;
}

/** Imports an uncompressed point (97 bytes, 04 ‖ x ‖ y). Undefined unless it is a point of the curve. */
export async function importP384(point: Uint8Array): Promise<PublicKey | undefined> {
  return point.length === 97 && point[0] === 4 ? importKey("raw", point, p384) : undefined;
}

/** Imports an RSA key (DER of SubjectPublicKeyInfo) for one padding. Undefined unless it is one. */
export async function importRsa(spki: Uint8Array, padding: "pss" | "pkcs1"): Promise<PublicKey | undefined> {
  return importKey("spki", spki, rsa[padding]);
}

async function importKey(
  format: "raw" | "spki",
  bytes: Uint8Array,
  algorithm: EcKeyImportParams | RsaHashedImportParams,
): Promise<PublicKey | undefined> {
  try {
    return await crypto.subtle.importKey(format, bytes as BufferSource, algorithm, false, ["verify"]);
  } catch {
    return undefined;
  }
}

const check = (
  algorithm: EcdsaParams | RsaPssParams | Algorithm,
  key: PublicKey,
  signature: Uint8Array,
  data: Uint8Array,
): Promise<boolean> => crypto.subtle.verify(algorithm, key, signature as BufferSource, data as BufferSource);

/** Whether `signature` (96 bytes, r ‖ s) is the key's ECDSA-SHA384 signature of `data`. */
export async function verifyP384(key: PublicKey, signature: Uint8Array, data: Uint8Array): Promise<boolean> {
  return signature.length === 96 && (await check(p384, key, signature, data));
}

/** Whether it is the key's RSASSA-PSS signature: SHA-384, MGF1 with SHA-384, 48 bytes of salt. */
export async function verifyPss(key: PublicKey, signature: Uint8Array, data: Uint8Array): Promise<boolean> {
  return check(rsa.pss, key, signature, data);
}

/** Whether it is the key's RSASSA-PKCS1-v1_5 signature with SHA-256. */
export async function verifyPkcs1(key: PublicKey, signature: Uint8Array, data: Uint8Array): Promise<boolean> {
  return check(rsa.pkcs1, key, signature, data);
}

/** Whether `signature` (64 bytes, r ‖ s) is the key's ECDSA-SHA256 signature of `data`. */
export async function verifyP256(key: PublicKey, signature: Uint8Array, data: Uint8Array): Promise<boolean> {
  return signature.length === 64 && (await check(p256, key, signature, data));
}
