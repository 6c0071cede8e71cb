// SPDX-License-Identifier: Apache-2.0
/**
 * The parser in the emulation driver (kernel/driver/boot-log.c), as a program with the address and undefined-behaviour
 * sanitizers, over real logs, every beginning of one, and logs that somebody changed. The log is memory of the host's
 * firmware: the driver must refuse or give the registers that our own replay gives, and read nothing beyond it.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { measuredEvents, parseEventLog } from "@caisson/measure";
import { fold } from "@caisson/measure/rtmr";
import { replayPcrs } from "@caisson/measure/tpm-log";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { driverProgram } from "../support/driver-program.ts";

const vectors = new URL("../../packages/measure/vectors/trial", import.meta.url).pathname;

const place = temporaryDirectory("boot-log");

const flag = { none: 0, noTpm: 1, noLog: 2, unreadable: 4 };
interface Case {
  log: Uint8Array;
  pcrs: Uint8Array;
  flags?: number;
}

let program: (input: Uint8Array) => Promise<string[]>;
before(async () => {
  program = await driverProgram("boot-log", place);
});

/** Result and registers (hex) of each case. */
async function replayed(cases: readonly Case[]): Promise<{ result: number; registers: string }[]> {
  const parts = cases.flatMap(({ log, pcrs, flags = flag.none }) => {
    const head = Buffer.alloc(8);
    head.writeUInt32LE(flags, 0);
    head.writeUInt32LE(log.length, 4);
    return [head, log, pcrs];
  });
  const lines = await program(Buffer.concat(parts));
  equal(lines.length, cases.length);
  return lines.map((line) => {
    const space = line.indexOf(" ");
    return { result: Number(line.slice(0, space)), registers: line.slice(space + 1) };
  });
}

/** A real log, what a TPM held after it, and the registers that follow from it. */
const genuine = (file: string) => explained(readFileSync(join(vectors, file)));

async function explained(log: Buffer) {
  const parsed = parseEventLog(log);
  const held = await replayPcrs(parsed);
  const pcrs = Buffer.concat(Array.from({ length: 16 }, (_, pcr) => held.get(pcr) ?? new Uint8Array(48)));
  const events = measuredEvents(parsed, "pcr");
  const registers: string[] = [];
  for (const name of ["mrtd", "rtmr0", "rtmr1", "rtmr2"]) {
    const digests = events.filter(({ register }) => register === name).map(({ digest }) => digest);
    registers.push(Buffer.from(await fold(digests)).toString("hex"));
  }
  return { log, pcrs, registers: registers.join(" ") };
}

const logs = readdirSync(vectors).filter((name) => name.endsWith(".tcg2"));
const newest = await genuine(logs.at(-1)!);

test("real logs give the registers of our own replay", async () => {
  deepEqual(logs, [
    "ovmf-2022.11-direct-boot.tcg2",
    "ovmf-2025.02-direct-boot.tcg2",
    "ovmf-2026.08-direct-boot.tcg2",
  ]);
  const cases = await Promise.all(logs.map(genuine));
  for (const [i, { result, registers }] of (await replayed(cases)).entries()) {
    ok(result > 10, `${logs[i]}: ${result} events`);
    equal(registers, cases[i]!.registers, logs[i]!);
  }
});

const { ENODEV, EINVAL, EIO } = constants.errno;
/** asm-generic/errno.h; Node does not name it. */
const EKEYREJECTED = 129;

