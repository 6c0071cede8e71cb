// SPDX-License-Identifier: Apache-2.0
/**
 * Nonces that are issued without being remembered, and used once.
 *
 * A nonce is `serial (u64) ‖ time (u64 ms) ‖ first 16 bytes of HMAC-SHA-256 over both`, under a key of this process. It
 * cannot be forged or foretold, nor kept across a restart. Which ones were used is one bit for each of the newest
 * serials: memory is fixed, and whether a nonce was used does not depend on what the clock does meanwhile.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { nonceLifetimeMs } from "@caisson/protocol/key-release";
import { frame, u64 } from "@caisson/vocabulary/frame";

export type NonceCode = "nonce/unknown" | "nonce/expired" | "nonce/used" | "nonce/busy";

/** Nonces of which it is known whether they were used (128 KiB): one minute of 17,000 hellos a second. */
const capacity = 2 ** 20;

export class Nonces {
  readonly #key = randomBytes(32);
  readonly #used: Uint8Array;
  readonly #capacity: number;
  #next = 0;

  /** `limit`, a multiple of 8: an older nonce than the newest `limit` is refused, whether it was used or not. */
  constructor(limit = capacity) {
    this.#capacity = limit;
    this.#used = new Uint8Array(limit / 8);
  }

  /** 32 bytes, usable once until `now` + 60 s. */
  issue(now: number): Uint8Array {
    const serial = this.#next++;
    // The bit was that of the nonce `limit` before, which is refused from now on.
    this.#mark(serial, false);
    const head = Buffer.concat([u64(serial), u64(now)]);
    return Buffer.concat([head, this.#tag(head)]);
  }

  /** Uses up a nonce: undefined if it was good, otherwise why not. */
  use(nonce: Uint8Array, now: number): NonceCode | undefined {
    const head = nonce.subarray(0, 16);
    if (nonce.length !== 32 || !timingSafeEqual(this.#tag(head), nonce.subarray(16))) return "nonce/unknown";
    const fields = new DataView(head.buffer, head.byteOffset);
    const [serial, issued] = [Number(fields.getBigUint64(0)), Number(fields.getBigUint64(8))];
    // A nonce from the future means that our clock went back: its age is not known, so it is not young.
    if (now < issued || now - issued > nonceLifetimeMs) return "nonce/expired";
    if (this.#next - serial > this.#capacity) return "nonce/busy";
    if (this.#mark(serial, true)) return "nonce/used";
    return undefined;
  }

  /** Sets the bit of a serial; what it was before. */
  #mark(serial: number, used: boolean): boolean {
    const [byte, bit] = [(serial % this.#capacity) >> 3, 1 << (serial & 7)];
    const before = this.#used[byte]!;
    this.#used[byte] = used ? before | bit : before & ~bit;
    return (before & bit) !== 0;
  }

  #tag(head: Uint8Array): Uint8Array {
    return createHmac("sha256", this.#key)
      .update(frame("caisson/kms-nonce/v1", head))
      .digest()
      .subarray(0, 16);
  }
}
