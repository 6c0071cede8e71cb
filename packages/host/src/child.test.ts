// SPDX-License-Identifier: Apache-2.0
import { equal, match, rejects } from "node:assert/strict";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { end, start, waitForSocket } from "./child.ts";

const scratch = temporaryDirectory("test");

test("a socket is waited for until somebody listens on it, not until its file is there", async () => {
  const path = join(scratch, "a.sock");
  const child = await start("sleep", ["60"], "coreutils");
  try {
    writeFileSync(path, "");
    const waiting = waitForSocket(path, child).then(() => "listens");
    equal(await Promise.race([waiting, sleep(200, "waits")]), "waits");
    rmSync(path);
    const server = createServer().listen(path);
    equal(await waiting, "listens");
    server.close();
  } finally {
    await end(child);
  }
});

test("a program that does not end when it is asked to is killed", async () => {
  const child = await start("sh", ["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], "dash");
  await once(child.stdout!, "data");
  await end(child, 50);
  equal(child.signalCode, "SIGKILL");
});

test("whoever should listen may end first", async () => {
  const child = await start("sh", ["-c", "exit 3"], "dash");
  await rejects(waitForSocket(join(scratch, "b.sock"), child), (error: Error) => {
    match(error.message, /^sh ended with 3$/);
    return true;
  });
});
