// SPDX-License-Identifier: Apache-2.0
/** RTMR0 compared event by event: what a host may choose (the SMBIOS tables that name its processor), and nothing else. */
import { deepEqual, equal, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import type { TdReport } from "../intel/quote.ts";
import { Answers } from "../report.ts";
import { checkBootLog } from "./boot-log.ts";
import { readPolicy } from "./policy.ts";
import { readReferences } from "./reference.ts";
import { checkRegisters } from "./registers.ts";

const digest = (text: string) => createHash("sha384").update(text).digest("hex");
const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));
const register = (events: readonly string[]) =>
  events.reduce(
    (value, event) => createHash("sha384").update(value).update(bytes(event)).digest(),
    Buffer.alloc(48),
  );

const events = ["hob", "cfv", "acpi", "smbios of the reference", "boot order"].map(digest);
const SMBIOS = 3;
const wanted = events.map((event, i) => (i === SMBIOS ? "smbios" : event));
const others = { mrtd: "a1".repeat(48), rtmr1: register([]).toString("hex"), rtmr2: "00".repeat(48) };
const zeros = new Uint8Array(48);

/** What is found where the guest measured `measured` and hands out `log`. */
async function judge(
  measured: readonly string[],
  { log = measured, reference = { ...others, rtmr0Events: wanted } as object, registers = {} } = {},
) {
  const policy = readPolicy({ version: "caisson/policy/v1", registers: { rtmr0: "by-event", ...registers } });
  const td = {
    mrTd: bytes(others.mrtd),
    rtmrs: [new Uint8Array(register(measured)), zeros, zeros, zeros],
  } as Partial<TdReport> as TdReport;
  const bootLog =
    log.length === 0
      ? {}
      : {
          bootLog: {
            format: "events" as const,
            events: log.map((event) => ({ register: 0 as const, digest: bytes(event) })),
          },
        };
  const answers = new Answers();
  const proven = await checkBootLog(
    { platform: "tdx", quote: new Uint8Array(), ...bootLog },
    td,
    policy,
    answers,
  );
  checkRegisters(td, proven, "tdx", policy, readReferences(reference, "reference"), answers);
  const list = answers.list([
    "registers/mrtd",
    "registers/rtmr0",
    "registers/rtmr1",
    "registers/rtmr2",
    "registers/reference",
  ]);
  return { codes: list.flatMap(({ code }) => code ?? []), rtmr0: list[1]! };
}

const replaced = (at: number, text: string) => events.map((event, i) => (i === at ? digest(text) : event));

test("another processor's SMBIOS tables are accepted, and shown", async () => {
  const host = replaced(SMBIOS, "smbios of another processor");
  const { codes, rtmr0 } = await judge(host);
  deepEqual(codes, []);
  equal(rtmr0.outcome, "pass");
  equal(rtmr0.actual!.includes(host[SMBIOS]!), true);
});

for (const at of events.keys()) {
  if (at === SMBIOS) continue;
  test(`another event ${at + 1} is refused, and named`, async () => {
    const { codes, rtmr0 } = await judge(replaced(at, "other ACPI tables"));
    deepEqual(codes, ["registers/rtmr0", "registers/no-match"]);
    equal(rtmr0.expected, `event ${at + 1} of 5: ${events[at]}`);
    equal(rtmr0.actual, `event ${at + 1} of 5: ${digest("other ACPI tables")}`);
  });
}

for (const [name, measured] of [
  ["one event more at the end", [...events, digest("more")]],
  ["one event more behind the SMBIOS tables", events.toSpliced(SMBIOS + 1, 0, digest("more"))],
  ["no SMBIOS event", events.toSpliced(SMBIOS, 1)],
  ["no last event", events.slice(0, -1)],
  ["two events in the other order", [events[1]!, events[0]!, ...events.slice(2)]],
] as const) {
  test(`refused: ${name}`, async () => {
    deepEqual((await judge(measured)).codes, ["registers/rtmr0", "registers/no-match"]);
  });
}

test("a log that is not this TD's proves nothing: the reference's own events do not help", async () => {
  const { codes, rtmr0 } = await judge(replaced(2, "other ACPI tables"), { log: events });
  deepEqual(codes, ["registers/rtmr0-log", "registers/no-match"]);
  equal(rtmr0.outcome, "fail");
});

test("without a log: only a reference that fixes the whole register", async () => {
  deepEqual((await judge(events, { log: [] })).codes, ["registers/rtmr0-log", "registers/no-match"]);
  const reference = { ...others, rtmr0: register(events).toString("hex") };
  deepEqual((await judge(events, { log: [], reference })).codes, []);
});

test("a reference without events does not cover it", async () => {
  deepEqual((await judge(events, { reference: others })).codes, ["registers/not-covered"]);
});

test("a policy that compares RTMR0 whole does not look at events", async () => {
  const policy = readPolicy({ version: "caisson/policy/v1" });
  const td = {
    mrTd: bytes(others.mrtd),
    rtmrs: [new Uint8Array(register(events)), zeros, zeros, zeros],
  } as Partial<TdReport> as TdReport;
  const answers = new Answers();
  checkRegisters(
    td,
    events,
    "tdx",
    policy,
    readReferences({ ...others, rtmr0Events: wanted }, "reference"),
    answers,
  );
  equal(answers.list(["registers/reference"])[0]!.code, "registers/not-covered");
});

test("a prediction gives its events, the processor's own as such; another open event leaves it uncovered", () => {
  const row = (digest: string | undefined, source: string) => ({
    register: "rtmr0",
    source,
    ...(digest !== undefined && { digest }),
  });
  const prediction = (...rows: object[]) => ({
    platform: "tdx",
    registers: { rtmr1: { value: others.rtmr1 } },
    events: [{ register: "rtmr1", source: "kernel", digest: digest("kernel") }, ...rows],
  });
  const read = (...rows: object[]) => readReferences(prediction(...rows), "p")[0]!.rtmr0Events;
  const known = row(events[0], "firmware");
  deepEqual(read(known, row(undefined, "smbios")), [events[0], "smbios"]);
  // Known here, from --processor-id or a TCG machine: still the host's to choose.
  deepEqual(read(known, row(digest("ours"), "smbios")), [events[0], "smbios"]);
  equal(read(known, row(undefined, "acpi")), undefined);
  equal(read(), undefined);
  throws(() => read(row("00", "firmware")), { code: "reference/malformed" });
});

for (const [name, registers] of [
  ["RTMR0 open without the second word", { rtmr0: "any" }],
  ["the second word alone", { hostAcpi: "any" }],
  ["the second word where RTMR0 is compared by event", { rtmr0: "by-event", hostAcpi: "any" }],
  ["another register by event", { rtmr1: "by-event" }],
] as const) {
  test(`refused policy: ${name}`, () => {
    throws(() => readPolicy({ version: "caisson/policy/v1", registers }), { code: "policy/malformed" });
  });
}

test("RTMR0 is open only with both words", () => {
  const registers = { rtmr0: "any", hostAcpi: "any" };
  deepEqual(readPolicy({ version: "caisson/policy/v1", registers }).registers, registers);
});
