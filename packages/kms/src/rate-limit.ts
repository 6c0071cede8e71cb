// SPDX-License-Identifier: Apache-2.0
/**
 * Token buckets: one for each address and each network around it, one for all together, and a share kept for who was
 * quiet lately.
 *
 * Invariants: a request is let through where every group of its sender and the common bucket have a token, and then
 * takes one of each; one that is refused takes none. Where the common bucket is empty, a network that asked little in
 * the last minute takes of the reserve, so that whoever asks much cannot keep out who comes for the first time.
 * Memory is bounded: when too many groups are known, the one that was quiet for longest is forgotten; its buckets have
 * refilled by then unless the whole table turns over within one refill, which the common bucket stops.
 */
import { addressGroups } from "./address-groups.ts";

export interface Rate {
  /** Requests a second that are let through for good. */
  perSecond: number;
  /** Requests that may come at once after silence. */
  burst: number;
}

/** What part of the common rate is kept for who was quiet lately. */
const reserved = 1 / 4;
/** What a network may take of it: a few boots a minute. */
const welcome: Rate = { perSecond: 16 / 60, burst: 16 };

/**
 * Groups that are known, for each request a second: ten seconds of them, each from three new groups; a burst refills in
 * eight.
 */
const groupsPerRate = 30;

/** `take` what `has` says is there. `now` is of a clock that never goes back: one that is set could let anything through. */
export class Bucket {
  readonly #rate: Rate;
  #tokens: number;
  #at: number;

  constructor(rate: Rate, now: number) {
    this.#rate = rate;
    this.#tokens = rate.burst;
    this.#at = now;
  }

  has(now: number): boolean {
    const { perSecond, burst } = this.#rate;
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#at) / 1000) * perSecond);
    this.#at = now;
    return this.#tokens >= 1;
  }

  take(): void {
    this.#tokens -= 1;
  }
}

const part = ({ perSecond, burst }: Rate, factor: number): Rate => ({
  perSecond: perSecond * factor,
  burst: burst * factor,
});

export class RateLimiter {
  readonly #perAddress: Rate;
  readonly #open: Bucket;
  readonly #reserve: Bucket;
  readonly #groups = new Map<string, Bucket>();
  readonly #mostGroups: number;

  /** `perAddress` is that of the narrowest group; a wider one gets it times its factor (address-groups.ts). */
  constructor(perAddress: Rate, common: Rate) {
    this.#perAddress = perAddress;
    this.#mostGroups = groupsPerRate * common.perSecond;
    this.#open = new Bucket(part(common, 1 - reserved), 0);
    this.#reserve = new Bucket(part(common, reserved), 0);
  }

  /** Takes one request of `address` at `now` (ms, as a bucket's); false where it is one too many. */
  take(address: string, now: number): boolean {
    const groups = addressGroups(address);
    const own = groups.map(({ name, factor }) => this.#find(name, part(this.#perAddress, factor), now));
    if (!own.every(({ bucket }) => bucket.has(now))) return false;
    if (!this.#open.has(now)) {
      const guest = this.#find(`welcome ${groups.at(-1)!.name}`, welcome, now);
      if (!guest.bucket.has(now) || !this.#reserve.has(now)) return false;
      this.#spend(guest);
      this.#reserve.take();
    } else this.#open.take();
    for (const group of own) this.#spend(group);
    return true;
  }

  get size(): number {
    return this.#groups.size;
  }

  /** The bucket of a group; full, and not yet remembered, where the group is not known. */
  #find(name: string, rate: Rate, now: number): { name: string; bucket: Bucket } {
    return { name, bucket: this.#groups.get(name) ?? new Bucket(rate, now) };
  }

  /** Only what was let through is remembered: who is refused cannot push others out of the table. */
  #spend({ name, bucket }: { name: string; bucket: Bucket }): void {
    bucket.take();
    this.#groups.delete(name);
    this.#groups.set(name, bucket);
    if (this.#groups.size > this.#mostGroups) this.#groups.delete(this.#groups.keys().next().value!);
  }
}
