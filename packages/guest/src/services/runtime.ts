// SPDX-License-Identifier: Apache-2.0
/**
 * The calls of crun. Each begins inside the service's control group, so that what it starts has the service's limits and
 * sees that group as its own; crun needs no control of control groups, nor the BPF programs that it would load.
 */

import { closeSync, openSync, readFileSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Syscalls } from "../syscalls.ts";
import { expect } from "./orphans.ts";
import type { Place } from "./place.ts";
import { kill } from "./processes.ts";

const program = "/usr/bin/crun";
/** A look at each process besides, should a signal not have come. */
const lookMs = 1000;

/** Resolves when a child has ended, or several: they share a SIGCHLD. */
let ended = Promise.withResolvers<void>();
process.on("SIGCHLD", () => {
  ended.resolve();
  ended = Promise.withResolvers();
});

/** How a process ended, once it has: a child that Node does not know, so its number is asked for. */
export async function ending(
  syscalls: Pick<Syscalls, "reap">,
  pid: number,
  everyMs = lookMs,
): Promise<number> {
  const done = expect(pid);
  try {
    for (;;) {
      const next = ended.promise; // before the look: what ends behind it is not missed
      const status = syscalls.reap(pid);
      if (status !== undefined) return status;
      const over = new AbortController();
      const look = sleep(everyMs, undefined, { signal: over.signal }).catch(() => undefined);
      await Promise.race([next, look]);
      over.abort();
    }
  } finally {
    done();
  }
}

/**
 * The reading end of a pipe as a stream, and its writing end. While the stream is paused, what is written gathers in the
 * pipe and is one piece when it is read: a stream that read ahead would hold each write as a piece of its own.
 */
export function pipe(syscalls: Pick<Syscalls, "pipe">): { stream: Readable; write: number } {
  const [read, write] = syscalls.pipe();
  const options = { fd: read, readable: true, writable: false, highWaterMark: 1 };
  return { stream: new Socket(options), write };
}

/** Standard input and output of a program, in place of an empty pipe and what is read of it. */
export type Given = readonly [input: number, output: number];

/**
 * Runs crun with `output` (a descriptor) as standard output and error; what crun itself says goes to a file. Throws
 * Error with its last words when it fails or is not done after `limitMs`.
 */
export async function crun(
  syscalls: Syscalls,
  place: Place,
  args: readonly string[],
  output: number,
  limitMs: number,
  given?: Given,
): Promise<void> {
  const log = join(place.directory, "crun.log");
  rmSync(log, { force: true });
  const pid =
    given === undefined
      ? startWithout(syscalls, place, log, args, output)
      : start(syscalls, place, log, args, [...given, output]);
  const limit = setTimeout(() => kill(pid), limitMs);
  const status = await ending(syscalls, pid);
  clearTimeout(limit);
  if (status !== 0) {
    throw new Error(`crun ${args[0]} ended with ${status}: ${lastWords(log) ?? "it said nothing"}`);
  }
}

/** Starts crun with three descriptors as its standard streams; its process id. */
export function start(
  syscalls: Syscalls,
  place: Place,
  log: string,
  args: readonly string[],
  streams: readonly [input: number, output: number, errors: number],
): number {
  const options = ["--root", "/run/crun", "--cgroup-manager", "disabled", "--log", log];
  const group = openSync(place.controlGroup, "r");
  try {
    return syscalls.spawn([program, ...options, ...args], [], streams, group);
  } finally {
    closeSync(group);
  }
}

/** The same without input. */
export function startWithout(
  syscalls: Syscalls,
  place: Place,
  log: string,
  args: readonly string[],
  output: number,
): number {
  // Empty, and at its end. Not /dev/null: crun makes its standard streams the service's, and that is everybody's.
  const [input, end] = syscalls.pipe();
  closeSync(end);
  try {
    return start(syscalls, place, log, args, [input, output, output]);
  } finally {
    closeSync(input);
  }
}

/** The last lines of a log of crun's; undefined when it said nothing. */
export function lastWords(log: string): string | undefined {
  try {
    return readFileSync(log, "utf8").trim().split("\n").slice(-3).join(" | ") || undefined;
  } catch {
    return undefined;
  }
}
