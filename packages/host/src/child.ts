// SPDX-License-Identifier: Apache-2.0
/** Child processes that cannot outlive us: each ends by its own process id, and all of them when this one exits. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { HostError } from "./errors.ts";

const running = new Set<ChildProcess>();

process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Starts a program. Throws HostError `host/missing-program` when it is not there; `debian` is its package. */
export async function start(
  program: string,
  args: readonly string[],
  debian: string,
  options: SpawnOptions = {},
): Promise<ChildProcess> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  running.add(child);
  child.once("exit", () => running.delete(child));
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (error: NodeJS.ErrnoException) => {
      running.delete(child);
      if (error.code !== "ENOENT") return reject(error);
      const fix = `apt-get install --no-install-recommends ${debian}`;
      reject(new HostError("host/missing-program", `${program} is not installed`, { fix }));
    });
  });
  return child;
}

/** Resolves with the exit status, or the name of the signal that ended it. */
export function exited(child: ChildProcess): Promise<number | NodeJS.Signals> {
  if (child.exitCode !== null) return Promise.resolve(child.exitCode);
  if (child.signalCode !== null) return Promise.resolve(child.signalCode);
  return new Promise((resolve) => {
    child.once("exit", (status, signal) => resolve(status ?? signal ?? 0));
  });
}

/** SIGTERM, then SIGKILL after `graceMs`; resolves when it is gone, at once if it is already. */
export async function end(child: ChildProcess, graceMs = 2_000): Promise<void> {
  const gone = exited(child);
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
  await gone;
  clearTimeout(timer);
}

/** Whether it still runs. */
export const runs = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null;

/** Whether somebody listens on the Unix socket `path` (proc_net(5): in `Flags`, __SO_ACCEPTCON is 10000 in hex). */
function listens(path: string): boolean {
  const rows = readFileSync("/proc/net/unix", "utf8").split("\n");
  return rows.some((row) => row.endsWith(` ${path}`) && row.split(" ")[3] === "00010000");
}

/**
 * Until `child` listens on the Unix socket `path`; that its file is there is not enough, as nobody is let in between
 * bind(2) and listen(2). Throws when `child` ends first or nothing comes within 10 s.
 */
export async function waitForSocket(path: string, child: ChildProcess): Promise<void> {
  const limit = performance.now() + 10_000;
  while (!listens(path)) {
    if (!runs(child)) {
      const how = child.exitCode ?? child.signalCode;
      throw new HostError("host/program-failed", `${child.spawnfile} ended with ${how}`);
    }
    if (performance.now() > limit)
      throw new HostError("host/time-limit", `${child.spawnfile} does not listen on ${path}`);
    await sleep(20);
  }
}
