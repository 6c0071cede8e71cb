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

for (const value of [1.5, Number.NaN, 2 ** 60, undefined, () => 1, new Date(0), new Map()]) {
  test(`refused: ${String(value)}`, () => {
    throws(() => canonicalJson({ value }), TypeError);
  });
}
