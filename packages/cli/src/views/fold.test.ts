// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters, styleText } from "node:util";
import fc from "fast-check";
import { fold, wrap } from "./fold.ts";

test("a line goes on below its last column", () => {
  equal(
    fold("  K35   ok        The in-tree TDX driver and no other\nshort", 40),
    "  K35   ok        The in-tree TDX driver\n                  and no other\nshort",
  );
});

test("without a terminal nothing is broken", () => {
  const line = "word ".repeat(100);
  equal(fold(line, undefined), line);
});

test("no word is lost, and no line that could be broken is too long", () => {
  fc.assert(
    fc.property(
      fc.array(fc.stringMatching(/^[a-z]{1,12}$/), { minLength: 1 }),
      fc.integer({ min: 30, max: 90 }),
      (words, columns) => {
        const folded = fold(`  name  ${words.join(" ")}`, columns);
        deepEqual(folded.split(/\s+/).filter(Boolean), ["name", ...words]);
        for (const line of folded.split("\n")) ok(line.length <= columns, line);
      },
    ),
  );
});

test("colours take no room and stay", () => {
  const red = styleText("red", "FAIL", { validateStream: false });
  const lines = wrap(`${red} one two three`, 12);
  deepEqual(lines.map(stripVTControlCharacters), ["FAIL one two", "three"]);
  ok(lines[0]!.startsWith(red));
});

test("a word longer than the line is cut", () => {
  deepEqual(wrap("x".repeat(25), 10), ["x".repeat(10), "x".repeat(10), "x".repeat(5)]);
});
