// SPDX-License-Identifier: Apache-2.0
/**
 * Starts, watches and stops one service. It is created stopped, in its control group, and started when its limits hold.
 */

import { closeSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Service } from "@caisson/protocol/guest-config";
import { processOf, runtimeConfig, type Share, type Surroundings } from "../sandbox.ts";
import type { SeccompProfile } from "../seccomp.ts";
import type { Syscalls } from "../syscalls.ts";
import { expect } from "./orphans.ts";
import { type Rate, readLimited } from "./output.ts";
import type { Place } from "./place.ts";
import { endTree } from "./processes.ts";
import { crun, ending, type Given, pipe, startWithout } from "./runtime.ts";

const crunLimitMs = 60_000;
const killLimitMs = 5_000;

/** How a run of a service ended. */
export interface Ending {
  /** Exit status, or 128 and the signal. */
  status: number;
  /** Its memory limit in bytes, if that killed something of it. */
  memoryLimit?: number;
  /** Why it was not started at all. */
  fault?: string;
}

/** One run of a service. */
export interface Running {
  readonly pid: number;
  readonly ended: Promise<Ending>;
  /** Its stop signal, then SIGKILL for everything of it after its grace period. */
  stop(): Promise<void>;
  /** Runs a command inside: true when it ended with 0 in time. */
  probe(test: readonly string[], timeoutMs: number): Promise<boolean>;
}

export interface Prepared {
  place: Place;
  service: Service;
  shares: readonly Share[];
  surroundings?: Surroundings;
  /** In place of what every service may ask of the kernel. */
  seccomp?: SeccompProfile;
  /** Whether the image has persistent volumes. */
  onPersistent: boolean;
}

/** Its control group, with limits; once. */
export function makeControlGroup({ controlGroup }: Place, service: Service): void {
  mkdirSync(controlGroup, { recursive: true });
  const set = (name: string, value: string | number): void => {
    writeFileSync(join(controlGroup, name), String(value));
  };
  set("memory.max", service.memory);
  set("memory.oom.group", 1);
  if (existsSync(join(controlGroup, "cpu.weight"))) set("cpu.weight", service.cpuWeight ?? 100);
  // Microseconds of a period of as many.
  if (service.cpus !== undefined) set("cpu.max", `${service.cpus * 100} 100000`);
}

/** Starts a service that was prepared; it may have run before. `onLine` gets what it prints. */
export async function launch(
  syscalls: Syscalls,
  prepared: Prepared,
  rate: Rate,
  onLine: (line: string) => void,
  given?: Given,
): Promise<Running> {
  const { place, service } = prepared;
  const { controlGroup } = place;
  writeBundle(prepared);
  const killsBefore = memoryKills(controlGroup);
  // crun's own processes are not the service's.
  writeFileSync(join(controlGroup, "pids.max"), "max");
  const { stream, write } = pipe(syscalls);
  let pid = 0;
  let done = (): void => {};
  try {
    const pidFile = join(place.directory, "pid");
    const create = ["create", "--bundle", place.bundle, "--pid-file", pidFile, place.id];
    await crun(syscalls, place, create, write, crunLimitMs, given);
    writeFileSync(join(controlGroup, "pids.max"), String(service.pids));
    pid = Number(readFileSync(pidFile, "utf8"));
    // It may have ended before it is waited for.
    done = expect(pid);
    await crun(syscalls, place, ["start", place.id], write, crunLimitMs);
  } catch (error) {
    stream.destroy();
    done();
    await empty(controlGroup);
    await forget(syscalls, place);
    throw error;
  } finally {
    closeSync(write);
  }
  const drain = readLimited(stream, rate, onLine);
  let running = true;
  const ended = ending(syscalls, pid).then(async (status): Promise<Ending> => {
    running = false;
    // Whatever is left of it, and what crun remembers: the next run finds neither.
    await empty(controlGroup);
    await drain();
    await forget(syscalls, place);
    return {
      status,
      ...(memoryKills(controlGroup) > killsBefore && { memoryLimit: service.memory }),
    };
  });
  return {
    pid,
    ended,
    async stop() {
      // Not reaped, so the number is still its own.
      if (running) process.kill(pid, service.stopSignal);
      await Promise.race([ended, sleep(service.stopGraceMs, undefined, { ref: false })]);
      if (running) writeFileSync(join(controlGroup, "cgroup.kill"), "1");
      await Promise.race([ended, sleep(2 * killLimitMs, undefined, { ref: false })]);
    },
    probe: (test, timeoutMs) => probe(syscalls, { place, service }, test, timeoutMs),
  };
}

/** What crun starts it by. */
function writeBundle({ place, service, shares, surroundings, onPersistent, seccomp }: Prepared): void {
  mkdirSync(place.bundle, { recursive: true, mode: 0o700 });
  const config = runtimeConfig(service, shares, {
    ...(surroundings && { surroundings }),
    ...(seccomp && { seccomp }),
    onPersistent,
  });
  writeFileSync(join(place.bundle, "config.json"), JSON.stringify(config));
}

/** What crun knows of a service that has ended, or was never started. */
async function forget(syscalls: Syscalls, place: Place): Promise<void> {
  const { stream, write } = pipe(syscalls);
  stream.resume();
  try {
    await crun(syscalls, place, ["delete", "--force", place.id], write, crunLimitMs);
  } catch {
    // It knows nothing.
  } finally {
    closeSync(write);
  }
}

const memoryKills = (controlGroup: string): number =>
  Number(/^oom_kill (\d+)/m.exec(readFileSync(join(controlGroup, "memory.events"), "utf8"))?.[1] ?? 0);

/** Kills what is in a control group and waits until nothing is. */
async function empty(controlGroup: string): Promise<void> {
  writeFileSync(join(controlGroup, "cgroup.kill"), "1");
  const limit = performance.now() + killLimitMs;
  while (performance.now() < limit) {
    if (/^populated 0/m.test(readFileSync(join(controlGroup, "cgroup.events"), "utf8"))) return;
    await sleep(20);
  }
}

/** A process of the service's user beside it, with no more power than it has. */
async function probe(
  syscalls: Syscalls,
  { place, service }: Pick<Prepared, "place" | "service">,
  test: readonly string[],
  timeoutMs: number,
): Promise<boolean> {
  const file = join(place.bundle, "probe.json");
  writeFileSync(file, JSON.stringify(processOf(service, test)));
  const { stream, write } = pipe(syscalls);
  stream.resume();
  const args = ["exec", "--process", file, place.id];
  const log = join(place.directory, "probe.log");
  rmSync(log, { force: true });
  let pid: number;
  try {
    pid = startWithout(syscalls, place, log, args, write);
  } catch (error) {
    stream.destroy();
    throw error;
  } finally {
    closeSync(write);
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    void endTree(pid);
  }, timeoutMs);
  const status = await ending(syscalls, pid);
  clearTimeout(timer);
  stream.destroy();
  return status === 0 && !late;
}
