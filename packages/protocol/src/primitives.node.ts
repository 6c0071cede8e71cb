// SPDX-License-Identifier: Apache-2.0
/**
 * What HPKE for streams rests on, by OpenSSL as `hpke.ts` calls it. `primitives.web.ts` has the same functions for
 * browsers; callers await both.
 */
import { createHmac, randomBytes } from "node:crypto";
import {
  aesGcmOpen,
  aesGcmSeal,
  generateSealingKey,
  type SealingKey,
  sealingKey,
  agree as x25519,
} from "./hpke.ts";

/** What is there at once here, and a promise in a browser. */
type Awaitable<T> = T | Promise<T>;
type Aead<Result> = (
  key: AeadKey,
  nonce: Uint8Array,
  aad: Uint8Array,
  message: Uint8Array,
) => Awaitable<Result>;

/** An X25519 private key, and its public key (32 bytes). */
export type KeyPair = SealingKey;

export const generateKeyPair: () => Awaitable<KeyPair> = generateSealingKey;

/** The pair of a raw private key (32 bytes). */
export const keyPairOf: (bytes: Uint8Array) => Awaitable<KeyPair> = sealingKey;

/** Throws where the agreement is all zero (RFC 9180, section 7.1.4), or `other` does not have 32 bytes. */
export const agree: (own: KeyPair, other: Uint8Array) => Awaitable<Uint8Array> = x25519;

export const hmacSha256 = (key: Uint8Array, message: Uint8Array): Awaitable<Uint8Array> =>
  createHmac("sha256", key).update(message).digest();

/** An AES-GCM key of 16 or 32 bytes, ready for use. */
export type AeadKey = Uint8Array;
export const aeadKey = (bytes: Uint8Array): Awaitable<AeadKey> => bytes;

/** What is sent, in parts that nobody has copied together yet. */
export const aeadSeal: Aead<readonly Uint8Array<ArrayBuffer>[]> = aesGcmSeal;

/** Throws where the ciphertext is not authentic. */
export const aeadOpen: Aead<Uint8Array<ArrayBuffer>> = aesGcmOpen;

export const random = (size: number): Uint8Array => new Uint8Array(randomBytes(size));
