// SPDX-License-Identifier: Apache-2.0
/**
 * Processes that came to PID 1 because whoever started them is gone: a health check whose crun was killed. One that has
 * ended and is not waited for holds its process namespace, so that a service would never be seen to end.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Syscalls } from "../syscalls.ts";

const everyMs = 2_000;
/** Those that somebody waits for by their number. */
const awaited = new Set<number>();

/** Says that somebody waits for a process, until the returned function is called. */
export function expect(pid: number): () => void {
  awaited.add(pid);
  return () => awaited.delete(pid);
}

/** Ended children of PID 1 for which nobody waits; `proc` is where procfs is. */
export function orphans(proc = "/proc"): number[] {
  return readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      if (awaited.has(pid)) return false;
      try {
        // "pid (name) state parent …"; the name may hold anything, brackets too (proc_pid_stat(5)).
        const stat = readFileSync(join(proc, String(pid), "stat"), "latin1");
        return stat.startsWith(" Z 1 ", stat.lastIndexOf(")") + 1);
      } catch {
        return false; // It is gone.
      }
    });
}

/** Waits for orphans, again and again. */
export function reapOrphans(syscalls: Pick<Syscalls, "reap">): void {
  setInterval(() => {
    for (const pid of orphans()) {
      try {
        syscalls.reap(pid);
      } catch {
        // Somebody else was faster.
      }
    }
  }, everyMs).unref();
}
