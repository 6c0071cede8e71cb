// SPDX-License-Identifier: Apache-2.0
import { equal, throws } from "node:assert/strict";
import { closeSync, openSync, readFileSync, readSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { KeyFiles } from "./key-files.ts";

const scratch = temporaryDirectory("test");
const { uid, gid } = statSync(scratch);

test("the alarm empties every file in place, and its end writes them back", () => {
  const files = new KeyFiles();
  const paths = ["one", "two"].map((name) => join(scratch, name));
  for (const path of paths) files.add(path, `key of ${path}`, uid, gid);
  equal(statSync(paths[0]!).mode & 0o777, 0o400);
  // What a bind mount or an application that has opened it sees.
  const open = openSync(paths[0]!, "r");
  const inode = statSync(paths[0]!).ino;
  for (const round of [1, 2]) {
    files.freeze(true);
    files.freeze(true);
    for (const path of paths) equal(readFileSync(path, "utf8"), "", `round ${round}`);
    equal(readSync(open, Buffer.alloc(8), 0, 8, 0), 0);
    files.freeze(false);
    for (const path of paths) equal(readFileSync(path, "utf8"), `key of ${path}`);
  }
  equal(statSync(paths[0]!).ino, inode);
  closeSync(open);
});

test("a file that is added during the alarm is empty until its end", () => {
  const files = new KeyFiles();
  files.freeze(true);
  const path = join(scratch, "late");
  files.add(path, "key", uid, gid);
  equal(readFileSync(path, "utf8"), "");
  files.freeze(false);
  equal(readFileSync(path, "utf8"), "key");
});

test("what is there already is not written over", () => {
  const path = join(scratch, "planted");
  writeFileSync(path, "");
  throws(() => new KeyFiles().add(path, "key", uid, gid), { code: "EEXIST" });
});
