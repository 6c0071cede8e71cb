// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import test from "node:test";
import { concat, toHex } from "@caisson/vocabulary/bytes";
import { utf16le } from "../bytes.ts";
import {
  ACPI_LOADER,
  ACPI_TABLES,
  deriveLoader,
  deriveRsdp,
  measuredAcpiFiles,
} from "../formats/acpi-tables.ts";
import { gptEvent } from "../formats/gpt.ts";
import { parseUki } from "../formats/uki.ts";
import { readVariableStore } from "../formats/variables.ts";
import { measuredEvents, parseEventLog } from "../logs/event-log.ts";
import {
  acpiTables,
  firmware,
  gptDisk,
  kernel,
  noise,
  ovmfSections,
  pe,
  syntheticSmbios,
  variableStore,
} from "../testing/synthetic.ts";
import { predict, predictEach } from "./predict.ts";
import type { PredictInput } from "./prediction.ts";
import { firmwareProfile, qemuProfile } from "./profiles.ts";

const sha384 = (...parts: Uint8Array[]) =>
  createHash("sha384")
    .update(concat(...parts))
    .digest("hex");
const GIB = 2 ** 30;
const base: PredictInput = {
  platform: "tdx",
  firmware: firmware(),
  firmwareRelease: "202502",
  boot: { method: "direct", kernel: kernel(), commandLine: "console=ttyS0" },
  memory: 4 * GIB,
  qemu: "10.0.13",
  acpi: { [ACPI_TABLES]: acpiTables() },
};
const identity = { vendor: "a vendor", version: "a version", releaseDate: "01/02/2026" };
const whats = async (input: PredictInput, register: string) =>
  (await predict(input)).events.filter((e) => e.register === register).map(({ what }) => what);

test("a TD's direct boot, edk2 202502: the events of each register in order", async () => {
  deepEqual(await whats(base, "rtmr0"), [
    "TD HOB",
    "configuration volume (CFV)",
    "variable SecureBoot",
    "variable PK",
    "variable KEK",
    "variable db",
    "variable dbx",
    "separator (PCR 7)",
    "ACPI file etc/table-loader",
    "ACPI file etc/acpi/rsdp",
    "ACPI file etc/acpi/tables",
    "variable BootOrder",
    "variable Boot0000",
  ]);
  deepEqual(await whats(base, "rtmr1"), [
    "kernel",
    "Calling EFI Application from Boot Option",
    "separator (PCR 4)",
    "Exit Boot Services Invocation",
    "Exit Boot Services Returned with Success",
  ]);
  deepEqual(await whats(base, "rtmr2"), ["kernel command line"]);
});

test("all inputs given: MRTD in both orders and all three registers have values", async () => {
  const { mrtd, registers } = await predict(base);
  equal(mrtd?.singlePass.length, 96);
  for (const name of ["rtmr0", "rtmr1", "rtmr2"] as const) equal(registers[name]?.value?.length, 96);
});

test("the digests that a whole class of guests shares equal those in real logs", async () => {
  const digest = async (what: string, release: string) =>
    (await predict({ ...base, firmwareRelease: release })).events
      .find((e) => e.what === what)
      ?.digest?.slice(0, 16);
  equal(await digest("variable SecureBoot", "202502"), "9dc3a1f80bcec915");
  equal(await digest("variable dbx", "202502"), "18cc6e01f0c6ea99");
  equal(await digest("separator (PCR 7)", "202502"), "394341b7182cd227");
  equal(await digest("variable Boot0000", "202502"), "23ada07f5261f12f");
  equal(await digest("variable BootOrder", "202505"), "52b9a02de946b947");
  equal(await digest("variable Boot0000", "202505"), "5068e6a9ded2a1c3");
  equal(await digest("variable Boot0001", "202505"), "dd424f2eeb35f3e8");
  equal(await digest("fw_cfg BootMenu", "202505"), "1dd6f7b457ad880d");
  equal(await digest("fw_cfg bootorder", "202505"), "53d3dbc006913283");
});