const refused: Record<string, { change: (usual: Case) => Partial<Case>; errno: number }> = {
  "no TPM": { change: () => ({ flags: flag.noTpm }), errno: ENODEV },
  "no log": { change: () => ({ flags: flag.noLog }), errno: ENODEV },
  "a TPM without the SHA-384 bank": { change: () => ({ flags: flag.unreadable }), errno: EIO },
  "an empty log": { change: () => ({ log: new Uint8Array() }), errno: EINVAL },
  "one bit of PCR 15 that the log does not explain": {
    change: ({ pcrs }) => ({ pcrs: Buffer.from(pcrs).fill(1, 15 * 48, 15 * 48 + 1) }),
    errno: EKEYREJECTED,
  },
  "the same events for the PCRs of another boot": {
    change: ({ pcrs }) => ({ pcrs: Buffer.from(pcrs).fill(7, 4 * 48, 5 * 48) }),
    errno: EKEYREJECTED,
  },
  "zeros behind the last event": {
    change: ({ log }) => ({ log: Buffer.concat([log, new Uint8Array(3)]) }),
    errno: EINVAL,
  },
  "an event without digests": {
    change: ({ log }) => ({ log: Buffer.concat([log, event(4, 0x0d, [])]) }),
    errno: EINVAL,
  },
  "an event for PCR 16": {
    change: ({ log }) => ({ log: Buffer.concat([log, event(16, 0x0d, [[0x0c, 48]])]) }),
    errno: EINVAL,
  },
  "an event for PCR 2^32 - 1": {
    change: ({ log }) => ({ log: Buffer.concat([log, event(0xffffffff, 0x0d, [[0x0c, 48]])]) }),
    errno: EINVAL,
  },
  "a digest of an algorithm that the header does not name": {
    change: ({ log }) => ({ log: Buffer.concat([log, event(4, 0x0d, [[0x7777, 48]])]) }),
    errno: EINVAL,
  },
  "more digests than algorithms": {
    change: ({ log }) => ({ log: Buffer.concat([log, event(4, 0x0d, Array(9).fill([0x0c, 48]))]) }),
    errno: EINVAL,
  },
  "event data of 4 GiB": {
    change: ({ log }) => ({ log: Buffer.concat([log, event(4, 0x0d, [[0x0c, 48]], 0xffffffff)]) }),
    errno: EINVAL,
  },
};

/** A TCG_PCR_EVENT2 with digests of zeros and no data, whatever length it states. */
function event(pcr: number, type: number, digests: readonly (readonly number[])[], length = 0): Buffer {
  const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
  const parts = digests.map(([id, size]) =>
    Buffer.concat([Buffer.from([id! & 0xff, id! >> 8]), Buffer.alloc(size!)]),
  );
  return Buffer.concat([u32(pcr), u32(type), u32(digests.length), ...parts, u32(length)]);
}

for (const [what, { change, errno }] of Object.entries(refused)) {
  test(`refused: ${what}`, async () => {
    const [answer] = await replayed([{ ...newest, ...change(newest) }]);
    equal(answer!.result, -errno);
  });
}

/** Where the events begin: behind the first, which has the old format. */
const header = 32 + newest.log.readUInt32LE(28);

test("the locality that started the TPM is PCR 0's first value", async () => {
  const data = Buffer.from("StartupLocality\0\x03", "latin1");
  const named = Buffer.concat([event(0, 0x03, [[0x0c, 48]], data.length), data]);
  const log = Buffer.concat([newest.log.subarray(0, header), named, newest.log.subarray(header)]);
  const { pcrs, registers } = await explained(log);
  const [answer, without] = await replayed([
    { log, pcrs },
    { log, pcrs: newest.pcrs },
  ]);
  ok(answer!.result > 10);
  equal(answer!.registers, registers);
  equal(without!.result, -EKEYREJECTED);
});

test("refused: a SHA-384 bank whose digests have 32 bytes, although they are there", async () => {
  const log = Buffer.concat([
    newest.log.subarray(0, header),
    event(4, 0x0d, [[0x0c, 32]], 64),
    Buffer.alloc(64),
  ]);
  const bank = log.indexOf(Buffer.from([0x0c, 0, 48, 0]));
  ok(bank > 0 && bank < header);
  log[bank + 2] = 32;
  const [answer] = await replayed([{ log, pcrs: newest.pcrs }]);
  equal(answer!.result, -EINVAL);
});

test("every beginning of a log is refused", async () => {
  const cases = Array.from({ length: newest.log.length }, (_, length) => ({
    log: newest.log.subarray(0, length),
    pcrs: newest.pcrs,
  }));
  for (const [length, { result }] of (await replayed(cases)).entries()) {
    ok(result === -EINVAL || result === -EKEYREJECTED, `${length} bytes: ${result}`);
  }
});

test("a changed byte is refused, or it is one that no register depends on", async () => {
  const cases = Array.from(newest.log, (byte, at) => {
    const log = Buffer.from(newest.log);
    log[at] = byte ^ (1 << (at % 8));
    return { log, pcrs: newest.pcrs };
  });
  const answers = await replayed(cases);
  for (const [at, { result, registers }] of answers.entries()) {
    if (result >= 0) equal(registers, newest.registers, `byte ${at}`);
  }
  const refusals = answers.filter(({ result }) => result < 0).length;
  ok(refusals > newest.log.length / 3, `${refusals} of ${newest.log.length} refused`);
});
