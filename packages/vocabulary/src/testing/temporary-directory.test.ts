// SPDX-License-Identifier: Apache-2.0
import { equal, notEqual } from "node:assert/strict";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "./temporary-directory.ts";

test("each is new and empty, and is removed after its test with what is in it", async (t) => {
  const made: string[] = [];
  await t.test("a test that writes", (inner) => {
    made.push(temporaryDirectory("same", inner), temporaryDirectory("same", inner));
    for (const path of made) equal(readdirSync(path).length, 0);
    writeFileSync(join(made[0]!, "file"), "");
  });
  notEqual(made[0], made[1]);
  for (const path of made) equal(existsSync(path), false, path);
});