for (const release of ["2022.11", "2025.02", "2026.08"]) {
  test(`a real boot under OVMF ${release}: every event of PCR 1–15 in order, and every digest that files determine`, async () => {
    const path = new URL(`../../vectors/trial/`, import.meta.url);
    const log = measuredEvents(
      parseEventLog(readFileSync(new URL(`ovmf-${release}-direct-boot.tcg2`, path))),
      "pcr",
    );
    const { events } = await predict({
      ...base,
      platform: "emulated",
      firmwareRelease: release,
      qemu: "7.2.22",
      variables: variableStore([]),
      secureBoot: release === "2022.11" ? "off" : "absent",
      boot: {
        method: "direct",
        kernel: kernel(),
        commandLine: readFileSync(new URL("cmdline.txt", path), "utf8"),
      },
      acpi: { [ACPI_TABLES]: acpiTables(["APIC", "TPM2"]) },
      smbios: readFileSync(new URL("smbios-tables.bin", path)),
      identity: {
        vendor: "Debian distribution of EDK II",
        version: "2026.08+ds-2",
        releaseDate: "09/26/2026",
      },
    });
    deepEqual(
      events.map(({ pcr, type }) => [pcr, type]),
      log.map(({ pcr, type }) => [pcr, type]),
    );
    const ofOtherFiles = /kernel with|ACPI file|volume/;
    events.forEach(({ what, digest }, i) => {
      const ofOtherFirmware = what === "firmware version" && release !== "2026.08";
      if (!ofOtherFiles.test(what) && !ofOtherFirmware) equal(digest, toHex(log[i]!.digest), what);
    });
    equal(
      events.find(({ what }) => what === "ACPI file etc/tpm/log")?.digest?.slice(0, 16),
      release === "2022.11" ? undefined : "69fca46943118a95",
    );
  });
}

test("edk2 before 202411 puts both separators into RTMR0", async () => {
  const older = { ...base, firmwareRelease: "202408" };
  equal((await whats(older, "rtmr0")).at(-1), "separator (PCR 1)");
  equal((await whats(older, "rtmr1")).includes("separator (PCR 4)"), false);
});

test("fw_cfg items: only those of the expected size, in edk2's order", async () => {
  const input: PredictInput = {
    ...base,
    firmwareRelease: "202508",
    fwCfg: {
      bootorder: noise(3),
      "etc/extra-pci-roots": noise(8),
      "etc/reserved-memory-end": noise(4),
      other: noise(2),
    },
  };
  deepEqual((await whats(input, "rtmr0")).slice(2, 4), ["fw_cfg etc/extra-pci-roots", "fw_cfg bootorder"]);
});

const lineDigest = async (input: PredictInput) =>
  (await predict(input)).events.find(({ what }) => what === "kernel command line")?.digest;
for (const [release, initrd, line] of [
  ["202502", undefined, "a=b"],
  ["202502", noise(5), "a=b initrd=initrd"],
  ["202505", noise(5), "a=b initrd=initrd"],
  ["202508", noise(5), "initrd=initrd a=b"],
] as const) {
  test(`edk2 ${release} ${initrd ? "with" : "without"} an initrd: the kernel sees '${line}'`, async () => {
    const boot = {
      method: "direct",
      kernel: kernel(),
      commandLine: "a=b",
      ...(initrd && { initrd }),
    } as const;
    equal(await lineDigest({ ...base, firmwareRelease: release, boot }), sha384(utf16le(`${line}\0`)));
  });
}

