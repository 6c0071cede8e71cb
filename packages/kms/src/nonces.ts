// SPDX-License-Identifier: Apache-2.0
/**
 * Nonces that are issued without being remembered, and used once.
 *
 * A nonce is `process (u32) ‖ serial (u32) ‖ time (44 bits, ms) ‖ page (20 bits) ‖ first 16 bytes of HMAC-SHA-256 over
 * them`, under a key that all replicas of a KMS derive from their root secret, so that one is good at another. It cannot
 * be forged or foretold. That it is good for one entry of the log only is the store's to see (store/store.ts), which
 * forgets the used ones by how far the log has grown since they were issued: the page says where it was. A clock does not
 * say that, because it may be set back. Here is what costs nothing to ask first: of the newest that this process issued,
 * one bit each whether they were used. Memory is fixed, and that does not depend on what the clock does meanwhile,
 * either.
 */
import { randomInt, timingSafeEqual } from "node:crypto";
import { nonceLifetimeMs } from "@caisson/protocol/key-release";
import { frame, u32, u64 } from "@caisson/vocabulary/frame";
import { hmac } from "@caisson/vocabulary/hash";

export type NonceCode = "nonce/unknown" | "nonce/expired" | "nonce/used" | "nonce/busy";

/** Nonces of which it is known whether they were used (128 KiB): one minute of 17,000 hellos a second. */
const capacity = 2 ** 20;

/** Entries of the log that are one page. */
const pageEntries = 4096;
const pageBits = 20;

/** How far the clocks of two replicas may lie apart, ms. */
const skewMs = 2000;

export class Nonces {
  readonly #key: Uint8Array;
  readonly #entries: () => number;
  /** Which process issued a nonce. */
  readonly #process = randomInt(2 ** 32);
  readonly #used: Uint8Array;
  readonly #capacity: number;
  #next = 0;

  /**
   * `key` is that of all replicas (32 bytes). `entries` says how many the log has. `limit`, a multiple of 8 and a power
   * of 2: an older nonce than the newest `limit` is refused, whether it was used or not.
   */
  constructor(key: Uint8Array, entries: () => number, limit = capacity) {
    this.#key = key;
    this.#entries = entries;
    this.#capacity = limit;
    this.#used = new Uint8Array(limit / 8);
  }

  /** 32 bytes, usable once until `now` + 60 s. */
  issue(now: number): Uint8Array {
    const serial = this.#next++;
    // The bit was that of the nonce `limit` before, which is refused from now on.
    this.#mark(serial, false);
    const page = BigInt.asUintN(pageBits, BigInt(this.#page()));
    const at = (BigInt(Math.floor(now)) << BigInt(pageBits)) | page;
    const head = Buffer.concat([u32(this.#process), u32(serial % 2 ** 32), u64(at)]);
    return Buffer.concat([head, this.#tag(head)]);
  }

  /**
   * Uses up a nonce: how many entries the log had at least when it was issued, if it was good as far as this process knows;
   * otherwise why not.
   */
  use(nonce: Uint8Array, now: number): number | NonceCode {
    const head = nonce.subarray(0, 16);
    if (nonce.length !== 32 || !timingSafeEqual(this.#tag(head), nonce.subarray(16))) return "nonce/unknown";
    const fields = new DataView(head.buffer, head.byteOffset);
    const at = fields.getBigUint64(8);
    const issued = Number(at >> BigInt(pageBits));
    // A nonce from the future means that a clock went back: its age is not known, so it is not young.
    if (issued - now > skewMs || now - issued > nonceLifetimeMs) return "nonce/expired";
    // The nearest such page: 2^31 entries before or after what this process knows of the log.
    const before = Number(BigInt.asIntN(pageBits, BigInt(this.#page()) - at));
    const entries = Math.max(0, this.#page() - before) * pageEntries;
    if (fields.getUint32(0) !== this.#process) return entries;
    const age = (this.#next - fields.getUint32(4)) >>> 0;
    if (age > this.#capacity) return "nonce/busy";
    return this.#mark(this.#next - age, true) ? "nonce/used" : entries;
  }

  #page(): number {
    return Math.floor(this.#entries() / pageEntries);
  }

  /** Sets the bit of a serial; what it was before. */
  #mark(serial: number, used: boolean): boolean {
    const [byte, bit] = [(serial % this.#capacity) >> 3, 1 << (serial & 7)];
    const before = this.#used[byte]!;
    this.#used[byte] = used ? before | bit : before & ~bit;
    return (before & bit) !== 0;
  }

  #tag(head: Uint8Array): Uint8Array {
    return hmac(this.#key, frame("caisson/kms-nonce/v1", head)).subarray(0, 16);
  }
}
