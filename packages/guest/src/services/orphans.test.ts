// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { expect, orphans } from "./orphans.ts";

test("orphans are ended children of PID 1 for which nobody waits, whatever their names hold", (t) => {
  const proc = temporaryDirectory("proc", t);
  const process = (pid: number, stat: string): void => {
    mkdirSync(join(proc, String(pid)));
    writeFileSync(join(proc, String(pid), "stat"), `${pid} ${stat}\n`);
  };
  process(10, "(sh) Z 1 10 10 0");
  process(11, "(a) Z 1) S 7 11 11 0");
  process(12, "(odd) name) Z 1 12 12 0");
  process(13, "(running) S 1 13 13 0");
  process(14, "(another's) Z 13 14 14 0");
  process(15, "(awaited) Z 1 15 15 0");
  mkdirSync(join(proc, "16"));
  mkdirSync(join(proc, "self"));
  const done = expect(15);
  deepEqual(
    orphans(proc).sort((a, b) => a - b),
    [10, 12],
  );
  done();
  deepEqual(
    orphans(proc).sort((a, b) => a - b),
    [10, 12, 15],
  );
});
