// SPDX-License-Identifier: Apache-2.0
/** What HPKE rests on, by WebCrypto (in browsers: secure contexts). See `primitives.node.ts`. */

export interface KeyPair {
  privateKey: CryptoKey;
  publicKey: Uint8Array;
}

/** DER up to the 32 key bytes (RFC 8410, section 7). */
const pkcs8 = Uint8Array.fromHex("302e020100300506032b656e04220420");
const bytesOf = async (buffer: Promise<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> =>
  new Uint8Array(await buffer);
const source = (bytes: Uint8Array) => bytes as BufferSource;

async function paired(privateKey: CryptoKey): Promise<KeyPair> {
  const { x } = await crypto.subtle.exportKey("jwk", privateKey);
  return { privateKey, publicKey: Uint8Array.fromBase64(x!, { alphabet: "base64url" }) };
}

export async function generateKeyPair(): Promise<KeyPair> {
  const pair = (await crypto.subtle.generateKey("X25519", true, ["deriveBits"])) as CryptoKeyPair;
  return paired(pair.privateKey);
}

export async function keyPairOf(bytes: Uint8Array): Promise<KeyPair> {
  const encoded = Uint8Array.from([...pkcs8, ...bytes]);
  return paired(await crypto.subtle.importKey("pkcs8", encoded, "X25519", true, ["deriveBits"]));
}

export async function agree({ privateKey }: KeyPair, other: Uint8Array): Promise<Uint8Array> {
  const key = await crypto.subtle.importKey("raw", source(other), "X25519", false, []);
  const shared = await bytesOf(crypto.subtle.deriveBits({ name: "X25519", public: key }, privateKey, 256));
  // Not every browser refuses keys of small order by itself.
  if (shared.every((byte) => byte === 0)) throw new RangeError("the agreement is zero");
  return shared;
}

export async function hmacSha256(key: Uint8Array, message: Uint8Array): Promise<Uint8Array> {
  // WebCrypto refuses an empty key, and HMAC pads with zeros: RFC 2104, section 2.
  const bytes = key.length === 0 ? new Uint8Array(32) : key;
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", source(bytes), algorithm, false, ["sign"]);
  return bytesOf(crypto.subtle.sign("HMAC", imported, source(message)));
}

export type AeadKey = CryptoKey;
export const aeadKey = (bytes: Uint8Array): Promise<AeadKey> =>
  crypto.subtle.importKey("raw", source(bytes), "AES-GCM", false, ["encrypt", "decrypt"]);

const parameters = (nonce: Uint8Array, aad: Uint8Array) => ({
  name: "AES-GCM",
  iv: source(nonce),
  additionalData: source(aad),
});

export const aeadSeal = async (key: AeadKey, nonce: Uint8Array, aad: Uint8Array, message: Uint8Array) => [
  await bytesOf(crypto.subtle.encrypt(parameters(nonce, aad), key, source(message))),
];

export const aeadOpen = (key: AeadKey, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array) =>
  bytesOf(crypto.subtle.decrypt(parameters(nonce, aad), key, source(ciphertext)));

export const random = (size: number): Uint8Array => crypto.getRandomValues(new Uint8Array(size));
