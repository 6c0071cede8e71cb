// SPDX-License-Identifier: Apache-2.0
/**
 * A secret in a file under a passphrase: scrypt (RFC 7914), then AES-256-GCM.
 *
 * Invariants: the cost is fixed, so that a forged file cannot ask for terabytes; what the secret belongs to is bound as
 * additional data.
 */
import { createCipheriv, createDecipheriv, randomBytes, scryptSync } from "node:crypto";

/** 128 MiB and about half a second: OWASP's first recommendation for scrypt (Password Storage Cheat Sheet). */
const cost = { N: 2 ** 17, r: 8, p: 1, maxmem: 256 * 1024 * 1024 };

/** Shorter passphrases are refused by whoever asks for one. */
export const PASSPHRASE_LENGTH = 12;
/** Bytes of each field; the ciphertext is longer than the secret by its tag. */
export const passphraseSizes = { salt: 32, nonce: 12, tag: 16 } as const;

/** Hexadecimal. */
export interface UnderPassphrase {
  salt: string;
  nonce: string;
  ciphertext: string;
}

/** Encrypts a secret that belongs to `about`. */
export function encryptUnder(passphrase: string, secret: Uint8Array, about: Uint8Array): UnderPassphrase {
  const salt = randomBytes(passphraseSizes.salt);
  const nonce = randomBytes(passphraseSizes.nonce);
  const cipher = createCipheriv("aes-256-gcm", scryptSync(passphrase, salt, 32, cost), nonce).setAAD(about);
  const ciphertext = Buffer.concat([cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
  return { salt: salt.toHex(), nonce: nonce.toHex(), ciphertext: ciphertext.toHex() };
}

/** The secret; undefined where the passphrase is another, or anything was changed. Fields have their sizes already. */
export function decryptUnder(
  passphrase: string,
  { salt, nonce, ciphertext }: UnderPassphrase,
  about: Uint8Array,
): Uint8Array | undefined {
  const key = scryptSync(passphrase, Uint8Array.fromHex(salt), 32, cost);
  const authTagLength = passphraseSizes.tag;
  const decipher = createDecipheriv("aes-256-gcm", key, Uint8Array.fromHex(nonce), { authTagLength });
  const sealed = Uint8Array.fromHex(ciphertext);
  const end = sealed.length - authTagLength;
  decipher.setAAD(about).setAuthTag(sealed.subarray(end));
  try {
    return Buffer.concat([decipher.update(sealed.subarray(0, end)), decipher.final()]);
  } catch {
    return undefined;
  }
}
