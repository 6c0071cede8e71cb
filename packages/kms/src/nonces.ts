/**
 * Nonces that are issued without being remembered.
 *
 * A nonce is `time (u64 ms) ‖ 8 random bytes ‖ first 16 bytes of HMAC-SHA-256 over both`, under a key of this process.
 * So hellos cost no memory however many come, a nonce cannot be forged or kept across a restart, and only those that
 * were used are remembered, until they are too old anyway.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { frame, u64 } from "@caisson/protocol/framing";
import { nonceLifetimeMs } from "@caisson/protocol/key-release";

export type NonceCode = "nonce/unknown" | "nonce/expired" | "nonce/used" | "nonce/busy";

/** At most this many used nonces are remembered; more within a minute are refused, never forgotten. */
const capacity = 100_000;

export class Nonces {
  readonly #key = randomBytes(32);
  /** Used nonces (hex) and when they were issued, in the order of use. */
  readonly #used = new Map<string, number>();
  readonly #capacity: number;

  constructor(limit = capacity) {
    this.#capacity = limit;
  }

  /** 32 bytes, usable once until `now` + 60 s. */
  issue(now: number): Uint8Array {
    const head = Buffer.concat([u64(now), randomBytes(8)]);
    return Buffer.concat([head, this.#tag(head)]);
  }

  /** Uses up a nonce: undefined if it was good, otherwise why not. */
  use(nonce: Uint8Array, now: number): NonceCode | undefined {
    const head = nonce.subarray(0, 16);
    if (nonce.length !== 32 || !timingSafeEqual(this.#tag(head), nonce.subarray(16))) return "nonce/unknown";
    const issued = Number(new DataView(head.buffer, head.byteOffset).getBigUint64(0));
    // A nonce from the future means that our clock went back: its age is not known, so it is not young.
    if (now < issued || now - issued > nonceLifetimeMs) return "nonce/expired";
    if (this.#used.has(nonce.toHex())) return "nonce/used";
    this.#forget(now);
    if (this.#used.size >= this.#capacity) return "nonce/busy";
    this.#used.set(nonce.toHex(), now);
    return undefined;
  }

  /** How many used nonces are remembered. */
  get size(): number {
    return this.#used.size;
  }

  #forget(now: number): void {
    for (const [nonce, used] of this.#used) {
      if (now - used <= nonceLifetimeMs) break;
      this.#used.delete(nonce);
    }
  }

  #tag(head: Uint8Array): Uint8Array {
    return createHmac("sha256", this.#key)
      .update(frame("caisson/kms-nonce/v1", head))
      .digest()
      .subarray(0, 16);
  }
}