for (const [platform, release, qemu, patched] of [
  ["tdx", "202502", "8.2.2", true],
  ["tdx", "202502", "9.2.1", true],
  ["tdx", "202502", "10.0.13", false],
  ["tdx", "202411", "10.0.13", true],
  ["tdx", "202411", "10.2.0", false],
  ["emulated", "202411", "10.2.0", true],
  ["emulated", "2025.02-8+deb13u1", "7.2.22", true],
  ["emulated", "2025.02-8+deb13u1", "11.1.2", false],
] as const) {
  test(`${platform}, edk2 ${release}, QEMU ${qemu}: the kernel is measured ${patched ? "patched" : "as in the file"}`, async () => {
    const events = await whats({ ...base, platform, firmwareRelease: release, qemu }, "rtmr1");
    equal(events[0], patched ? "kernel with QEMU's setup header" : "kernel");
  });
}

test("what is not given stays open: no digest, a reason, and no register value", async () => {
  const { acpi: _, ...withoutAcpi } = base;
  const { events, registers } = await predict(withoutAcpi);
  equal(registers.rtmr0?.value, undefined);
  deepEqual(registers.rtmr0?.open, ["ACPI loader", "ACPI RSDP", "ACPI tables"]);
  equal(registers.rtmr1?.value?.length, 96);
  ok(events.filter(({ what }) => what.startsWith("ACPI")).every(({ digest, reason }) => !digest && reason));
});

test("SMBIOS, from edk2 202505: needs the machine's tables and what the firmware says of itself", async () => {
  const release = { ...base, firmwareRelease: "202505" };
  const open = async (more: Partial<PredictInput>) =>
    (await predict({ ...release, ...more })).registers.rtmr0?.open;
  deepEqual(await open({}), ["SMBIOS tables"]);
  deepEqual(await open({ smbios: syntheticSmbios() }), ["SMBIOS tables"]);
  deepEqual(await open({ identity }), ["SMBIOS tables"]);
  deepEqual(await open({ smbios: syntheticSmbios(), identity }), []);
  const machines = [syntheticSmbios(), syntheticSmbios({ memory: 9 })].map((smbios) => ({
    memory: base.memory,
    acpi: base.acpi!,
    smbios,
  }));
  const [one, other] = await predictEach({ ...release, identity }, machines);
  ok(one!.registers.rtmr0?.value !== other!.registers.rtmr0?.value);
});

test("the emulated platform also gives PCRs, and PCR 0 stays open without the decompressed volumes", async () => {
  const input = {
    ...base,
    platform: "emulated",
    firmwareRelease: "2025.02-8+deb13u1",
    qemu: "7.2.22",
    variables: variableStore([]),
  } as const;
  const { pcrs, mrtd, registers } = await predict(input);
  equal(mrtd, undefined);
  deepEqual(registers.mrtd?.open, ["firmware version", "PEI volume", "DXE volume"]);
  for (const pcr of ["1", "4", "5", "7", "9"]) equal(pcrs?.[pcr]?.value?.length, 96);
  const volumes = { pei: noise(4800), dxe: noise(4800, 2) };
  const whole = await predict({ ...input, volumes, identity: { ...identity, version: "2025.02-8+deb13u1" } });
  equal(whole.registers.mrtd?.value?.length, 96);
  equal(whole.events[0]?.digest?.slice(0, 16), "48f65229fcb0c521"); // as in the trial's log
});

test("a profile says which real log confirms it, and says nothing where none does", async () => {
  ok((await predict(base)).profile.evidence);
  equal((await predict({ ...base, firmwareRelease: "202411" })).profile.evidence, undefined);
});

test("keys enrolled in the configuration volume are measured, and Secure Boot is on", async () => {
  const image = firmware();
  image.set(
    variableStore([
      { name: "PK", guid: "8be4df61-93ca-11d2-aa0d-00e098032b8c", data: noise(40) },
      { name: "db", guid: "d719b2cb-3d3a-4596-a3bc-dad00e67656f", data: noise(41), state: 0x3c },
    ]),
  );
  const events = (await predict({ ...base, firmware: image })).events.filter(({ pcr }) => pcr === 7);
  const store = readVariableStore(image.subarray(0, 0x4000));
  deepEqual([...store.keys()], ["PK-8be4df61-93ca-11d2-aa0d-00e098032b8c"]);
  const guid = "61dfe48bca93d211aa0d00e098032b8c";
  const pk = concat(
    Buffer.from(guid, "hex"),
    Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0),
    utf16le("PK"),
    noise(40),
  );
  equal(events.find(({ what }) => what === "variable PK")?.digest, sha384(pk));
  equal(events[0]?.digest?.startsWith("9dc3a1f8"), false);
});

