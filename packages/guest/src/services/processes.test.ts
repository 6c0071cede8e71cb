// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { endTree, processes } from "./processes.ts";

/** Started, and so far that it waits for `sleep`, which it started itself. */
async function waiting(script: string) {
  const child = spawn("sh", ["-c", script], { stdio: "ignore", env: { PATH: process.env.PATH } });
  const ended = once(child, "exit");
  while (!processes().some(({ parent }) => parent === child.pid))
    await new Promise((look) => setTimeout(look, 20));
  return { pid: child.pid!, ended };
}

test("a tree of processes ends from its ends: each sees what it started end, and says its own", async () => {
  const shell = await waiting("sh -c 'sleep 600; exit 5'; exit $(($? + 2))");
  await endTree(shell.pid);
  deepEqual(await shell.ended, [7, null]);
});

test("one that goes on starting others is ended, too, and what it started last", async (t) => {
  const place = temporaryDirectory("tree", t);
  // Each of them has it open.
  const fifo = join(place, "held");
  execFileSync("mkfifo", [fifo]);
  const shell = await waiting(`exec 3<>${fifo}; while :; do sleep 600; done`);
  await endTree(shell.pid);
  deepEqual(await shell.ended, [null, "SIGKILL"]);
  const holders = processes().filter(({ pid }) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/3`) === fifo;
    } catch {
      return false;
    }
  });
  deepEqual(holders, []);
});
