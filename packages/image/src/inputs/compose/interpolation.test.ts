// SPDX-License-Identifier: Apache-2.0
import { equal, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { InterpolationFault, interpolate } from "./interpolation.ts";

const variables = new Map([
  ["A", "one"],
  ["EMPTY", ""],
  ["B_2", "two"],
]);

const filled: [text: string, result: string][] = [
  ["no variables", "no variables"],
  ["$A", "one"],
  ["<${A}>", "<one>"],
  ["$A$B_2", "onetwo"],
  ["$$A costs $$5", "$A costs $5"],
  ["${A:-x}", "one"],
  ["${EMPTY:-x}", "x"],
  ["${EMPTY-x}", ""],
  ["${NONE-x y}", "x y"],
  ["${NONE:-${A}/${NONE2:-deep}}", "one/deep"],
  ["${NONE:-}", ""],
  ["${A:?needed}", "one"],
  ["${A:+set}", "set"],
  ["${EMPTY:+set}", ""],
  ["${EMPTY+set}", "set"],
  ["${NONE+${ALSO_NONE}}", ""],
  ["${A:-${NONE} is not looked at}", "one"],
  ["${A:-$${NONE}}", "one"],
  ["${NONE:-$${A}}", "${A}"],
  ['${A:-{"a": {}}}', "one"],
  ['${NONE:-{"a": {}, "b": "${A}"}}.', '{"a": {}, "b": "one"}.'],
  ["5$, $1, $(A) and $", "5$, $1, $(A) and $"],
  ["a } b", "a } b"],
];
for (const [text, result] of filled) {
  test(`'${text}' is '${result}'`, () => equal(interpolate(text, variables), result));
}

for (const text of [
  "$NONE",
  "${NONE}",
  "${EMPTY:?must be}",
  "${NONE?must be}",
  "${}",
  "${A",
  "${A:-x",
  "${A!}",
  "${A:-${B}",
]) {
  test(`refused: '${text}'`, () => throws(() => interpolate(text, variables), InterpolationFault));
}

test("any text is a text or that fault; without a dollar it is itself; escaped, it is what it was", () => {
  const pieces = fc.constantFrom("$", "{", "}", ":", "-", "?", "+", "A", "NONE", " ", "x");
  fc.assert(
    fc.property(
      fc.array(pieces).map((parts) => parts.join("")),
      (text) => {
        try {
          equal(typeof interpolate(text, variables), "string");
        } catch (error) {
          equal(error instanceof InterpolationFault, true);
        }
        equal(interpolate(text.replaceAll("$", "$$$$"), new Map()), text);
      },
    ),
  );
});
