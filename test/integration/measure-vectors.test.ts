// SPDX-License-Identifier: Apache-2.0
/**
 * Real quotes, logs and tables of other projects, at `../shared/vectors` beside the repository where they exist. Each
 * test says what a vector must evaluate to. The same paths run everywhere on generated inputs (packages/measure).
 */
import { deepEqual, equal, notDeepEqual } from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import test from "node:test";
import { gunzipSync } from "node:zlib";
import { ACPI_TABLES, measuredEvents, parseEventLog, replay, type Section, tdHob } from "@caisson/measure";
import { measuredAcpiFiles } from "@caisson/measure/acpi-tables";
import { utf16le } from "@caisson/measure/bytes";
import { parseDstackLog } from "@caisson/measure/dstack-log";
import { gptEvent } from "@caisson/measure/gpt";
import { fold } from "@caisson/measure/rtmr";
import { tdxSections } from "@caisson/measure/testing/synthetic";
import { guessIndexing } from "@caisson/measure/tpm-log";
import { bootOrder, loadOption, secureBootVariables, variableData } from "@caisson/measure/variables";
import { concat, toHex } from "@caisson/vocabulary/bytes";

const vectors = new URL("../../../shared/vectors/", import.meta.url);
const skip = existsSync(vectors) ? false : "../shared/vectors is absent";
const bytes = (path: string) => new Uint8Array(readFileSync(new URL(path, vectors)));
const text = (path: string) => readFileSync(new URL(path, vectors), "utf8");
const sha384 = (...parts: Uint8Array[]) =>
  new Uint8Array(
    createHash("sha384")
      .update(concat(...parts))
      .digest(),
  );

/** Registers of a version 4 quote (TD report body). */
function quoteRegisters(quote: Uint8Array) {
  const at = (offset: number) => toHex(quote.subarray(offset, offset + 48));
  return { mrtd: at(184), rtmr0: at(376), rtmr1: at(424), rtmr2: at(472), rtmr3: at(520) };
}
const hex = (registers: Record<string, Uint8Array>) =>
  Object.fromEntries(Object.entries(registers).map(([name, value]) => [name, toHex(value)]));
const withoutMrtd = ({ mrtd: _, ...rest }: ReturnType<typeof quoteRegisters>) => rest;

/** Where IntelTdxX64 and OvmfPkgX64 builds differ: the TempMem of the mailbox. */
const intelTdx = tdxSections([0x810000, 0x10000]);
const ovmfPkg = tdxSections([0x811000, 0xf000]);
/** An empty variable store of 0x84000 bytes, as these firmwares carry it. */
const emptyCfv = Uint8Array.fromHex(
  "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790",
);
const GIB = 2 ** 30;

/** RTMR0 of edk2 202411–202502, direct boot, no Secure Boot, from the three ACPI digests. */
function rtmr0(firmware: Section[], memory: number, acpi: readonly Uint8Array[]): Promise<Uint8Array> {
  const variables = secureBootVariables
    .slice(0, 5)
    .map(([name, guid]) => sha384(variableData(name, guid, new Uint8Array())));
  const uiApp = loadOption(
    0x109,
    "UiApp",
    "7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1",
    "462caa21-7614-4503-836e-8ab6f4662331",
  );
  return fold([
    sha384(tdHob(firmware, memory)),
    emptyCfv,
    ...variables,
    sha384(new Uint8Array(4)),
    ...acpi,
    sha384(bootOrder([0])),
    sha384(uiApp),
  ]);
}

for (const file of ["dstack/quote-report.json", "dstack/tdx-lite-getquote.json"]) {
  test(`${file}: the log replays to RTMR0–3 of its quote`, { skip }, async () => {
    const { quote, event_log } = JSON.parse(text(file)) as { quote: string; event_log: string };
    const events = await parseDstackLog(event_log);
    deepEqual(hex(await replay(events)), withoutMrtd(quoteRegisters(Uint8Array.fromHex(quote))));
  });
}

for (const [file, memory] of [
  ["dstack/quote-report.json", 64 * GIB],
  ["dstack/tdx-lite-getquote.json", 2 * GIB],
] as const) {
  test(`${file}: RTMR0 follows from ${memory / GIB} GiB and the three ACPI digests`, { skip }, async () => {
    const { quote, event_log } = JSON.parse(text(file)) as { quote: string; event_log: string };
    const acpi = (await parseDstackLog(event_log))
      .filter(({ type }) => type === 10)
      .map(({ digest }) => digest);
    equal(acpi.length, 3);
    equal(toHex(await rtmr0(intelTdx, memory, acpi)), quoteRegisters(Uint8Array.fromHex(quote)).rtmr0);
  });
}

test("dstack lite: published digests give RTMR1 and RTMR2, and MRTD is the two-pass one", {
  skip,
}, async () => {
  const fixture = JSON.parse(text("dstack/tdx-lite-getquote.json")) as { quote: string; vm_config: string };
  const config = JSON.parse(fixture.vm_config) as { tdx_measurement: { measurement: string } };
  const cbor = Buffer.from(config.tdx_measurement.measurement, "base64");
  // Every value is a 48-byte string (0x58 0x30) behind its key's text.
  const value = (key: string) => {
    const at = cbor.indexOf(key, "latin1") + key.length;
    deepEqual([...cbor.subarray(at, at + 2)], [0x58, 0x30], key);
    return new Uint8Array(cbor.subarray(at + 2, at + 50));
  };
  const action = (name: string) => sha384(new TextEncoder().encode(name));
  const quote = quoteRegisters(Uint8Array.fromHex(fixture.quote));
  const rtmr1 = await fold([
    value("kernel_authenticode"),
    action("Calling EFI Application from Boot Option"),
    sha384(new Uint8Array(4)),
    action("Exit Boot Services Invocation"),
    action("Exit Boot Services Returned with Success"),
  ]);
  equal(toHex(rtmr1), quote.rtmr1);
  equal(toHex(await fold([value("cmdline_sha384"), value("initrd_sha384")])), quote.rtmr2);
  equal(toHex(value("two_pass")), quote.mrtd);
  notDeepEqual(toHex(value("single_pass")), quote.mrtd);
});

