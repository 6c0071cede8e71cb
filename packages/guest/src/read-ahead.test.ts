// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { limitReadAhead } from "./read-ahead.ts";

test("what reads far ahead is limited, what reads less is left, and a machine without disks is none to fail on", (t) => {
  const root = temporaryDirectory("test", t);
  limitReadAhead(root);
  const before = { vda: "8192\n", "dm-0": "8192\n", vdb: "64\n", vdc: "128\n" };
  for (const [name, value] of Object.entries(before)) {
    mkdirSync(join(root, "sys/block", name, "queue"), { recursive: true });
    writeFileSync(join(root, "sys/block", name, "queue/read_ahead_kb"), value);
  }
  mkdirSync(join(root, "sys/block/odd"));
  limitReadAhead(root);
  const after = Object.keys(before).map((name) => [
    name,
    readFileSync(join(root, "sys/block", name, "queue/read_ahead_kb"), "utf8"),
  ]);
  deepEqual(Object.fromEntries(after), { vda: "128", "dm-0": "128", vdb: "64\n", vdc: "128\n" });
});
