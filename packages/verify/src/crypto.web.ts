// SPDX-License-Identifier: Apache-2.0
/** The two primitives of verification, by WebCrypto (in browsers: secure contexts). See `crypto.node.ts`. */

const names = { sha256: "SHA-256", sha512: "SHA-512" };
const p256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

export async function digest(algorithm: keyof typeof names, data: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest(names[algorithm], data as BufferSource));
}

/** A public key ready for use; opaque to callers. */
export type PublicKey = CryptoKey;

/** Imports an uncompressed point (65 bytes, 04 ‖ x ‖ y). Undefined unless it is a point of the curve. */
export async function importP256(point: Uint8Array): Promise<PublicKey | undefined> {
  if (point.length !== 65 || point[0] !== 4) return undefined;
  try {
    return await crypto.subtle.importKey("raw", point as BufferSource, p256, false, ["verify"]);
  } catch {
    return undefined;
  }
}

/** Whether `signature` (64 bytes, r ‖ s) is the key's ECDSA-SHA256 signature of `data`. */
export async function verifyP256(key: PublicKey, signature: Uint8Array, data: Uint8Array): Promise<boolean> {
  return (
    signature.length === 64 &&
    (await crypto.subtle.verify(p256, key, signature as BufferSource, data as BufferSource))
  );
}
