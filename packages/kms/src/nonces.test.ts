// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { Nonces } from "./nonces.ts";

const start = 1_700_000_000_000;
const key = new Uint8Array(32).fill(5);

test("a nonce is good once, for 60 seconds", () => {
  const nonces = new Nonces(key);
  const nonce = nonces.issue(start);
  equal(nonces.use(nonce, start + 60_000), start);
  equal(nonces.use(nonce, start + 60_000), "nonce/used");
  equal(nonces.use(nonces.issue(start), start + 60_001), "nonce/expired");
  equal(nonces.use(nonces.issue(start), start - 2000), start);
  equal(nonces.use(nonces.issue(start), start - 2001), "nonce/expired");
});

test("a used nonce stays used until it is too old", () => {
  const nonces = new Nonces(key);
  const nonce = nonces.issue(start);
  nonces.use(nonce, start);
  for (let at = start; at <= start + 60_000; at += 5000) equal(nonces.use(nonce, at), "nonce/used");
  equal(nonces.use(nonce, start + 60_001), "nonce/expired");
});

test("a nonce of one replica is good at another, as often as the store lets it", () => {
  const [one, other] = [new Nonces(key), new Nonces(key)];
  const nonce = one.issue(start);
  equal(other.use(nonce, start), start);
  equal(other.use(nonce, start), start);
  equal(one.use(nonce, start), start);
  equal(one.use(nonce, start), "nonce/used");
});

test("nonces of another KMS, and anything else, are unknown", () => {
  const nonces = new Nonces(key);
  equal(nonces.use(new Nonces(new Uint8Array(32)).issue(start), start), "nonce/unknown");
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
  const nonces = new Nonces(key);
  const nonce = nonces.issue(start);
  equal(nonces.use(nonce, start), start);
  equal(nonces.use(nonces.issue(start + 300_000), start + 300_000), start + 300_000);
  equal(nonces.use(nonce, start + 30_000), "nonce/used");
});

test("what was used is known of the newest nonces; an older one is refused, used or not", () => {
  const nonces = new Nonces(key, 8);
  const [used, unused, newer] = [nonces.issue(start), nonces.issue(start), nonces.issue(start)];
  equal(nonces.use(used, start), start);
  for (let i = 0; i < 5; i++) nonces.issue(start);
  equal(nonces.use(used, start), "nonce/used");
  for (let i = 0; i < 2; i++) nonces.issue(start);
  equal(nonces.use(used, start), "nonce/busy");
  equal(nonces.use(unused, start), "nonce/busy");
  equal(nonces.use(newer, start), start);
  equal(nonces.use(newer, start), "nonce/used");
});

test("of many nonces, in any order, each is good once", () => {
  fc.assert(
    fc.property(fc.shuffledSubarray([...Array(500).keys()], { minLength: 500 }), (order) => {
      const nonces = new Nonces(key, 512);
      const issued = order.map(() => nonces.issue(start));
      for (const i of order) equal(nonces.use(issued[i]!, start), start);
      for (const i of order) equal(nonces.use(issued[i]!, start), "nonce/used");
    }),
    { numRuns: 20 },
  );
});