test("a UKI: partition table, UKI, inner kernel and its command line", async () => {
  const partition = noise(128, 77);
  const disk = gptDisk([partition]);
  const line = "root=/dev/dm-0";
  const image = pe({
    sections: [
      [".cmdline", new TextEncoder().encode(`${line}\n`)],
      [".linux", kernel(600)],
      [".initrd", noise(64)],
    ],
  });
  const input: PredictInput = { ...base, boot: { method: "uki", image, disk, sectionsMeasured: true } };
  deepEqual(await whats(input, "rtmr1"), [
    "Calling EFI Application from Boot Option",
    "separator (PCR 4)",
    "partition table",
    "UKI",
    "kernel inside the UKI",
    "Exit Boot Services Invocation",
    "Exit Boot Services Returned with Success",
  ]);
  deepEqual(await whats(input, "rtmr2"), [
    "name of UKI section .linux",
    "UKI section .linux",
    "name of UKI section .cmdline",
    "UKI section .cmdline",
    "name of UKI section .initrd",
    "UKI section .initrd",
    "kernel command line",
    "initrd",
  ]);
  equal(await lineDigest(input), sha384(utf16le(`${line}\0`)));
  deepEqual((await predict(input)).registers.rtmr0?.open, ["boot variables"]);
});

for (const [section, line] of [
  ["a=b c", "a=b c"],
  [" \ta=b\n c\x7f\n", "a=b  c"],
  ["a=b\0 c", "a=b"],
  ["\n", ""],
] as const) {
  test(`a UKI's command line ${JSON.stringify(section)} reaches the kernel as '${line}'`, () => {
    const sections = [
      [".linux", kernel(600)],
      [".cmdline", new TextEncoder().encode(section)],
    ] as const;
    equal(parseUki(pe({ sections })).commandLine, line);
  });
}

test("the GPT event holds header, count and used entries only", () => {
  for (const sectorSize of [512, 4096] as const) {
    const disk = gptDisk([noise(128, 5), noise(128, 6)], sectorSize);
    const header = disk.subarray(sectorSize, sectorSize + 92);
    const count = Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0);
    deepEqual(gptEvent(disk, sectorSize), concat(header, count, noise(128, 5), noise(128, 6)));
  }
});

for (const [name, change, code] of [
  ["a disk without GPT", (disk: Uint8Array) => disk.fill(0), "gpt/malformed"],
  ["a billion entries", (disk: Uint8Array) => disk.fill(0xff, 512 + 80, 512 + 84), "gpt/malformed"],
  ["entries of 4 GiB", (disk: Uint8Array) => disk.fill(0xff, 512 + 84, 512 + 88), "gpt/malformed"],
  ["entries outside the input", (disk: Uint8Array) => disk.fill(0xff, 512 + 72, 512 + 80), "gpt/truncated"],
] as const) {
  test(`refused: ${name}`, () => {
    const disk = gptDisk([noise(128)]);
    change(disk);
    throws(() => gptEvent(disk), { name: "MeasureError", code });
  });
}

test("loader and RSDP follow from the tables; a given loader wins", () => {
  const tables = acpiTables(["APIC", "TPM2", "MCFG"]);
  const files = measuredAcpiFiles({ [ACPI_TABLES]: tables });
  deepEqual(
    files.map(({ name, bytes, derived }) => [name, bytes.length, derived]),
    [
      ["etc/table-loader", 4096, true],
      ["etc/acpi/rsdp", 20, true],
      ["etc/tpm/log", 65536, true],
      ["etc/acpi/tables", 0x2000, false],
    ],
  );
  const own = deriveLoader(acpiTables());
  equal(measuredAcpiFiles({ [ACPI_TABLES]: tables, [ACPI_LOADER]: own }).length, 3);
  equal(new DataView(deriveRsdp(tables).buffer).getUint32(16, true), 64 + 500 + 244 + 60 + 76 + 60);
});

