// SPDX-License-Identifier: Apache-2.0
import { equal, ok } from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { ending } from "./runtime.ts";

test("the end of a child is seen when it is signalled, not at the next look", {
  timeout: 30_000,
}, async () => {
  let status: number | undefined;
  let looks = 0;
  const seen = ending({ reap: () => (looks++, status) }, 4_000_000, 600_000);
  const child = spawn("sleep", ["0.2"]);
  child.once("exit", () => {
    status = 7;
    // Its signal came first; that of another child is as good.
    spawn("true");
  });
  equal(await seen, 7);
  ok(looks <= 4, `${looks} looks`);
});

test("without a signal it is looked for", async () => {
  let looks = 0;
  equal(await ending({ reap: () => (++looks > 1 ? 0 : undefined) }, 4_000_001, 10), 0);
  equal(looks, 2);
});
