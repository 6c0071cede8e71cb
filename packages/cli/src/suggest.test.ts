// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import { test } from "node:test";
import { suggest } from "./suggest.ts";

const names = ["audit", "bench", "build", "kms", "lock", "measure", "up", "verify"];
const meant: [typed: string, name: string | undefined][] = [
  ["verfy", "verify"],
  ["vreify", "verify"],
  ["Verify", "verify"],
  ["measures", "measure"],
  ["lokc", "lock"],
  ["buld", "build"],
  ["start", undefined],
  ["x", undefined],
  ["", undefined],
];
for (const [typed, name] of meant) {
  test(`'${typed}' ${name === undefined ? "is near to nothing" : `is '${name}'`}`, () =>
    equal(suggest(typed, names), name));
}
