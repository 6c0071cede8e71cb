// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { writeFile, writeNewFile } from "./output-file.ts";

function placeOf(t: TestContext): string {
  const directory = temporaryDirectory("output", t);
  return directory;
}

test("a file is written in place of another, a new one never", (t) => {
  const path = join(placeOf(t), "file");
  writeFile(path, "one");
  writeFile(path, "two");
  throws(() => writeNewFile(path, "three"), { code: "cli/usage", message: /is there already/ });
  equal(readFileSync(path, "utf8"), "two");
});

test("a new file has the mode that is asked for", (t) => {
  const path = join(placeOf(t), "file");
  writeNewFile(path, Uint8Array.of(1, 2), 0o600);
  deepEqual([statSync(path).mode & 0o777, [...readFileSync(path)]], [0o600, [1, 2]]);
});

test("refused in words: a directory that is not there", (t) => {
  const path = join(placeOf(t), "missing", "file");
  for (const write of [writeFile, writeNewFile])
    throws(() => write(path, ""), {
      code: "cli/usage",
      message: /cannot be written: no such file or directory$/,
    });
});