for (const [name, blob] of [
  ["an empty blob", new Uint8Array()],
  ["text", new TextEncoder().encode("these are no ACPI tables at all")],
  [
    "a table longer than the blob",
    concat(acpiTables().subarray(0, 4), Uint8Array.of(255, 255, 255, 255), new Uint8Array(99)),
  ],
  ["a blob without RSDT", acpiTables().subarray(0, 564)],
  ["five megabytes", new Uint8Array(5 << 20)],
] as const) {
  test(`refused ACPI tables: ${name}`, () => {
    throws(() => deriveLoader(blob), { name: "MeasureError", code: /^acpi\// });
  });
}

test("releases and versions", async () => {
  equal(firmwareProfile("edk2-stable202505").name, "edk2-202505");
  equal(firmwareProfile("2026.08+ds-2").name, "edk2-202508");
  equal(firmwareProfile("202408").name, "edk2-202302");
  equal(qemuProfile("10.2.1").keepsConfidentialHeader, true);
  for (const release of ["", "latest", "1999.01", "20250201", "td-shim-202508", "edk2-", "coreboot-24.12"]) {
    throws(() => firmwareProfile(release), { code: "prediction/profile", kind: "unsupported" });
  }
  throws(() => qemuProfile("ten"), { code: "prediction/profile" });
  const sections = ovmfSections(0x10000).filter(({ type }) => type !== "TD_HOB");
  await rejects(predict({ ...base, firmware: firmware(0x10000, sections) }), { code: "firmware/section" });
});

// RTMR0 of a quoted TD with edk2 ≥ 202505 (dstack 0.6.0's simulator fixture, 16 GiB): types, and the start of digests.
const quoted202505 = [
  [0x8000000b, "cd2312a0d87ef3c4"],
  [0x8000000a, undefined], // its own configuration volume
  [0xa, "1dd6f7b457ad880d"],
  [0xa, "53d3dbc006913283"],
  [0x80000001, "9dc3a1f80bcec915"],
  [0x80000001, "6f2e3cbc14f9def8"],
  [0x80000001, "d607c0efb41c0d75"],
  [0x80000001, "08a74f8963b337ac"],
  [0x80000001, "18cc6e01f0c6ea99"],
  [0x4, "394341b7182cd227"],
  [0xa, undefined], // ACPI of its machine
  [0xa, undefined],
  [0xa, undefined],
  [0x80000009, undefined], // SMBIOS of its machine
  [0x80000002, "52b9a02de946b947"],
  [0x80000002, "5068e6a9ded2a1c3"],
  [0x80000002, "dd424f2eeb35f3e8"],
] as const;
test("a quoted TD with edk2 202505: RTMR0's events in order, and every digest that its machine does not decide", async () => {
  const sections = ovmfSections(0x10000);
  // An IntelTdxX64 build keeps its mailbox at 0x810000.
  Object.assign(sections[2]!, { address: 0x810000, memorySize: 0x10000 });
  const image = firmware(0x10000, sections);
  const prediction = await predict({ ...base, firmware: image, firmwareRelease: "202505", memory: 16 * GIB });
  const rtmr0 = prediction.events.filter(({ register }) => register === "rtmr0");
  deepEqual(
    rtmr0.map(({ type }) => type),
    quoted202505.map(([type]) => type),
  );
  quoted202505.forEach(([, digest], i) => {
    if (digest !== undefined) equal(rtmr0[i]?.digest?.slice(0, 16), digest, `event ${i}`);
  });
});
