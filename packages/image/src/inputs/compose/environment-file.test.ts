// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { EnvironmentFileFault, parseEnvironmentFile } from "./environment-file.ts";

const read = (text: string, raw = false) =>
  Object.fromEntries(parseEnvironmentFile(text, new Map([["HOME", "/root"]]), raw));

const files: [what: string, text: string, expected: Record<string, string>][] = [
  [
    "plain values, comments and empty lines",
    "# first\n\nA=1\n  B = two words  \nC=\n",
    { A: "1", B: "two words", C: "" },
  ],
  [
    "a comment after white space ends a value, a hash in it does not",
    "A=1 # one\nB=a#b\n",
    { A: "1", B: "a#b" },
  ],
  [
    "a value that begins with a hash, and one after a tab",
    "A=#fff\nB= #fff # x\nC=a\t#b\n",
    { A: "#fff", B: "#fff", C: "a\t#b" },
  ],
  ["a colon instead of the sign", "A: 1\nB :two=2\n", { A: "1", B: "two=2" }],
  ["a quote inside single quotes", "A='it\\'s' # x\n", { A: "it's" }],
  ["export before a name", "export A=1\n", { A: "1" }],
  [
    "variables in plain and double-quoted values, from before and from the file",
    'A=$HOME/x\nB="${A}/y"\n',
    { A: "/root/x", B: "/root/x/y" },
  ],
  ["single quotes take everything as it is", "A='$HOME #\\n'\n", { A: "$HOME #\\n" }],
  ["escapes in double quotes", 'A="a\\n\\t\\"b\\" \\$HOME \\\\"\n', { A: 'a\n\t"b" $HOME \\' }],
  ["a value over several lines", "A=\"one\ntwo\"\nB='three\nfour'\n", { A: "one\ntwo", B: "three\nfour" }],
  ["the last of a name", "A=1\nA=2\n", { A: "2" }],
  ["lines that end as in DOS, and a mark of byte order", "\uFEFFA=1\r\nB=2\r\n", { A: "1", B: "2" }],
];
for (const [what, text, expected] of files) test(what, () => deepEqual(read(text), expected));

test("raw values are what stands there", () => {
  deepEqual(read("A=\"$HOME\" # x\nB= 'y'\n", true), { A: '"$HOME" # x', B: " 'y'" });
});

const refused: [text: string, line: number][] = [
  ["A=1\nno assignment\n", 2],
  ['A="open\nand more\n', 1],
  ["A='x' y\n", 1],
  ["A=1\n\nB=$NONE\n", 3],
  ["1A=1\n", 1],
];
for (const [text, line] of refused) {
  test(`refused: ${JSON.stringify(text)}`, () => {
    throws(
      () => read(text),
      (error) => error instanceof EnvironmentFileFault && error.line === line,
    );
  });
}

test("any text gives variables or that fault", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom("A", "=", '"', "'", "\\", "$", "{", "}", "#", " ", "\n", "é") }),
      (text) => {
        try {
          read(text);
        } catch (error) {
          equal(error instanceof EnvironmentFileFault, true);
        }
      },
    ),
  );
});
