// SPDX-License-Identifier: Apache-2.0
/**
 * The emulation driver's registers and reports (kernel/driver/tdx-emulation.c), as a program with the sanitizers: what of
 * which register is in a quote, which locks are held, and what is left of a start that fails.
 */
import { deepEqual, equal } from "node:assert/strict";
import { createHash } from "node:crypto";
import { constants } from "node:os";
import { before, test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { driverProgram } from "../support/driver-program.ts";

const place = temporaryDirectory("tdx-emulation");

let program: (input: string) => Promise<string[]>;
before(async () => {
  program = await driverProgram("tdx-emulation", place);
});
const play = (...steps: string[]) => program(`${steps.join("\n")}\n`);

const { EINTR, EINVAL, EIO, ENODEV, ENOMEM, ENOTTY } = constants.errno;
const of = (byte: number, times = 48) => Buffer.alloc(times, byte).toString("hex");

/** The body that the service was asked to sign, field by field. */
function fields(body: string) {
  const names = [
    ["teeTcbSvn", 16],
    ["mrSeam", 48],
    ["mrSignerSeam", 48],
    ["seamAttributes", 8],
    ["tdAttributes", 8],
    ["xfam", 8],
    ...["mrTd", "mrConfigId", "mrOwner", "mrOwnerConfig", "rtmr0", "rtmr1", "rtmr2", "rtmr3"].map(
      (name) => [name, 48] as const,
    ),
    ["reportData", 64],
  ] as const;
  let at = 0;
  const found = names.map(([name, size]) => [name, body.slice(2 * at, 2 * (at += size))]);
  equal(body.length, 2 * at);
  return Object.fromEntries(found) as Record<string, string>;
}

test("eight registers: four that can be extended, one hash, three plain values", async () => {
  const [, line] = await play("init", "registers");
  const [readable, extendable, plain] = [4, 4 | 2 | 8, 4 | 1];
  deepEqual(line!.split(" "), [
    ...[0, 1, 2, 3].map((index) => `rtmr${index},48,${extendable}`),
    `mrtd,48,${readable}`,
    ...["mrconfigid", "mrowner", "mrownerconfig"].map((name) => `${name},48,${plain}`),
    "refreshed",
  ]);
});

test("a quote holds every register in its place, the report data, and nothing of a module that is not there", async () => {
  const [, line] = await play("init", "quote 64 a5");
  const [result, held, body] = line!.split(" ");
  deepEqual([result, held], ["0", "0"]);
  deepEqual(fields(body!), {
    teeTcbSvn: of(0, 16),
    mrSeam: of(0),
    mrSignerSeam: of(0),
    seamAttributes: of(0, 8),
    tdAttributes: "0000001000000000",
    xfam: "e700000000000000",
    mrTd: of(5),
    mrConfigId: of(6),
    mrOwner: of(7),
    mrOwnerConfig: of(8),
    rtmr0: of(1),
    rtmr1: of(2),
    rtmr2: of(3),
    rtmr3: of(4),
    reportData: of(0xa5, 64),
  });
});

test("extending changes that register alone, and the next quote has it", async () => {
  const [, extended, line] = await play("init", "extend rtmr3 11", "quote 64 00");
  const value = createHash("sha384").update(Buffer.alloc(48, 4)).update(Buffer.alloc(48, 0x11)).digest("hex");
  equal(extended, `0 ${value}`);
  const { rtmr2, rtmr3 } = fields(line!.split(" ")[2]!);
  deepEqual([rtmr2, rtmr3], [of(3), value]);
});

test("report data of another size than 64 bytes is refused, and nobody is asked", async () => {
  for (const size of [0, 63]) {
    const [, line] = await play("init", `quote ${size} 01`);
    equal(line, `${-EINVAL} 0 ${of(0, 584)}`);
  }
});

test("a signal while a lock is waited for ends the call, and every lock is given back", async () => {
  const [, extended, first, second, after] = await play(
    "init",
    "interrupt 0",
    "extend rtmr0 01",
    "quote 64 01",
    "interrupt 1",
    "quote 64 01",
    "interrupt -1",
    "quote 64 02",
  );
  equal(extended, `${-EINTR} ${of(1)}`);
  for (const line of [first, second]) equal(line, `${-EINTR} 0 ${of(0, 584)}`);
  equal(after!.startsWith("0 0 "), true);
});

test("the service's error is the caller's", async () => {
  const [, line] = await play("init", `fails channel ${-EIO}`, "quote 64 01");
  equal(line!.split(" ")[0], `${-EIO}`);
});

test("the names and attributes are the in-tree driver's, and there is no ioctl", async () => {
  deepEqual((await play("init", "visible", "ioctl")).slice(1), [
    "11000 1100 tdx_guest tdx_guest",
    `${-ENOTTY}`,
  ]);
});

test("a boot log that is refused leaves no device; a serial port that cannot be used leaves one without quotes", async () => {
  deepEqual(await play(`fails log ${-EINVAL}`, "init"), [`${-EINVAL}`]);
  deepEqual(await play(`fails channel ${-ENODEV}`, "init"), ["0 registers device reports"]);
});

test("a start that fails half-way leaves nothing behind", async () => {
  for (const what of ["group", "misc", "report"]) {
    deepEqual(await play(`fails ${what} ${-ENOMEM}`, "init"), [`${-ENOMEM}`], what);
  }
});
