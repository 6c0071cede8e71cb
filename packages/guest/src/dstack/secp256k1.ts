// SPDX-License-Identifier: Apache-2.0
/**
 * ECDSA over secp256k1 with recoverable signatures (SEC 1, 4.1; RFC 6979 for the nonce), as dstack's key chains have
 * them: 65 bytes r ‖ s ‖ v, s in its lower half. Node's own signatures have no recovery id and no digests made
 * elsewhere. Points are multiplied by OpenSSL; what is left to us is arithmetic modulo the order and the field's prime.
 */
import { createECDH, createHash, createHmac, ECDH } from "node:crypto";

const curve = "secp256k1";
/** The group's order, and the prime of the field (SEC 2, 2.4.1). */
const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const prime = 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2fn;

interface Point {
  x: bigint;
  y: bigint;
}

const toNumber = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
const toBytes = (value: bigint): Buffer => Buffer.from(value.toString(16).padStart(64, "0"), "hex");
const modulo = (value: bigint, by: bigint): bigint => ((value % by) + by) % by;

function power(base: bigint, exponent: bigint, by: bigint): bigint {
  let result = 1n;
  for (let [square, rest] = [modulo(base, by), exponent]; rest > 0n; rest >>= 1n) {
    if ((rest & 1n) === 1n) result = (result * square) % by;
    square = (square * square) % by;
  }
  return result;
}

/** Of a number that is not 0 modulo a prime (Fermat). */
const inverse = (value: bigint, by: bigint): bigint => power(value, by - 2n, by);

const pointOf = (uncompressed: Uint8Array): Point => ({
  x: toNumber(uncompressed.subarray(1, 33)),
  y: toNumber(uncompressed.subarray(33, 65)),
});
const encoded = ({ x, y }: Point): Buffer => Buffer.concat([Buffer.of(4), toBytes(x), toBytes(y)]);

/** Two different points that are not each other's negative. */
function add(a: Point, b: Point): Point {
  const slope = modulo((b.y - a.y) * inverse(b.x - a.x, prime), prime);
  const x = modulo(slope * slope - a.x - b.x, prime);
  return { x, y: modulo(slope * (a.x - x) - a.y, prime) };
}

/** `scalar` times the generator; 0 < scalar < order. */
function timesGenerator(scalar: bigint): Point {
  const ecdh = createECDH(curve);
  ecdh.setPrivateKey(toBytes(scalar));
  return pointOf(ecdh.getPublicKey());
}

/** The x coordinate of `scalar` times a point, which is what key agreement gives. */
function xOfTimes(point: Point, scalar: bigint): bigint {
  const ecdh = createECDH(curve);
  ecdh.setPrivateKey(toBytes(scalar));
  return toNumber(ecdh.computeSecret(encoded(point)));
}

/** `scalar` times a point: of the two with that x, the one to which adding the point gives `scalar + 1` times it. */
function times(point: Point, scalar: bigint): Point {
  if (scalar === 1n) return point;
  const x = xOfTimes(point, scalar);
  const root = power(x * x * x + 7n, (prime + 1n) / 4n, prime);
  const candidate = { x, y: root };
  if (x === point.x || scalar + 1n === order) return { x, y: prime - point.y };
  return add(candidate, point).x === xOfTimes(point, scalar + 1n) ? candidate : { x, y: prime - root };
}

/** The public key of 32 bytes: 33 bytes, compressed. Throws Error when they are not a private key. */
export function publicKeyOf(secret: Uint8Array): Buffer {
  const ecdh = createECDH(curve);
  ecdh.setPrivateKey(secret);
  return ecdh.getPublicKey(null, "compressed");
}

export function keccak256(...parts: readonly (Uint8Array | string)[]): Buffer {
  const hash = createHash("keccak-256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** Nonces for a key and a digest, one after the other (RFC 6979, 3.2, with SHA-256). */
function* nonces(secret: Uint8Array, digest: Uint8Array): Generator<bigint, never, undefined> {
  const hmac = (key: Uint8Array, ...parts: readonly Uint8Array[]): Buffer => {
    const mac = createHmac("sha256", key);
    for (const part of parts) mac.update(part);
    return mac.digest();
  };
  const seed = Buffer.concat([secret, toBytes(modulo(toNumber(digest), order))]);
  let value: Buffer = Buffer.alloc(32, 1);
  let key = hmac(Buffer.alloc(32), value, Buffer.of(0), seed);
  value = hmac(key, value);
  key = hmac(key, value, Buffer.of(1), seed);
  value = hmac(key, value);
  for (;;) {
    value = hmac(key, value);
    yield toNumber(value);
    key = hmac(key, value, Buffer.of(0));
    value = hmac(key, value);
  }
}

/** 65 bytes over a digest of 32; `secret` is a private key of 32 bytes. */
export function signRecoverable(secret: Uint8Array, digest: Uint8Array): Buffer {
  const [d, z] = [toNumber(secret), toNumber(digest)];
  const candidates = nonces(secret, digest);
  for (;;) {
    const k = candidates.next().value;
    if (k === 0n || k >= order) continue;
    const { x, y } = timesGenerator(k);
    const r = modulo(x, order);
    const s = modulo(inverse(k, order) * (z + r * d), order);
    if (r === 0n || s === 0n) continue;
    const high = s > order / 2n;
    const odd = (y & 1n) === 1n;
    const recovery = (x >= order ? 2 : 0) | (odd !== high ? 1 : 0);
    return Buffer.concat([toBytes(r), toBytes(high ? order - s : s), Buffer.of(recovery)]);
  }
}

/** Whether 64 bytes, or 65 with a recovery id, are a signature over a digest of 32; the key is compressed or not. */
export function verifySignature(publicKey: Uint8Array, digest: Uint8Array, signature: Uint8Array): boolean {
  if (digest.length !== 32 || (signature.length !== 64 && signature.length !== 65)) return false;
  const [r, s] = [toNumber(signature.subarray(0, 32)), toNumber(signature.subarray(32, 64))];
  if (r === 0n || r >= order || s === 0n || s >= order) return false;
  let key: Point;
  try {
    key = pointOf(ECDH.convertKey(publicKey, curve, undefined, undefined, "uncompressed") as Buffer);
  } catch {
    return false;
  }
  const w = inverse(s, order);
  const [u1, u2] = [modulo(toNumber(digest) * w, order), modulo(r * w, order)];
  const b = times(key, u2);
  if (u1 === 0n) return modulo(b.x, order) === r;
  const a = timesGenerator(u1);
  // Equal or opposite points come up once in 2^128 signatures by chance, and by nobody's doing.
  return a.x !== b.x && modulo(add(a, b).x, order) === r;
}
