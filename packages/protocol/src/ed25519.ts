// SPDX-License-Identifier: Apache-2.0
/** Ed25519 (RFC 8032) with raw keys: the KMS's identity. Keys cross the wire as their 32 bytes, never as DER. */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from "node:crypto";

/** DER up to the 32 key bytes (RFC 8410, sections 4 and 7). */
const spki = Uint8Array.fromHex("302a300506032b6570032100");
const pkcs8 = Uint8Array.fromHex("302e020100300506032b657004220420");

/** A signing key and its raw public half. */
export interface IdentityKey {
  readonly publicKey: Uint8Array;
  /** 64 bytes. */
  sign(message: Uint8Array): Uint8Array;
}

/** The key pair of a 32-byte seed. */
export function identityKey(seed: Uint8Array): IdentityKey {
  const key = createPrivateKey({ key: Buffer.concat([pkcs8, seed]), format: "der", type: "pkcs8" });
  const der = createPublicKey(key).export({ format: "der", type: "spki" });
  return {
    publicKey: new Uint8Array(der.subarray(spki.length)),
    sign: (message) => new Uint8Array(sign(null, message, key)),
  };
}

/** Whether `signature` is `publicKey`'s over `message`; false for keys and signatures of a wrong size. */
export function verifySignature(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  let key: KeyObject;
  try {
    key = createPublicKey({ key: Buffer.concat([spki, publicKey]), format: "der", type: "spki" });
  } catch {
    return false;
  }
  return verify(null, message, key, signature);
}
