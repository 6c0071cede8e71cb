// SPDX-License-Identifier: Apache-2.0
import { deepEqual, throws } from "node:assert/strict";
import test from "node:test";
import { integer, object } from "@caisson/vocabulary/schema";
import fc from "fast-check";
import { readCanonical, writeCanonical } from "./canonical.ts";

const schema = object({ a: integer(0, 9), b: integer(0, 9) });
const read = (text: string | Uint8Array) =>
  readCanonical(
    typeof text === "string" ? new TextEncoder().encode(text) : text,
    schema,
    "release/malformed",
    100,
  );

test("one spelling is read", () => {
  deepEqual(read('{"a":1,"b":2}'), { a: 1, b: 2 });
  deepEqual(read(writeCanonical({ b: 2, a: 1 })), { a: 1, b: 2 });
});

for (const [name, text] of [
  ["another order", '{"b":2,"a":1}'],
  ["white space", '{"a":1, "b":2}'],
  ["a newline at the end", '{"a":1,"b":2}\n'],
  ["a byte order mark", '\ufeff{"a":1,"b":2}'],
  ["a key twice", '{"a":0,"a":1,"b":2}'],
  ["a key written with an escape", '{"\\u0061":1,"b":2}'],
  ["__proto__", '{"__proto__":{"a":1},"a":1,"b":2}'],
  ["__proto__ in its place", '{"__proto__":{"a":1,"b":2}}'],
  ["another spelling of a number", '{"a":1.0,"b":2}'],
  ["an unknown field", '{"a":1,"b":2,"c":3}'],
  ["a missing field", '{"a":1}'],
  ["no JSON", "{"],
  ["no object", "[]"],
  ["nesting", "[".repeat(99)],
  ["more bytes than the limit", `{"a":1,"b":2}${" ".repeat(100)}`],
] as const) {
  test(`refused: ${name}`, () => throws(() => read(text), { code: "release/malformed" }));
}

test("refused: what is not UTF-8", () => {
  throws(() => read(Uint8Array.of(0x22, 0xff, 0x22)), { code: "release/malformed" });
});

test("of one value there is one spelling", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const written = JSON.stringify(value);
      try {
        const any = readCanonical(new TextEncoder().encode(written), (v) => v, "release/malformed", 1e6);
        deepEqual(new TextDecoder().decode(writeCanonical({ any })), `{"any":${written}}`);
      } catch (error) {
        // Numbers that are not whole have no canonical form; other orders are refused.
        if ((error as { code?: string }).code !== "release/malformed") throw error;
      }
    }),
  );
});
