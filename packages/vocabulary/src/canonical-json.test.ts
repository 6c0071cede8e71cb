// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { canonicalJson } from "./canonical-json.ts";

test("keys are sorted at every depth, and nothing is between tokens", () => {
  equal(canonicalJson({ b: [1, { d: null, c: "é" }], a: true }), '{"a":true,"b":[1,{"c":"é","d":null}]}');
});

test("the order in which members were written does not matter", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.integer()), (value) => {
      const reversed = Object.fromEntries(Object.entries(value).reverse());
      equal(canonicalJson(reversed), canonicalJson(value));
      deepEqual(JSON.parse(canonicalJson(value)), JSON.parse(JSON.stringify(value)));
    }),
  );
});

test("what is nested without measure is refused, and not tried", () => {
  const nested = (depth: number): unknown => JSON.parse("[".repeat(depth) + "]".repeat(depth));
  equal(canonicalJson(nested(100)).length, 200);
  for (const depth of [102, 100_000])
    throws(() => canonicalJson(nested(depth)), { name: "TypeError", message: /100 deep/ });
});

const refused = {
  fraction: 1.5,
  "not a number": Number.NaN,
  "an unsafe integer": 2 ** 60,
  undefined: undefined,
};
for (const [name, value] of Object.entries({
  ...refused,
  function: () => 1,
  date: new Date(0),
  map: new Map(),
})) {
  test(`refused: ${name}`, () => {
    throws(() => canonicalJson({ value }), TypeError);
  });
}