test("COS-113 (GCE, shim, Secure Boot): the CCEL replays to RTMR0–2 of its quote, RTMR3 is zero", {
  skip,
}, async () => {
  const log = parseEventLog(bytes("go-tdx-guest/ccel_data.dat"));
  equal(guessIndexing(log), "cc");
  const registers = hex(await replay(measuredEvents(log, "cc")));
  deepEqual(registers, withoutMrtd(quoteRegisters(bytes("go-tdx-guest/cos-113-tdx-quote.dat"))));
});

test("COS-113: GCE's TD HOB at 16 GiB is the log's first event", { skip }, () => {
  const [hob, cfv] = measuredEvents(parseEventLog(bytes("go-tdx-guest/ccel_data.dat")), "cc");
  // The second event's payload ends with the configuration volume's address and size; the rest up to 4 GiB is the BFV.
  const volume = new DataView(cfv!.data.buffer, cfv!.data.byteOffset + cfv!.data.length - 16);
  const [address, size] = [0, 8].map((at) => Number(volume.getBigUint64(at, true))) as [number, number];
  const volumes = [
    { ...intelTdx[0]!, type: "BFV", address: address + size, memorySize: 2 ** 32 - address - size },
    { ...intelTdx[0]!, type: "CFV", address, memorySize: size },
  ] as const;
  deepEqual(sha384(tdHob([...volumes, ...intelTdx], 16 * GIB, "gce")), hob!.digest);
});

test("COS-113: its GPT event is what a disk with those partitions gives", { skip }, () => {
  const event = measuredEvents(parseEventLog(bytes("go-tdx-guest/ccel_data.dat")), "cc").find(
    ({ type }) => type === 0x80000006,
  )!;
  const disk = new Uint8Array(512 * 34);
  disk.set(event.data.subarray(0, 92), 512);
  const start = Number(new DataView(disk.buffer).getBigUint64(512 + 72, true)) * 512;
  event.data.subarray(100).forEach((byte, i) => {
    disk[start + i] = byte;
  });
  deepEqual(gptEvent(disk), event.data);
  deepEqual(sha384(gptEvent(disk)), event.digest);
});

test("a duplicated separator: RTMR0 and RTMR1 must not match COS-113's quote, RTMR2 does", {
  skip,
}, async () => {
  const log = parseEventLog(bytes("go-eventlog/cos-113-intel-tdx-dupe-separator-unpadded.bin"));
  const registers = hex(await replay(measuredEvents(log, "cc")));
  const quote = quoteRegisters(bytes("go-tdx-guest/cos-113-tdx-quote.dat"));
  notDeepEqual(registers["rtmr0"], quote.rtmr0);
  notDeepEqual(registers["rtmr1"], quote.rtmr1);
  equal(registers["rtmr2"], quote.rtmr2);
});

test("dstack's raw CCEL replays to RTMR0 of a quote of the same machine, with another kernel's RTMR1", {
  skip,
}, async () => {
  const registers = hex(await replay(measuredEvents(parseEventLog(bytes("dstack/ccel.bin")), "cc")));
  const quote = quoteRegisters(Uint8Array.fromHex(text("dcap-qvl/quote-from-tappd.hex").trim()));
  equal(registers["rtmr0"], quote.rtmr0);
  notDeepEqual(registers["rtmr1"], quote.rtmr1);
  equal(registers["rtmr2"], "00".repeat(48));
});

for (const [file, events] of [
  ["go-eventlog/event_log.bin", 27],
  ["go-eventlog/CCEL_unpadded.data.bin", 19],
  ["dstack/tpm_eventlog.bin", 45],
] as const) {
  test(`${file} parses to its end: ${events} records behind the header`, { skip }, () => {
    equal(parseEventLog(bytes(file)).events.length, events);
  });
}

test("a kernel command line of a published digest ends with its initrd argument and NUL", {
  skip,
}, async () => {
  const log = measuredEvents(parseEventLog(bytes("trial/ovmf-2025.02-direct-boot.tcg2")), "pcr");
  const line = text("trial/cmdline.txt");
  deepEqual(log.find(({ pcr }) => pcr === 9)?.digest, sha384(utf16le(`${line}\0`)));
});

for (const name of ["runtime-capture", "canonical-defaults", "q35-with-hpet"]) {
  test(`tdx-measure ${name}: RTMR0 follows from the tables blob alone and the memory size`, {
    skip,
  }, async () => {
    const at = `tdx-measure/${name}/`;
    const tables = new Uint8Array(gunzipSync(bytes(`${at}acpi_tables.bin.gz`)));
    const { rtmr0: expected } = JSON.parse(text(`${at}expected.json`)) as { rtmr0: string };
    const metadata = JSON.parse(text(`${at}metadata.json`)) as { boot_config: { memory: string } };
    const memory = Number.parseInt(metadata.boot_config.memory, 10) * 2 ** 20;
    const acpi = measuredAcpiFiles({ [ACPI_TABLES]: tables }).map((file) => sha384(file.bytes));
    equal(toHex(await rtmr0(ovmfPkg, memory, acpi)), expected);
  });
}
