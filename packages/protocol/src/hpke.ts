// SPDX-License-Identifier: Apache-2.0
/**
 * Sealing to a key: HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM.
 *
 * Invariant: one context seals one message, so no nonce is ever used twice; what the message belongs to goes into
 * `info` and `aad`, and opening under any other fails.
 *
 * Every step is OpenSSL called directly and synchronously: over WebCrypto each of some ten steps of a few microseconds
 * is a round trip through the thread pool, which made up half of a seal.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";
import { hmac } from "@caisson/vocabulary/hash";

/** Bytes of an X25519 public key and of `enc`. */
export const HPKE_KEY_SIZE = 32;
const TAG_SIZE = 16;

/** `enc` is the sender's ephemeral public key (32 bytes); `ciphertext` is 16 bytes longer than the message. */
export interface Sealed {
  enc: Uint8Array;
  ciphertext: Uint8Array;
}

/** What a message belongs to. */
export interface SealBinding {
  info: Uint8Array;
  aad: Uint8Array;
}

/** A key pair that lives for one exchange; `publicKey` is raw (32 bytes). */
export interface SealingKey {
  publicKey: Uint8Array;
  privateKey: KeyObject;
}

export function generateSealingKey(): SealingKey {
  const { publicKey, privateKey } = generateKeyPairSync("x25519", {
    publicKeyEncoding: { format: "raw-public" },
  });
  return { publicKey: new Uint8Array(publicKey), privateKey };
}

/** The key pair of a raw private key (32 bytes): for keys that are derived, and for test vectors. */
export function sealingKey(secret: Uint8Array): SealingKey {
  const privateKey = createPrivateKey({
    key: Buffer.concat([pkcs8, secret]),
    format: "der",
    type: "pkcs8",
  });
  return { publicKey: rawPublicKey(createPublicKey(privateKey)), privateKey };
}

/**
 * Seals `message` to a raw public key. Throws where `publicKey` is not a usable X25519 key (wrong length, or of small
 * order: RFC 9180 section 7.1.4). `sender` fixes the ephemeral key, for test vectors only.
 */
export function seal(
  publicKey: Uint8Array,
  message: Uint8Array,
  { info, aad }: SealBinding,
  sender = generateSealingKey(),
): Sealed {
  const { key, nonce } = schedule(sharedSecret(sender, publicKey, sender.publicKey, publicKey), info);
  return {
    enc: sender.publicKey,
    ciphertext: new Uint8Array(Buffer.concat(aesGcmSeal(key, nonce, aad, message))),
  };
}

/** The message; throws where key, info, aad, `enc` or ciphertext is not what was sealed. */
export function open(own: SealingKey, { enc, ciphertext }: Sealed, { info, aad }: SealBinding): Uint8Array {
  const { key, nonce } = schedule(sharedSecret(own, enc, enc, own.publicKey), info);
  return new Uint8Array(aesGcmOpen(key, nonce, aad, ciphertext));
}

const cipherName = (key: Uint8Array) => (key.length === 16 ? "aes-128-gcm" : "aes-256-gcm");

/** AES-GCM with a key of 16 or 32 bytes: as long as the message, and 16 bytes of tag. */
export function aesGcmSeal(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  message: Uint8Array,
): [sealed: Buffer<ArrayBuffer>, tag: Buffer<ArrayBuffer>] {
  const cipher = createCipheriv(cipherName(key), key, nonce).setAAD(aad);
  const sealed = cipher.update(message);
  // A stream of bits ends where it is: this gives nothing, and makes the tag.
  cipher.final();
  return [sealed, cipher.getAuthTag()];
}

