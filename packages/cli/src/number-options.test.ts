// SPDX-License-Identifier: Apache-2.0
import { equal, throws } from "node:assert/strict";
import test from "node:test";
import { whole } from "./number-options.ts";

test("a whole number is decimal and in its range; the message says which", () => {
  const percent = whole(0, 100);
  for (const [text, value] of [
    ["0", 0],
    ["100", 100],
    ["007", 7],
  ] as const) {
    equal(percent(text), value);
  }
  for (const text of ["", " 5", "-1", "101", "0x10", "1e1", "5.0", "٣", "9".repeat(400)]) {
    throws(() => percent(text), { message: "a whole number from 0 to 100" }, text);
  }
});
