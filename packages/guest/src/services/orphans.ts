// SPDX-License-Identifier: Apache-2.0
/**
 * Processes that came to PID 1 because whoever started them is gone: a health check whose crun was killed. One that has
 * ended and is not waited for holds its process namespace, so that a service would never be seen to end.
 */
import type { Syscalls } from "../syscalls.ts";
import { processes } from "./processes.ts";

const everyMs = 2_000;
/** Those that somebody waits for by their number. */
const awaited = new Set<number>();

/** Says that somebody waits for a process, until the returned function is called. */
export function expect(pid: number): () => void {
  awaited.add(pid);
  return () => awaited.delete(pid);
}

/** Ended children of PID 1 for which nobody waits; `proc` is where procfs is. */
export function orphans(proc?: string): number[] {
  return processes(proc)
    .filter(({ pid, state, parent }) => state === "Z" && parent === 1 && !awaited.has(pid))
    .map(({ pid }) => pid);
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
