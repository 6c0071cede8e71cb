// SPDX-License-Identifier: Apache-2.0
/**
 * The emulation driver's frequency of the time-stamp counter (kernel/driver/tsc-frequency.c), as a program with the
 * sanitizers, against clocks that the harness runs: a virtual processor may lose its turn between any two readings.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { before, test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { driverProgram } from "../support/driver-program.ts";

const place = temporaryDirectory("tsc-frequency");

let program: (input: string) => Promise<string[]>;
before(async () => {
  program = await driverProgram("tsc-frequency", place);
});

/** The answer in kHz, how often the timer was read, and whether interrupts stayed away. */
async function ask(...lines: string[]) {
  const [name, khz, readings, interrupts] = (await program(`${lines.join("\n")}\n`))[0]!.split(" ");
  equal(name, "caisson.flavour");
  equal(interrupts, "undisturbed");
  return { khz: Number(khz), readings: Number(readings) };
}

const exact = (khz: number, found: number) =>
  ok(Math.abs(found - khz) <= khz / 1000, `${found} kHz for ${khz}`);

for (const khz of [1_000_000, 2_592_000, 5_000_000]) {
  test(`${khz} kHz is found to a thousandth`, async () => {
    exact(khz, (await ask(`tsc ${khz}`)).khz);
  });
}

test("the timer's 24 bits wrap in between", async () => {
  // Soon after the first reading, and when a window is nearly over.
  for (const left of [1000, 60_000]) exact(2_592_000, (await ask(`timer ${2 ** 24 - left}`)).khz);
});

test("the processor loses its turn in the first reading, in many of the first, in the last: measured again", async () => {
  for (const [from, to, ns] of [
    [1, 1, 1_000_000],
    [1, 1, 30_000_000],
    [1, 5000, 50_000],
    [20_000, 25_000, 100_000],
  ]) {
    exact(2_592_000, (await ask(`late ${from} ${to} ${ns}`)).khz);
  }
});

test("no window was exact enough: no answer, in bounded time", async () => {
  const { khz, readings } = await ask("late 1 20000000 1000000");
  equal(khz, 0);
  ok(readings < 5000, `${readings} readings`);
});

test("a timer that stands still is given up", async () => {
  equal((await ask("still")).khz, 0);
});

test("what the processor says counts, and no timer is read", async () => {
  deepEqual(await ask("cpuid 1234567", "tsc 2000000"), { khz: 1_234_567, readings: 0 });
});

test("another bridge: no port of it is read", async () => {
  deepEqual(await ask("bridge 70008086 601"), { khz: 0, readings: 0 });
});

test("the timer is where the bridge says, without the bits that are not address", async () => {
  exact(2_592_000, (await ask("bridge 29188086 607")).khz);
  equal((await ask("bridge 29188086 681")).khz, 0);
});
