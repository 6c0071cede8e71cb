// SPDX-License-Identifier: Apache-2.0
/** The machine's processes as procfs shows them, and how one ends with all that it started. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const everyMs = 100;
const limitMs = 2_000;

interface Process {
  pid: number;
  /** `Z`: it has ended, and nobody has waited for it. */
  state: string;
  parent: number;
}

/** All of them; `proc` is where procfs is. */
export function processes(proc = "/proc"): Process[] {
  return readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        // "pid (name) state parent …"; the name may hold anything, brackets too (proc_pid_stat(5)).
        const stat = readFileSync(join(proc, name, "stat"), "latin1");
        const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ", 2);
        return [{ pid: Number(name), state: state!, parent: Number(parent) }];
      } catch {
        return []; // It is gone.
      }
    });
}

/** SIGKILL, or another signal, for a process that may have ended meanwhile. */
export function kill(pid: number, signal: NodeJS.Signals = "SIGKILL"): void {
  try {
    if (pid > 1) process.kill(pid, signal);
  } catch {
    // It has.
  }
}

/** What a process started, and what that did. */
function below(root: number): Process[] {
  const all = processes();
  const found: Process[] = [];
  for (let parents = new Set([root]); parents.size > 0; ) {
    const next = all.filter(({ parent }) => parents.has(parent));
    found.push(...next);
    parents = new Set(next.map(({ pid }) => pid));
  }
  return found;
}

/**
 * Ends a process and all that it started, beginning with what started nothing itself, so that whoever started one sees it
 * end. Were a shell killed first, what it runs would fall to the first process of its namespace, which never started it:
 * PostgreSQL takes that for the crash of one of its own, and starts them all again.
 */
export async function endTree(root: number): Promise<void> {
  const limit = performance.now() + limitMs;
  let left = below(root);
  for (; left.length > 0 && performance.now() < limit; left = below(root)) {
    const parents = new Set(left.map(({ parent }) => parent));
    for (const { pid, state } of left) if (state !== "Z" && !parents.has(pid)) kill(pid);
    await sleep(everyMs);
  }
  // One that goes on starting others has to stand still to be ended with the last of them.
  for (const pid of [root, ...left.map(({ pid }) => pid)]) kill(pid, "SIGSTOP");
  for (const { pid } of below(root)) kill(pid);
  kill(root);
}
