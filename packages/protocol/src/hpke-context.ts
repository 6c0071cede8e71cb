// SPDX-License-Identifier: Apache-2.0
/**
 * HPKE (RFC 9180) in base mode for a stream: many messages in order, and secrets exported from the exchange; and the
 * cipher of an answer that follows from it (RFC 9458, section 4.4). DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-GCM.
 *
 * Runs in Node and in browsers. `hpke.ts` is for one message in Node. Invariant: no nonce is used twice, since a context
 * counts its messages and gives up before the count repeats.
 */

import { concat } from "@caisson/vocabulary/bytes";
import { text } from "@caisson/vocabulary/frame";
import {
  type AeadKey,
  aeadKey,
  aeadOpen,
  aeadSeal,
  agree,
  generateKeyPair,
  hmacSha256,
  type KeyPair,
} from "#primitives";

/** RFC 9180, section 7.3: AES-128-GCM, AES-256-GCM. */
export type Aead = 1 | 2;
export const aes256Gcm: Aead = 2;

const keySize = (aead: Aead): number => (aead === 1 ? 16 : 32);
const nonceSize = 12;
/** By how much what is sealed is longer. */
export const tagSize = 16;
/** Far below what the nonce could count, and exact in a double. */
const mostMessages = 2 ** 48;

const version = text("HPKE-v1");
const kemSuite = concat(text("KEM"), Uint8Array.of(0x00, 0x20));
const hpkeSuite = (aead: Aead) => concat(text("HPKE"), Uint8Array.of(0x00, 0x20, 0x00, 0x01, 0x00, aead));
const none = new Uint8Array();

const extract = (suite: Uint8Array, salt: Uint8Array, label: string, input: Uint8Array) =>
  hmacSha256(salt, concat(version, suite, text(label), input));

/** RFC 5869's expansion, for at most the 32 bytes of one round. */
const expandPlain = async (key: Uint8Array, info: Uint8Array, size: number): Promise<Uint8Array> =>
  (await hmacSha256(key, concat(info, Uint8Array.of(1)))).subarray(0, size);

const expand = (suite: Uint8Array, key: Uint8Array, label: string, info: Uint8Array, size: number) =>
  expandPlain(key, concat(Uint8Array.of(0, size), version, suite, text(label), info), size);

/** A key and a base nonce that counts: base XOR count, big endian. */
class CountingCipher {
  readonly #key: AeadKey;
  readonly #base: Uint8Array;
  #count = 0;
  constructor(key: AeadKey, base: Uint8Array) {
    this.#key = key;
    this.#base = base;
  }

  /** Parts that together are 16 bytes longer than `message`. */
  async seal(message: Uint8Array, aad: Uint8Array = none): Promise<readonly Uint8Array[]> {
    return aeadSeal(this.#key, this.#next(), aad, message);
  }

  /** Throws where it is not the next message, or not under this `aad`. */
  async open(ciphertext: Uint8Array, aad: Uint8Array = none): Promise<Uint8Array> {
    return aeadOpen(this.#key, this.#next(), aad, ciphertext);
  }

  #next(): Uint8Array {
    if (this.#count >= mostMessages) throw new RangeError("too many messages");
    // A copy, which `slice` of a Buffer is not.
    const nonce = Uint8Array.from(this.#base);
    let rest = this.#count++;
    for (let at = nonceSize - 1; rest > 0; at--, rest = Math.floor(rest / 256)) nonce[at]! ^= rest % 256;
    return nonce;
  }
}

export type MessageCipher = Pick<CountingCipher, "seal" | "open">;

/** One direction of an exchange: the sender seals, the recipient opens; both export. */
export class HpkeContext extends CountingCipher {
  readonly #exporter: Uint8Array;
  readonly #aead: Aead;
  constructor(key: AeadKey, base: Uint8Array, exporter: Uint8Array, aead: Aead) {
    super(key, base);
    this.#exporter = exporter;
    this.#aead = aead;
  }

  /** Section 5.3; at most 32 bytes. */
  export(label: string, size: number): Promise<Uint8Array> {
    return expand(hpkeSuite(this.#aead), this.#exporter, "sec", text(label), size);
  }
}

/** Section 4.1, and 5.1 in base mode. */
async function schedule(
  shared: Uint8Array,
  kemContext: Uint8Array,
  info: Uint8Array,
  aead: Aead,
): Promise<HpkeContext> {
  const agreed = await extract(kemSuite, none, "eae_prk", shared);
  const kemSecret = await expand(kemSuite, agreed, "shared_secret", kemContext, 32);
  const suite = hpkeSuite(aead);
  const context = concat(
    Uint8Array.of(0),
    await extract(suite, none, "psk_id_hash", none),
    await extract(suite, none, "info_hash", info),
  );
  const secret = await extract(suite, kemSecret, "secret", none);
  const key = await expand(suite, secret, "key", context, keySize(aead));
  const base = await expand(suite, secret, "base_nonce", context, nonceSize);
  return new HpkeContext(await aeadKey(key), base, await expand(suite, secret, "exp", context, 32), aead);
}

/** Begins an exchange with the owner of `publicKey`, who needs `enc`. `sender` fixes the ephemeral key, for vectors. */
export async function setupSender(
  publicKey: Uint8Array,
  info: Uint8Array,
  aead: Aead = aes256Gcm,
  sender?: KeyPair,
): Promise<{ enc: Uint8Array; context: HpkeContext }> {
  const own = sender ?? (await generateKeyPair());
  const shared = await agree(own, publicKey);
  const enc = own.publicKey;
  return { enc, context: await schedule(shared, concat(enc, publicKey), info, aead) };
}

/** The other side of it. Throws where `enc` is not a usable key. */
export async function setupRecipient(
  own: KeyPair,
  enc: Uint8Array,
  info: Uint8Array,
  aead: Aead = aes256Gcm,
): Promise<HpkeContext> {
  return schedule(await agree(own, enc), concat(enc, own.publicKey), info, aead);
}

/** Bytes of what an answer's keys are made from: the exported secret and the nonce. */
export const answerEntropySize = (aead: Aead): number => Math.max(nonceSize, keySize(aead));

/** RFC 9458, section 4.4, from `secret` = Export(label, `answerEntropySize`). */
export async function answerKeys(
  secret: Uint8Array,
  enc: Uint8Array,
  nonce: Uint8Array,
  aead: Aead = aes256Gcm,
): Promise<{ key: Uint8Array; base: Uint8Array }> {
  const pseudorandom = await hmacSha256(concat(enc, nonce), secret);
  return {
    key: await expandPlain(pseudorandom, text("key"), keySize(aead)),
    base: await expandPlain(pseudorandom, text("nonce"), nonceSize),
  };
}

/** The cipher of an answer: both sides make it from what they share. */
export async function answerCipher(
  secret: Uint8Array,
  enc: Uint8Array,
  nonce: Uint8Array,
  aead: Aead = aes256Gcm,
): Promise<MessageCipher> {
  const { key, base } = await answerKeys(secret, enc, nonce, aead);
  return new CountingCipher(await aeadKey(key), base);
}

export { generateKeyPair, type KeyPair, keyPairOf, random } from "#primitives";
