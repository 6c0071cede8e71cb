/**
 * Token buckets: one for each address, one for all together.
 *
 * Invariant: memory is bounded. When too many addresses are known, the one that was quiet for longest is forgotten;
 * its bucket has refilled by then unless the whole table turns over within one refill, which the common bucket stops.
 */
export interface Rate {
  /** Requests a second that are let through for good. */
  perSecond: number;
  /** Requests that may come at once after silence. */
  burst: number;
}

interface Bucket {
  tokens: number;
  at: number;
}

const maximumAddresses = 10_000;

export class RateLimiter {
  readonly #perAddress: Rate;
  readonly #common: Rate;
  readonly #commonBucket: Bucket;
  readonly #buckets = new Map<string, Bucket>();

  constructor(perAddress: Rate, common: Rate) {
    this.#perAddress = perAddress;
    this.#common = common;
    this.#commonBucket = { tokens: common.burst, at: 0 };
  }

  /** Takes one request of `address` at `now` (ms); false where it is one too many. */
  take(address: string, now: number): boolean {
    const key = addressGroup(address);
    const bucket = this.#buckets.get(key) ?? { tokens: this.#perAddress.burst, at: now };
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > maximumAddresses) this.#buckets.delete(this.#buckets.keys().next().value!);
    // The address first: one that is over its limit must not use up what is common.
    return spend(bucket, this.#perAddress, now) && spend(this.#commonBucket, this.#common, now);
  }

  get size(): number {
    return this.#buckets.size;
  }
}

function spend(bucket: Bucket, rate: Rate, now: number): boolean {
  const refill = (Math.max(0, now - bucket.at) / 1000) * rate.perSecond;
  bucket.tokens = Math.min(rate.burst, bucket.tokens + refill);
  bucket.at = now;
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
}

/** An IPv4 address itself; of an IPv6 address the /64, which one subscriber owns whole. */
export function addressGroup(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped !== null) return mapped[1]!;
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.toLowerCase().replace(/%.*$/, "").split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros =
    tail === undefined ? [] : Array<string>(Math.max(0, 8 - left.length - right.length)).fill("0");
  return `${[...left, ...zeros, ...right].slice(0, 4).join(":")}::/64`;
}
