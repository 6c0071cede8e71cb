/**
 * Sealing to a key: HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM.
 *
 * Invariant: one context seals one message, so no nonce is ever used twice; what the message belongs to goes into
 * `info` and `aad`, and opening under any other fails.
 */
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";

const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Aes256Gcm(),
});

/** Bytes of an X25519 public key and of `enc`. */
export const HPKE_KEY_SIZE = 32;

/** `enc` is the sender's ephemeral public key (32 bytes); `ciphertext` is 16 bytes longer than the message. */
export interface Sealed {
  enc: Uint8Array;
  ciphertext: Uint8Array;
}

/** A key pair that lives for one exchange; `publicKey` is raw (32 bytes). */
export async function generateSealingKey(): Promise<{ publicKey: Uint8Array; pair: CryptoKeyPair }> {
  const pair = await suite.kem.generateKeyPair();
  return { publicKey: new Uint8Array(await suite.kem.serializePublicKey(pair.publicKey)), pair };
}

/**
 * Seals `message` to a raw public key. Rejects where `publicKey` is no usable X25519 key (wrong length, or of small
 * order: RFC 9180 section 7.1.4). `sender` fixes the ephemeral key, for test vectors only.
 */
export async function seal(
  publicKey: Uint8Array,
  message: Uint8Array,
  context: { info: Uint8Array; aad: Uint8Array },
  sender?: CryptoKeyPair,
): Promise<Sealed> {
  const recipientPublicKey = await suite.kem.deserializePublicKey(publicKey);
  const params = { recipientPublicKey, info: context.info, ...(sender && { ekm: sender }) };
  const { enc, ct } = await suite.seal(params, message, context.aad);
  return { enc: new Uint8Array(enc), ciphertext: new Uint8Array(ct) };
}

/** The message; rejects where key, info, aad, `enc` or ciphertext is not what was sealed. */
export async function open(
  pair: CryptoKeyPair,
  sealed: Sealed,
  context: { info: Uint8Array; aad: Uint8Array },
): Promise<Uint8Array> {
  const params = { recipientKey: pair, enc: sealed.enc, info: context.info };
  return new Uint8Array(await suite.open(params, sealed.ciphertext, context.aad));
}
