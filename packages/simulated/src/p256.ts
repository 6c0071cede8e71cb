// SPDX-License-Identifier: Apache-2.0
/**
 * Deterministic ECDSA over P-256 for test keys (RFC 6979), so that a test hierarchy is the same bytes every time.
 * OpenSSL multiplies points; its own signatures are randomised. Not constant-time: never for keys that protect anything.
 */
import { createECDH, createHash, createHmac, hkdfSync } from "node:crypto";

/** Order of the group (FIPS 186-5, section D.1.2.3). */
const n = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

const toNumber = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
const toBytes = (value: bigint): Buffer => Buffer.from(value.toString(16).padStart(64, "0"), "hex");

/** value · G as an uncompressed point of 65 bytes. */
function multiplyBase(value: bigint): Buffer {
  const ecdh = createECDH("prime256v1");
  ecdh.setPrivateKey(toBytes(value));
  return ecdh.getPublicKey();
}

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  for (let b = base % n, e = exponent; e > 0n; e >>= 1n, b = (b * b) % n) {
    if (e & 1n) result = (result * b) % n;
  }
  return result;
}

/** A test key: `publicKey` is an uncompressed point of 65 bytes. */
export class TestKey {
  readonly #secret: bigint;
  readonly publicKey: Uint8Array;

  constructor(secret: bigint) {
    this.#secret = secret;
    this.publicKey = new Uint8Array(multiplyBase(secret));
  }

  /** The key that a seed and a label name. */
  static derive(seed: string, label: string): TestKey {
    const material = hkdfSync("sha256", seed, "caisson test pki", label, 48);
    return new TestKey((toNumber(new Uint8Array(material)) % (n - 1n)) + 1n);
  }

  /** ECDSA-SHA256 of `data`: r ‖ s, 64 bytes. */
  sign(data: Uint8Array): Uint8Array {
    const hash = createHash("sha256").update(data).digest();
    const z = toNumber(hash) % n;
    const secret = toBytes(this.#secret);
    // RFC 6979, section 3.2; hash and order have the same length, so that bits2octets is a reduction.
    let v: Buffer = Buffer.alloc(32, 1);
    let key: Buffer = Buffer.alloc(32);
    const hmac = (...parts: Uint8Array[]) => createHmac("sha256", key).update(Buffer.concat(parts)).digest();
    for (const step of [0, 1]) {
      key = hmac(v, Uint8Array.of(step), secret, toBytes(z));
      v = hmac(v);
    }
    for (;;) {
      v = hmac(v);
      const k = toNumber(v);
      if (k > 0n && k < n) {
        const r = toNumber(multiplyBase(k).subarray(1, 33)) % n;
        const s = (power(k, n - 2n) * (z + r * this.#secret)) % n;
        if (r !== 0n && s !== 0n) return new Uint8Array(Buffer.concat([toBytes(r), toBytes(s)]));
      }
      key = hmac(v, Uint8Array.of(0));
      v = hmac(v);
    }
  }
}
