// SPDX-License-Identifier: Apache-2.0
/** What older versions of Node get is, text by text, what the language itself gives. */
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import * as language from "./text.language.ts";
import { newer, older } from "./text.node.ts";

const bytes = fc.uint8Array({ maxLength: 100 });

test("bytes have the same text in both", () => {
  fc.assert(
    fc.property(bytes, (value) => {
      const part = value.subarray(1);
      equal(older.toHex(part), language.toHex(part));
      equal(older.toBase64(part), language.toBase64(part));
      deepEqual(older.fromHex(language.toHex(value)), value);
      deepEqual(newer.fromHex(language.toHex(value)), value);
      deepEqual(older.fromBase64(language.toBase64(value)), value);
    }),
  );
});

test("a text is read by both as the same bytes, or by neither", () => {
  const digits = fc.string({ unit: fc.constantFrom(...Array.from("09afAFgG -_+/=\n")), maxLength: 12 });
  fc.assert(
    fc.property(digits, (text) => {
      deepEqual(older.fromHex(text), language.fromHex(text), text);
      deepEqual(newer.fromHex(text), language.fromHex(text), text);
      deepEqual(older.fromBase64(text), language.fromBase64(text), text);
    }),
    { numRuns: 5000 },
  );
  for (const text of ["AB==", "AA==", "AA=", "AA", "AAA=", "AAB=", "A", "====", "", "0", "0g", "\u{ff10}0"]) {
    deepEqual(older.fromHex(text), language.fromHex(text), text);
    deepEqual(newer.fromHex(text), language.fromHex(text), text);
    deepEqual(older.fromBase64(text), language.fromBase64(text), text);
  }
});

test("what is read is a plain array of bytes with a buffer of its own", () => {
  for (const value of [older.fromHex("00ff")!, older.fromBase64("AP8=")!]) {
    equal(value.constructor, Uint8Array);
    equal(value.buffer.byteLength, 2);
  }
});
