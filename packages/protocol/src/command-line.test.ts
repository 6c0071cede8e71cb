// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import { splitCommandLine } from "./command-line.ts";

const cases: Record<string, [line: string, tokens: string[]]> = {
  "spaces and a final newline": [" a  b=c\n", ["a", "b=c"]],
  "a quoted value is one token": [
    'a dm-mod.create="root,,,ro,0 8 verity" b',
    ["a", 'dm-mod.create="root,,,ro,0 8 verity"', "b"],
  ],
  "a quote inside a word": ['a="b c"d e', ['a="b c"d', "e"]],
  "a quote that is never closed holds all that follows": ['a "b c d', ["a", '"b c d']],
  nothing: ["", []],
};
for (const [name, [line, tokens]] of Object.entries(cases)) {
  test(name, () => deepEqual(splitCommandLine(line), tokens));
}
