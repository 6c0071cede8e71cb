// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseDuration, parseSize } from "./units.ts";
import { splitWords } from "./words.ts";

const commands: [text: string, words: string[] | undefined][] = [
  ["nginx -g 'daemon off;'", ["nginx", "-g", "daemon off;"]],
  ['sh -c "echo \\"$HOME\\" \\n"', ["sh", "-c", 'echo "$HOME" \\n']],
  ["a\\ b c", ["a b", "c"]],
  ["a''b \"\"", ["ab", ""]],
  ["  two\n words ", ["two", "words"]],
  ["a && b | c > d", ["a", "&&", "b", "|", "c", ">", "d"]],
  ["", []],
  ["'open", undefined],
  ['"open', undefined],
  ["end\\", undefined],
];
for (const [text, words] of commands) {
  test(`the words of ${JSON.stringify(text)}`, () => deepEqual(splitWords(text), words));
}

test("words in single quotes come back", () => {
  const word = fc.string().filter((text) => !text.includes("'"));
  fc.assert(
    fc.property(fc.array(word), (words) => {
      deepEqual(splitWords(words.map((one) => `'${one}'`).join(" ")), words);
    }),
  );
});

const durations: [text: string, milliseconds: number | undefined][] = [
  ["30s", 30_000],
  ["1m30s", 90_000],
  ["1h5m0.5s", 3_900_500],
  ["500ms", 500],
  ["10us", 1],
  ["0", 0],
  ["0s", 0],
  ["30", undefined],
  ["", undefined],
  ["-1s", undefined],
  ["1s2", undefined],
  ["999999999h", undefined],
];
for (const [text, milliseconds] of durations) {
  test(`the duration '${text}'`, () => equal(parseDuration(text), milliseconds));
}

const sizes: [text: string, bytes: number | undefined][] = [
  ["512m", 536_870_912],
  ["1gb", 1_073_741_824],
  ["300K", 307_200],
  ["1.5g", 1_610_612_736],
  ["64MiB", 67_108_864],
  ["4096", 4096],
  ["4096b", 4096],
  ["m", undefined],
  ["1x", undefined],
  ["-1m", undefined],
  ["9999999t", undefined],
];
for (const [text, bytes] of sizes) test(`the size '${text}'`, () => equal(parseSize(text), bytes));
