// SPDX-License-Identifier: Apache-2.0
/**
 * What a virtual machine costs its host, counted in processor time: other work on the host, which makes any rate of requests
 * differ from minute to minute, changes that little.
 */
import { readFileSync } from "node:fs";
import { processes } from "@caisson/guest/processes";

/** Of /proc (sysconf(3), _SC_CLK_TCK). */
const ticks = 100;

/** Seconds of processor that the one machine of this process has taken, in all its threads (proc_pid_stat(5)). */
function emulatorSeconds(): number {
  const own = processes().filter(({ parent }) => parent === process.pid);
  const { pid } = own.find((one) => readFileSync(`/proc/${one.pid}/comm`, "utf8").startsWith("qemu-system"))!;
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticks;
}

/** How often something is asked at once: few times, and many times. */
export type Counts = readonly [few: number, many: number];

/** Few, many, few and so on: of each the least counts, as a neighbour on the same core makes all of them dearer. */
export const repeated = (counts: Counts): number[] => [...counts, ...counts, ...counts];

/** Looks before the first of `repeated`, and behind each. What starts and ends an asking is in few and in many, and goes out. */
export class Asking {
  readonly #seconds: number[] = [];

  look(): void {
    this.#seconds.push(emulatorSeconds());
  }

  /** Microseconds of processor for each one more. */
  each([few, many]: Counts): number {
    const took = this.#seconds.slice(1).map((seconds, n) => seconds - this.#seconds[n]!);
    const least = (from: number): number => Math.min(...took.filter((_, n) => n % 2 === from));
    return (1e6 * (least(1) - least(0))) / (many - few);
  }
}
