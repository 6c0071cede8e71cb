/**
 * Sealing to a key: HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM.
 *
 * Invariant: one context seals one message, so no nonce is ever used twice; what the message belongs to goes into
 * `info` and `aad`, and opening under any other fails.
 *
 * The construction is the library's. HMAC and AES-GCM under it are OpenSSL called directly: over WebCrypto each of
 * some ten steps of a few microseconds is a round trip through the thread pool, which made up half of a seal.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync } from "node:crypto";
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";

type Input = ArrayBufferLike | ArrayBufferView;

const view = (input: Input) =>
  ArrayBuffer.isView(input)
    ? new Uint8Array(input.buffer, input.byteOffset, input.byteLength)
    : new Uint8Array(input);

/** A copy that fills its buffer, as the library expects. */
const whole = (bytes: Uint8Array) => new Uint8Array(bytes).buffer;

/** HKDF-SHA256 (RFC 5869), the two steps of it that the key schedule takes. */
class OpensslHkdf extends HkdfSha256 {
  override async extract(salt: Input, ikm: Input): Promise<ArrayBuffer> {
    // An HMAC key is padded with zeros, so an empty salt is RFC 5869's of 32 zero bytes.
    return whole(createHmac("sha256", view(salt)).update(view(ikm)).digest());
  }
  override async extractAndExpand(salt: Input, ikm: Input, info: Input, size: number): Promise<ArrayBuffer> {
    return hkdfSync("sha256", view(ikm), view(salt), view(info), size);
  }
}

class OpensslAesGcm extends Aes256Gcm {
  override createEncryptionContext(key: Input) {
    return {
      seal: async (iv: Input, message: Input, aad: Input): Promise<ArrayBuffer> => {
        const cipher = createCipheriv("aes-256-gcm", view(key), view(iv)).setAAD(view(aad));
        return whole(Buffer.concat([cipher.update(view(message)), cipher.final(), cipher.getAuthTag()]));
      },
      open: async (iv: Input, sealed: Input, aad: Input): Promise<ArrayBuffer> => {
        const bytes = view(sealed);
        const end = Math.max(0, bytes.length - this.tagSize);
        const options = { authTagLength: this.tagSize };
        const decipher = createDecipheriv("aes-256-gcm", view(key), view(iv), options).setAAD(view(aad));
        decipher.setAuthTag(bytes.subarray(end));
        return whole(Buffer.concat([decipher.update(bytes.subarray(0, end)), decipher.final()]));
      },
    };
  }
}

const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new OpensslHkdf(),
  aead: new OpensslAesGcm(),
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
