// SPDX-License-Identifier: Apache-2.0
/** `caisson up` that is stopped at some moment: it says so, means it with its exit code, and leaves no machine behind. */
import { deepEqual, equal, match } from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { image } from "../support/image.ts";

const repository = new URL("../../", import.meta.url).pathname;
const main = join(repository, "packages/cli/src/main.ts");
const hello = join(repository, "examples/hello");
before(() => image());

/** Ids of the processes that descend from `root`. */
function descendants(root: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "latin1");
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It has ended meanwhile.
    }
  }
  const found = [root];
  for (const at of found) for (const [child, parent] of parents) if (parent === at) found.push(child);
  return found.slice(1);
}

const runs = (pid: number): boolean => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return false;
  }
};

/** Starts `up`, and does `act` once its stderr has said `when`. Tells how it ended, and what of it still runs. */
async function up(when: RegExp, act: (child: ReturnType<typeof spawn>) => void) {
  const child = spawn(process.execPath, [main, "up", hello], { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  let started: number[] | undefined;
  child.stderr!.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
    if (started !== undefined || !when.test(stderr)) return;
    started = descendants(child.pid!);
    act(child);
  });
  const status = await new Promise<number | null>((resolve) => child.once("exit", resolve));
  // The kernel takes a moment to give back a killed machine's gigabytes; who kills it as it ends itself does not wait.
  const left = () => (started ?? []).filter(runs);
  for (const until = performance.now() + 5_000; left().length > 0 && performance.now() < until; )
    await sleep(50);
  return { status, stderr, left: left() };
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  for (const [moment, when] of [
    ["while the image is built", /^guest/m],
    ["while the machine boots", /vCPUs/],
  ] as const) {
    test(`${signal} ${moment}`, async () => {
      const { status, stderr, left } = await up(when, (child) => child.kill(signal));
      equal(status, 130, stderr);
      match(stderr, new RegExp(`\ncaisson up: stopped by ${signal} {3}\\[cli/interrupted\\]\n`));
      equal(/^ +at /m.test(stderr), false, stderr);
      deepEqual(left, []);
    });
  }
}

test("a second signal while the machine is asked to stop: it ends at once, and no machine is left", async () => {
  const { status, left } = await up(/vCPUs/, (child) => {
    child.kill("SIGINT");
    setTimeout(() => child.kill("SIGINT"), 300);
  });
  equal(status, 130);
  deepEqual(left, []);
});

test("a reader of its words that goes away ends the machine, too", async () => {
  const { status, left } = await up(/vCPUs/, (child) => child.stderr!.destroy());
  equal(status, 141);
  deepEqual(left, []);
});

test("a port that is taken is said before anything is built", async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const { port } = server.address() as { port: number };
  const child = spawn(process.execPath, [main, "up", hello, "--port", String(port)]);
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const status = await new Promise<number | null>((resolve) => child.once("exit", resolve));
  equal(status, 75);
  equal(
    stderr,
    `caisson up: port ${port} of 127.0.0.1 cannot be used: it is taken   [up/port]\n  try  another --port, or none: then a free one is taken\n`,
  );
});
