// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

const reporter = new URL("./skips.ts", import.meta.url).href;

test("each way not to run is reported with its reason, and nothing else", (t) => {
  const place = temporaryDirectory("skips", t);
  const file = join(place, "some.test.mjs");
  writeFileSync(
    file,
    `import { suite, test } from "node:test";
    test("runs", () => {});
    test("option", { skip: "no tool" }, () => {});
    test("call", (t) => t.skip("no mirror"));
    // Without a reason, so that the reporter has one of these to name.
    test("bare", { skip: true }, () => {});
    test("later", { todo: "not yet" }, () => {});
    suite("group", { skip: "no root" }, () => { test("inside", () => {}); });
    suite("other", () => { test("nested", (t) => t.skip("no disk")); });`,
  );
  // Its own environment: a test runner within a test runner would report to the outer one.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const said = execFileSync(process.execPath, ["--test", `--test-reporter=${reporter}`, file], {
    env,
    encoding: "utf8",
  });
  deepEqual(said.trimEnd().split("\n"), [
    `${file}\toption\tno tool`,
    `${file}\tcall\tno mirror`,
    `${file}\tbare\tno reason`,
    `${file}\tlater\tnot yet`,
    `${file}\tgroup\tno root`,
    `${file}\tnested\tno disk`,
  ]);
});
