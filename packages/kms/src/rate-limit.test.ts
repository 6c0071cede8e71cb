// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import test from "node:test";
import { RateLimiter } from "./rate-limit.ts";

const start = Date.parse("2026-06-01T12:00:00Z");

test("an address may burst, then gets its rate; others are not touched", () => {
  const limiter = new RateLimiter({ perSecond: 2, burst: 3 }, { perSecond: 100, burst: 100 });
  const take = (address: string, at: number) => limiter.take(address, start + at);
  equal([0, 0, 0, 0].map((at) => take("192.0.2.1", at)).join(), "true,true,true,false");
  equal(take("192.0.2.2", 0), true);
  equal(take("192.0.2.1", 499), false);
  equal(take("192.0.2.1", 1000), true);
});

test("all addresses together have a limit, which a refused address does not use up", () => {
  const limiter = new RateLimiter({ perSecond: 1, burst: 1 }, { perSecond: 4, burst: 8 });
  const take = (i: number) => limiter.take(`192.0.${i}.1`, start);
  equal(take(0), true);
  for (let i = 0; i < 10; i++) equal(take(0), false);
  for (let i = 1; i < 8; i++) equal(take(i), true, `${i}`);
  equal(take(8), false);
});

test("the table of groups is bounded", () => {
  const limiter = new RateLimiter({ perSecond: 1, burst: 1 }, { perSecond: 1e9, burst: 1e9 });
  for (let i = 0; i < 70_000; i++) limiter.take(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, start);
  equal(limiter.size <= 60_000, true, `${limiter.size}`);
});

/** Requests a second that get through of all that many senders send: each its own, as fast as it may. */
function throughput(sender: (i: number) => string, senders: number): number {
  const limiter = new RateLimiter({ perSecond: 5, burst: 40 }, { perSecond: 2000, burst: 4000 });
  let [through, at] = [0, start];
  const seconds = 60;
  // A minute to use up what may come at once, and one that counts.
  for (; at < start + 2000 * seconds; at += 100) {
    for (let i = 0; i < senders; i += 1) {
      const taken = limiter.take(sender((at / 100) * senders + i), at);
      if (taken && at >= start + 1000 * seconds) through += 1;
    }
  }
  return through / seconds;
}

for (const [name, sender, limit] of [
  ["one IPv4 address", () => "192.0.2.1", 5],
  ["a /24 of IPv4", (i: number) => `192.0.2.${i % 256}`, 80],
  ["a /64 of IPv6", (i: number) => `2001:db8:1:1::${(i % 65_536).toString(16)}`, 5],
  ["a /56 of IPv6", (i: number) => `2001:db8:1:${(i % 256).toString(16)}::1`, 20],
  ["a /48 of IPv6", (i: number) => `2001:db8:1:${(i % 65_536).toString(16)}::1`, 80],
] as const) {
  test(`${name} gets at most ${limit} requests a second through`, () => {
    const rate = throughput(sender, 300);
    equal(rate > 0.9 * limit && rate < 1.1 * limit, true, `${rate}`);
  });
}

test("who comes for the first time gets through although many networks ask all that is common", () => {
  const limiter = new RateLimiter({ perSecond: 5, burst: 40 }, { perSecond: 2000, burst: 4000 });
  let refused = 0;
  const victim = { tries: 0, through: 0 };
  for (let ms = 0; ms < 20_000; ms += 10) {
    // 30,000 requests a second of 100 networks.
    for (let i = 0; i < 300; i++) {
      const n = ms * 30 + i;
      if (!limiter.take(`10.${n % 100}.0.${n % 250}`, start + ms)) refused += 1;
    }
    // In the first seconds the many have a share of what is kept for newcomers, too.
    if (ms < 5000 || ms % 200 !== 0) continue;
    // A boot: two requests, each time of another machine of a network that nobody heard of.
    for (const _ of [1, 2]) {
      victim.tries += 1;
      if (limiter.take(`198.51.${victim.tries >> 1}.7`, start + ms)) victim.through += 1;
    }
  }
  equal(refused > 400_000, true);
  deepEqual(victim, { tries: 150, through: 150 });
});
