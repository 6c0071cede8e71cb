// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, ok } from "node:assert/strict";
import test from "node:test";
import { toHex } from "@caisson/vocabulary/bytes";
import { ACPI_TABLES } from "../formats/acpi-tables.ts";
import type { MeasuredEvent } from "../logs/event-log.ts";
import { acpiTables, firmware, gptDisk, kernel, noise, pe } from "../testing/synthetic.ts";
import { explainLog } from "./explain.ts";
import { predict } from "./predict.ts";
import type { PredictInput } from "./prediction.ts";

const GIB = 2 ** 30;
const direct = { method: "direct", kernel: kernel(), commandLine: "console=ttyS0 quiet" } as const;
const base: PredictInput = {
  platform: "tdx",
  firmware: firmware(),
  firmwareRelease: "202502",
  boot: direct,
  memory: 4 * GIB,
  qemu: "10.0.13",
  acpi: { [ACPI_TABLES]: acpiTables() },
};

/** The log that a guest made from `input` would write; open events get a digest of their own. */
async function boot(input: PredictInput): Promise<MeasuredEvent[]> {
  return (await predict(input)).events.map(({ register, type, digest }) => ({
    register,
    type,
    digest: digest === undefined ? noise(48, 99) : Uint8Array.fromHex(digest),
    data: new Uint8Array(),
  }));
}

test("the same boot agrees, nothing left unverified", async () => {
  deepEqual(await explainLog(await predict(base), await boot(base), base), { agrees: true, notVerified: [] });
});

test("what a prediction left open is named with the log's digest", async () => {
  const { acpi: _, ...input } = base;
  const { agrees, notVerified } = await explainLog(await predict(input), await boot(base), input);
  equal(agrees, true);
  deepEqual(
    notVerified.map(({ what }) => what),
    ["ACPI loader", "ACPI RSDP", "ACPI tables"],
  );
});

const otherKernel = kernel();
otherKernel[0x2000]! ^= 1;
const { acpi: _acpi, ...noAcpi } = base;
const cases: {
  name: string;
  predicted?: PredictInput;
  booted: PredictInput;
  register: string;
  cause: RegExp;
}[] = [
  {
    name: "one byte of the kernel",
    booted: { ...base, boot: { ...direct, kernel: otherKernel } },
    register: "rtmr1",
    cause: /^other kernel$/,
  },
  {
    name: "another kernel where the predicted one has no header that QEMU could write",
    predicted: { ...base, boot: { ...direct, kernel: pe() } },
    booted: base,
    register: "rtmr1",
    cause: /^other kernel$/,
  },
  {
    name: "one letter of the command line",
    booted: { ...base, boot: { ...direct, commandLine: "console=ttyS1 quiet" } },
    register: "rtmr2",
    cause: /^changed command line$/,
  },
  {
    name: "other memory",
    booted: { ...base, memory: 8 * GIB },
    register: "rtmr0",
    cause: /other memory size: the guest has 8192 MiB, predicted were 4096/,
  },
  {
    name: "an older QEMU's header",
    booted: { ...base, qemu: "8.2.2" },
    register: "rtmr1",
    cause: /same kernel, but with QEMU's setup header/,
  },
  {
    name: "a newer QEMU",
    predicted: { ...base, qemu: "8.2.2" },
    booted: base,
    register: "rtmr1",
    cause: /same kernel, but untouched/,
  },
  {
    name: "a kernel header written for less memory",
    predicted: { ...noAcpi, qemu: "8.2.2", hob: "qemu", boot: { ...direct, initrd: noise(9000) } },
    booted: { ...noAcpi, qemu: "8.2.2", memory: GIB, boot: { ...direct, initrd: noise(9000) } },
    register: "rtmr0",
    cause: /the guest has 1024 MiB/,
  },
  {
    name: "another machine's ACPI tables",
    booted: { ...base, acpi: { [ACPI_TABLES]: acpiTables(["APIC", "MCFG"]) } },
    register: "rtmr0",
    cause: /other machine: vCPU count/,
  },
  {
    name: "another firmware generation",
    booted: { ...noAcpi, firmwareRelease: "202505" },
    predicted: noAcpi,
    register: "rtmr0",
    cause: /other firmware generation: .*edk2-202505/,
  },
  {
    name: "another place of initrd=initrd",
    predicted: { ...base, firmwareRelease: "202505", boot: { ...direct, initrd: noise(7) } },
    booted: { ...base, firmwareRelease: "202508", boot: { ...direct, initrd: noise(7) } },
    register: "rtmr2",
    cause: /other firmware generation: edk2-202508 places initrd=initrd/,
  },
  {
    name: "an initrd that was not expected",
    booted: { ...base, boot: { ...direct, initrd: noise(7) } },
    register: "rtmr2",
    cause: /an initrd was given/,
  },
  {
    name: "another initrd",
    predicted: { ...base, boot: { ...direct, initrd: noise(7, 1) } },
    booted: { ...base, boot: { ...direct, initrd: noise(7, 2) } },
    register: "rtmr2",
    cause: /^other initrd$/,
  },
  {
    name: "Secure Boot on",
    booted: { ...base, secureBoot: "on" },
    register: "rtmr0",
    cause: /other Secure Boot state/,
  },
];
for (const { name, predicted = base, booted, register, cause } of cases) {
  test(`${name}: named`, async () => {
    const { agrees, first } = await explainLog(await predict(predicted), await boot(booted), predicted);
    equal(agrees, false);
    equal(first?.register, register);
    match(first?.cause ?? "", cause);
    ok(first?.found?.digest !== first?.expected?.digest);
  });
}

const uki = pe({
  sections: [
    [".linux", kernel(600)],
    [".cmdline", new TextEncoder().encode("quiet")],
  ],
});
const ukiBoot: PredictInput = {
  ...base,
  boot: { method: "uki", image: uki, disk: gptDisk([noise(128)]), sectionsMeasured: false },
};
const threeEntries = ["BootOrder", "Boot0000", "Boot0001"].map((name) => [name, noise(9)] as const);
test("open boot variables stand for as many as there are, but for one at least", async () => {
  const withEntries = (bootEntries: typeof threeEntries) =>
    boot({ ...ukiBoot, boot: { ...ukiBoot.boot, bootEntries } as PredictInput["boot"] });
  const { agrees, notVerified } = await explainLog(await predict(ukiBoot), await withEntries(threeEntries));
  equal(agrees, true);
  deepEqual(
    notVerified.map(({ what }) => what),
    ["boot variables", "boot variables", "boot variables"],
  );
  const { first } = await explainLog(await predict(ukiBoot), await withEntries([]));
  equal(first?.expected?.what, "boot variables");
});

test("a log that ends early says what is missing", async () => {
  const events = (await boot(base)).slice(0, -1);
  const { first } = await explainLog(await predict(base), events, base);
  equal(first?.expected?.what, "Exit Boot Services Returned with Success");
  match(first?.cause ?? "", /ends early/);
});

test("an event that nothing predicted is a difference", async () => {
  const events = [
    ...(await boot(base)),
    { register: "rtmr2" as const, type: 13, digest: noise(48), data: noise(1) },
  ];
  const { first } = await explainLog(await predict(base), events, base);
  equal(first?.expected, undefined);
  equal(first?.found?.digest, toHex(noise(48)));
});

test("events of RTMR3 belong to the running system and are left out", async () => {
  const events = [
    ...(await boot(base)),
    { register: "rtmr3" as const, type: 1, digest: noise(48), data: noise(1) },
  ];
  equal((await explainLog(await predict(base), events)).agrees, true);
});
