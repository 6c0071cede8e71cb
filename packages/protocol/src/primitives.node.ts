// SPDX-License-Identifier: Apache-2.0
/**
 * What HPKE rests on, by OpenSSL called directly: over WebCrypto each step of a few microseconds is a round trip through
 * the thread pool. `primitives.web.ts` has the same functions for browsers; callers await both.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
} from "node:crypto";

/** What is there at once here, and a promise in a browser. */
type Awaitable<T> = T | Promise<T>;

/** An X25519 private key, and its public key (32 bytes). */
export interface KeyPair {
  secret: KeyObject;
  publicKey: Uint8Array;
}

/** DER up to the 32 key bytes (RFC 8410, sections 4 and 7). */
const spki = Uint8Array.fromHex("302a300506032b656e032100");
const pkcs8 = Uint8Array.fromHex("302e020100300506032b656e04220420");
const tagSize = 16;

const raw = (key: KeyObject): Uint8Array =>
  new Uint8Array(key.export({ format: "der", type: "spki" }).subarray(spki.length));

export function generateKeyPair(): Awaitable<KeyPair> {
  const { publicKey, privateKey } = generateKeyPairSync("x25519");
  return { secret: privateKey, publicKey: raw(publicKey) };
}

/** The pair of a raw private key (32 bytes). */
export function keyPairOf(bytes: Uint8Array): Awaitable<KeyPair> {
  const secret = createPrivateKey({ key: Buffer.concat([pkcs8, bytes]), format: "der", type: "pkcs8" });
  return { secret, publicKey: raw(createPublicKey(secret)) };
}

/** Throws where the agreement is all zero (RFC 9180, section 7.1.4), or `other` does not have 32 bytes. */
export function agree({ secret }: KeyPair, other: Uint8Array): Awaitable<Uint8Array> {
  if (other.length !== 32) throw new RangeError("an X25519 key has 32 bytes");
  const publicKey = createPublicKey({ key: Buffer.concat([spki, other]), format: "der", type: "spki" });
  return diffieHellman({ privateKey: secret, publicKey });
}

export const hmacSha256 = (key: Uint8Array, message: Uint8Array): Awaitable<Uint8Array> =>
  createHmac("sha256", key).update(message).digest();

/** An AES-GCM key of 16 or 32 bytes, ready for use. */
export type AeadKey = Uint8Array;
export const aeadKey = (bytes: Uint8Array): Awaitable<AeadKey> => bytes;

const cipherName = (key: Uint8Array) => (key.length === 16 ? "aes-128-gcm" : "aes-256-gcm");

export function aeadSeal(
  key: AeadKey,
  nonce: Uint8Array,
  aad: Uint8Array,
  message: Uint8Array,
): Awaitable<Uint8Array<ArrayBuffer>> {
  const cipher = createCipheriv(cipherName(key), key, nonce).setAAD(aad);
  return Buffer.concat([cipher.update(message), cipher.final(), cipher.getAuthTag()]);
}

/** Throws where the ciphertext is not authentic. */
export function aeadOpen(
  key: AeadKey,
  nonce: Uint8Array,
  aad: Uint8Array,
  ciphertext: Uint8Array,
): Awaitable<Uint8Array<ArrayBuffer>> {
  if (ciphertext.length < tagSize) throw new RangeError("a ciphertext is not shorter than its tag");
  const end = ciphertext.length - tagSize;
  const decipher = createDecipheriv(cipherName(key), key, nonce, { authTagLength: tagSize }).setAAD(aad);
  decipher.setAuthTag(ciphertext.subarray(end));
  return Buffer.concat([decipher.update(ciphertext.subarray(0, end)), decipher.final()]);
}

export const random = (size: number): Uint8Array => new Uint8Array(randomBytes(size));