/** Throws where the ciphertext is not authentic, and RangeError for one that is shorter than its tag. */
export function aesGcmOpen(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  ciphertext: Uint8Array,
): Buffer<ArrayBuffer> {
  if (ciphertext.length < TAG_SIZE) throw new RangeError("a ciphertext is not shorter than its tag");
  const end = ciphertext.length - TAG_SIZE;
  const decipher = createDecipheriv(cipherName(key), key, nonce, { authTagLength: TAG_SIZE }).setAAD(aad);
  decipher.setAuthTag(ciphertext.subarray(end));
  const message = decipher.update(ciphertext.subarray(0, end));
  decipher.final();
  return message;
}

/** DER up to the 32 key bytes (RFC 8410, sections 4 and 7). */
const spki = Uint8Array.fromHex("302a300506032b656e032100");
const pkcs8 = Uint8Array.fromHex("302e020100300506032b656e04220420");

const rawPublicKey = (key: KeyObject): Uint8Array =>
  new Uint8Array(key.export({ format: "der", type: "spki" }).subarray(spki.length));

const ascii = (text: string): Uint8Array => Buffer.from(text, "latin1");
const version = ascii("HPKE-v1");
/** RFC 9180, section 7: KEM 0x0020, KDF 0x0001, AEAD 0x0002. */
const kemSuite = Buffer.concat([ascii("KEM"), Uint8Array.of(0x00, 0x20)]);
const hpkeSuite = Buffer.concat([ascii("HPKE"), Uint8Array.of(0x00, 0x20, 0x00, 0x01, 0x00, 0x02)]);
const none = new Uint8Array();

/** Section 4, LabeledExtract. An HMAC key is padded with zeros, so an empty salt is RFC 5869's of 32 zero bytes. */
const extract = (suite: Uint8Array, salt: Uint8Array, label: string, input: Uint8Array): Uint8Array =>
  hmac(salt, Buffer.concat([version, suite, ascii(label), input]));

/** Section 4, LabeledExpand, for at most the 32 bytes of one round. */
const expand = (
  suite: Uint8Array,
  key: Uint8Array,
  label: string,
  info: Uint8Array,
  size: number,
): Uint8Array =>
  hmac(
    key,
    Buffer.concat([Uint8Array.of(0, size), version, suite, ascii(label), info, Uint8Array.of(1)]),
  ).subarray(0, size);

/** X25519 (RFC 7748). Throws RangeError for a key of another size, and where what is shared is all zero. */
export function agree(own: SealingKey, other: Uint8Array): Buffer {
  if (other.length !== HPKE_KEY_SIZE) throw new RangeError(`an X25519 key has ${HPKE_KEY_SIZE} bytes`);
  const publicKey = createPublicKey({ key: other, format: "raw-public", asymmetricKeyType: "x25519" });
  return diffieHellman({ privateKey: own.privateKey, publicKey });
}

/** Section 4.1, Encap and Decap: the secret that `own` shares with `other`. Throws where that is all zero. */
function sharedSecret(
  own: SealingKey,
  other: Uint8Array,
  enc: Uint8Array,
  recipient: Uint8Array,
): Uint8Array {
  const secret = extract(kemSuite, none, "eae_prk", agree(own, other));
  return expand(kemSuite, secret, "shared_secret", Buffer.concat([enc, recipient]), 32);
}

/** Of the empty id of a pre-shared key; made when it is first used, as PID 1 loads this long before. */
let noPskHash: Uint8Array | undefined;

/** Section 5.1, KeySchedule in base mode, without a pre-shared key; the nonce of the first and only message. */
function schedule(shared: Uint8Array, info: Uint8Array): { key: Uint8Array; nonce: Uint8Array } {
  noPskHash ??= extract(hpkeSuite, none, "psk_id_hash", none);
  const context = Buffer.concat([Uint8Array.of(0), noPskHash, extract(hpkeSuite, none, "info_hash", info)]);
  const secret = extract(hpkeSuite, shared, "secret", none);
  return {
    key: expand(hpkeSuite, secret, "key", context, 32),
    nonce: expand(hpkeSuite, secret, "base_nonce", context, 12),
  };
}
