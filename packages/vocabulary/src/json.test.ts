// SPDX-License-Identifier: Apache-2.0
import { deepEqual, throws } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { parseJson } from "./json.ts";

test("what has one reading is read as JSON.parse does", () => {
  fc.assert(
    fc.property(fc.json(), fc.integer({ min: 0, max: 3 }), (text, space) => {
      const value: unknown = JSON.parse(text);
      deepEqual(parseJson(JSON.stringify(value, null, space)), value);
    }),
  );
});

for (const text of [
  '{"a":1,"a":1}',
  '{"a":1,"\\u0061":2}',
  '{"b":{"a":[{"c":1,"c":2}]}}',
  '[{"a":{}},{"a":[],"b":",","a":0}]',
  '{"__proto__":1,"__proto__":2}',
  '{"\\"":1,"\\"":2}',
]) {
  test(`two readings: ${text}`, () => throws(() => parseJson(text), /occurs twice/));
}

for (const text of [
  '{"a":{"a":{"a":"a"}},"b":["a","a"]}',
  '[{"a":1},{"a":1}]',
  '{"a":"\\"a\\":","b":"{\\"a\\":1"}',
  '{"":0}',
]) {
  test(`one reading: ${text}`, () => deepEqual(parseJson(text), JSON.parse(text)));
}

test("what is not JSON is the SyntaxError of JSON.parse", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      let wrong: unknown;
      try {
        JSON.parse(text);
      } catch (error) {
        wrong = error;
      }
      if (wrong !== undefined) throws(() => parseJson(text), SyntaxError);
    }),
  );
});
