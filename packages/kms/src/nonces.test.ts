// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { Nonces } from "./nonces.ts";

const start = 1_700_000_000_000;
const key = new Uint8Array(32).fill(5);
/** Entries of the log, and what a nonce says of them. */
const entries = 10 * 4096 + 5;
const good = 10 * 4096;
const made = (limit?: number) => new Nonces(key, () => entries, limit);

test("a nonce is good once, for 60 seconds", () => {
  const nonces = made();
  const nonce = nonces.issue(start);
  equal(nonces.use(nonce, start + 60_000), good);
  equal(nonces.use(nonce, start + 60_000), "nonce/used");
  equal(nonces.use(nonces.issue(start), start + 60_001), "nonce/expired");
  equal(nonces.use(nonces.issue(start), start - 2000), good);
  equal(nonces.use(nonces.issue(start), start - 2001), "nonce/expired");
});

test("a used nonce stays used until it is too old", () => {
  const nonces = made();
  const nonce = nonces.issue(start);
  nonces.use(nonce, start);
  for (let at = start; at <= start + 60_000; at += 5000) equal(nonces.use(nonce, at), "nonce/used");
  equal(nonces.use(nonce, start + 60_001), "nonce/expired");
});

test("a nonce of one replica is good at another, as often as the store lets it", () => {
  const [one, other] = [made(), made()];
  const nonce = one.issue(start);
  equal(other.use(nonce, start), good);
  equal(other.use(nonce, start), good);
  equal(one.use(nonce, start), good);
  equal(one.use(nonce, start), "nonce/used");
});

test("nonces of another KMS, and anything else, are unknown", () => {
  const nonces = made();
  equal(nonces.use(new Nonces(new Uint8Array(32), () => 0).issue(start), start), "nonce/unknown");
  const nonce = nonces.issue(start);
  fc.assert(
    fc.property(fc.nat(255), (bit) => {
      const changed = Uint8Array.from(nonce);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      equal(nonces.use(changed, start), "nonce/unknown");
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => nonces.use(bytes, start) === "nonce/unknown"),
  );
});

test("a used nonce stays used when the clock runs ahead and is set back", () => {
  const nonces = made();
  const nonce = nonces.issue(start);
  equal(nonces.use(nonce, start), good);
  equal(nonces.use(nonces.issue(start + 300_000), start + 300_000), good);
  equal(nonces.use(nonce, start + 30_000), "nonce/used");
});

test("what was used is known of the newest nonces; an older one is refused, used or not", () => {
  const nonces = made(8);
  const [used, unused, newer] = [nonces.issue(start), nonces.issue(start), nonces.issue(start)];
  equal(nonces.use(used, start), good);
  for (let i = 0; i < 5; i++) nonces.issue(start);
  equal(nonces.use(used, start), "nonce/used");
  for (let i = 0; i < 2; i++) nonces.issue(start);
  equal(nonces.use(used, start), "nonce/busy");
  equal(nonces.use(unused, start), "nonce/busy");
  equal(nonces.use(newer, start), good);
  equal(nonces.use(newer, start), "nonce/used");
});

test("of many nonces, in any order, each is good once", () => {
  fc.assert(
    fc.property(fc.shuffledSubarray([...Array(500).keys()], { minLength: 500 }), (order) => {
      const nonces = made(512);
      const issued = order.map(() => nonces.issue(start));
      for (const i of order) equal(nonces.use(issued[i]!, start), good);
      for (const i of order) equal(nonces.use(issued[i]!, start), "nonce/used");
    }),
    { numRuns: 20 },
  );
});

test("a nonce says how far the log was when it was issued, wherever a replica sees it now", () => {
  const log = { entries: 0 };
  const [one, other] = [new Nonces(key, () => log.entries), new Nonces(key, () => log.entries)];
  const far = fc.integer({ min: 0, max: 2 ** 40 });
  const moved = fc.integer({ min: -(2 ** 30), max: 2 ** 30 });
  fc.assert(
    fc.property(far, moved, (at, by) => {
      log.entries = at;
      const nonce = one.issue(start);
      log.entries = Math.max(0, at + by);
      equal(other.use(nonce, start), at - (at % 4096));
    }),
  );
});
