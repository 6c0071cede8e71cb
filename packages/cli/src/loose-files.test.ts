// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, rejects, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { imageInputs, type Machine } from "@caisson/machine/prediction";
import { predict } from "@caisson/measure";
import {
  acpiTables,
  ffsFile,
  ffsLzma,
  ffsSection,
  firmware,
  firmwareVolume,
  gptDisk,
  kernel,
  noise,
  pe,
  variableStore,
} from "@caisson/measure/testing/synthetic";
import { plainService } from "@caisson/protocol/testing/service";
import { concat } from "@caisson/vocabulary/bytes";
import type { Platform } from "@caisson/vocabulary/platforms";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { compressSync } from "@napi-rs/lzma/lzma";
import { utf16le } from "../../measure/src/bytes.ts";
import { gptEvent } from "../../measure/src/formats/gpt.ts";
import { firmwareInformation } from "../../measure/src/formats/smbios.ts";
import { checkCombination, gatherFiles, type LooseFiles } from "./loose-files.ts";

const directory = temporaryDirectory("loose-files");
const write = (name: string, bytes: Uint8Array | string) => {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
};

const commandLine = 'console=ttyS0 a="b c" -- /init';
const release = "2025.02-8";
const files = {
  "tdx.fd": firmware(),
  "code.fd": noise(0x8000, 4),
  "variables.fd": variableStore([
    { name: "PK", guid: "8be4df61-93ca-11d2-aa0d-00e098032b8c", data: noise(40) },
  ]),
  kernel: kernel(),
  rootfs: noise(16),
  sbom: noise(16),
};
const path = Object.fromEntries(
  Object.entries(files).map(([name, bytes]) => [name, write(name, bytes)]),
) as Record<keyof typeof files, string>;
const artefact = (file: keyof typeof files) => ({
  file,
  size: files[file].length,
  sha256: createHash("sha256").update(files[file]).digest("hex"),
});
write(
  "manifest.json",
  JSON.stringify({
    schema: "caisson/manifest/v1",
    caisson: { version: "0.1.0", sources: "ef".repeat(32) },
    name: "loose",
    flavour: "production",
    lock: "00".repeat(32),
    commandLine,
    kernel: artefact("kernel"),
    firmware: {
      emulated: { code: artefact("code.fd"), variables: artefact("variables.fd") },
      tdx: { code: artefact("tdx.fd") },
    },
    rootfs: artefact("rootfs"),
    sbom: artefact("sbom"),
    guest: {
      version: "caisson/guest/v1",
      flavour: "production",
      epoch: 0,
      commandLine: [],
      app: { name: "loose", services: { loose: plainService() }, networks: {}, volumes: {} },
      time: { secure_time: true },
    },
    versions: { firmware: { emulated: release, tdx: release } },
  }),
);

/** No QEMU is asked: its version and tables are given. */
const machine: Machine = {
  vcpus: 2,
  memory: 2 ** 31,
  qemu: "no-such-qemu",
  qemuVersion: "8.2.2",
  acpi: write("acpi", acpiTables()),
};
const parts: Record<Platform, LooseFiles> = {
  tdx: { firmware: path["tdx.fd"], firmwareRelease: release },
  emulated: { firmware: path["code.fd"], variables: path["variables.fd"], firmwareRelease: release },
};
const direct = { kernel: path.kernel, commandLine };
const predicted = async (options: LooseFiles, on: Machine = machine) =>
  predict((await gatherFiles({ ...options, ...on })).input);

for (const platform of ["tdx", "emulated"] as const) {
  test(`${platform}: the files of an image by themselves give its registers, whatever the machine`, async () => {
    const shapes = [machine, { ...machine, memory: 2 ** 32, qemuVersion: "10.1.0" }];
    for (const shape of shapes) {
      const image = await predict((await imageInputs(directory, { ...shape, platform })).input);
      equal(image.platform, platform);
      equal(image.registers.rtmr0?.value?.length, 96);
      deepEqual(await predicted({ ...parts[platform], ...direct }, shape), image);
    }
  });
}

test("an initrd: its own event, its place in the command line, its size in the kernel's header", async () => {
  const initrd = noise(5000, 8);
  const options = { ...parts.tdx, ...direct, initrd: write("initrd", initrd) };
  const { input, files: sources } = await gatherFiles({ ...options, ...machine });
  const boot = { method: "direct", kernel: files.kernel, commandLine, initrd } as const;
  const { events } = await predict({ ...input, boot });
  deepEqual((await predict(input)).events, events);
  const digest = (what: string) => events.find((event) => event.what === what)?.digest;
  const sha384 = (bytes: Uint8Array) => createHash("sha384").update(bytes).digest("hex");
  equal(digest("initrd"), sha384(initrd));
  equal(digest("kernel command line"), sha384(utf16le(`${commandLine} initrd=initrd\0`)));
  equal(sources["initrd"], options.initrd);
  const without = await predicted({ ...parts.tdx, ...direct });
  const header = "kernel with QEMU's setup header";
  equal(without.events.find(({ what }) => what === header)?.digest === digest(header), false);
});

const ukiOf = (stub: string) =>
  pe({
    sections: [
      [".sdmagic", new TextEncoder().encode(`#### LoaderInfo: ${stub} ####\0`)],
      [".cmdline", new TextEncoder().encode("root=/dev/dm-0\n")],
      [".linux", kernel(600)],
    ],
  });
const uki = write("uki", ukiOf("systemd-stub 257.13-1"));

for (const sectorSize of [512, 4096] as const) {
  test(`a UKI on a disk with sectors of ${sectorSize} bytes`, async () => {
    const disk = concat(gptDisk([noise(128, 7)], sectorSize), new Uint8Array(2 << 20));
    const options = { ...parts.tdx, uki, disk: write("disk", disk) };
    const { events, registers } = await predicted(options);
    const digest = (what: string) => events.find((event) => event.what === what)?.digest;
    equal(digest("partition table"), createHash("sha384").update(gptEvent(disk, sectorSize)).digest("hex"));
    equal(digest("UKI section .linux"), createHash("sha384").update(kernel(600)).digest("hex"));
    deepEqual([registers.rtmr1?.open, registers.rtmr2?.open], [[], []]);
    deepEqual(registers.rtmr0?.open, ["boot variables"]);
  });
}

test("what is not known of a UKI's machine stays open by name, and no QEMU is asked for it", async () => {
  const { acpi: _, ...rest } = machine;
  const { input, files: sources } = await gatherFiles({ ...parts.emulated, uki, ...rest });
  const { registers, platform } = await predict(input);
  equal(platform, "emulated");
  deepEqual(registers.rtmr0?.open, [
    "ACPI loader",
    "ACPI RSDP",
    "ACPI TPM log",
    "ACPI tables",
    "boot variables",
  ]);
  deepEqual(registers.rtmr1?.open, ["partition table"]);
  deepEqual(sources["disk"], "not given: --disk");
  match(sources["devices"]!, /--acpi/);
});

test("the firmware's own word for its release is taken where it has one", async () => {
  const text = (value: string) => {
    const bytes = utf16le(`${value}\0`);
    return concat(bytes, new Uint8Array(-bytes.length & 15));
  };
  const type0 = concat(firmwareInformation, new Uint8Array(-firmwareInformation.length & 15));
  const strings = concat(noise(16), type0, text("11/08/2025"), text("2026.02-1"), text("a vendor"));
  const dxe = firmwareVolume(
    "7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1",
    [ffsFile(0x07, 1, ffsSection(0x10, strings))],
    0x1000,
  );
  const stream = new Uint8Array(compressSync(ffsSection(0x17, dxe)));
  const length = BigInt(ffsSection(0x17, dxe).length);
  new DataView(stream.buffer).setBigUint64(5, length, true); // liblzma leaves the size open
  const volume = firmwareVolume(
    "48db5e17-707c-472d-91cd-1613e7ef51b0",
    [ffsFile(0x0b, 9, ffsLzma(stream))],
    0x4000,
  );
  const options = { firmware: write("named", volume), variables: path["variables.fd"], ...direct };
  equal((await predicted(options)).profile.firmware, "edk2-202508");
  equal((await predicted({ ...options, firmwareRelease: "202502" })).profile.firmware, "edk2-202502");
});

const refusedFiles: [name: string, LooseFiles & { platform?: Platform }, message: RegExp, fix: RegExp][] = [
  ["no release", { firmware: path["tdx.fd"], ...direct }, /does not say which edk2/, /--firmware-release/],
  ["code alone", { firmware: path["code.fd"], ...direct }, /not a firmware of a TD/, /--variables/],
  ["emulated without variables", { ...parts.tdx, ...direct, platform: "emulated" }, /store/, /--variables/],
  [
    "a TD with variables",
    { ...parts.emulated, ...direct, platform: "tdx" },
    /in its firmware/,
    /leave out --variables/,
  ],
  ["a UKI as kernel", { ...parts.tdx, kernel: uki, commandLine }, /is a UKI/, /--uki/],
];
for (const [name, options, message, fix] of refusedFiles) {
  test(`refused: ${name}`, async () => {
    await rejects(gatherFiles({ ...options, ...machine }), { code: "cli/usage", message, fix });
  });
}

for (const stub of ["systemd-stub 262-1", "systemd-stub 2570", "another stub"]) {
  test(`refused: a UKI of ${stub}, which measures otherwise or is not known to do so`, async () => {
    const options = { ...parts.tdx, uki: write("other", ukiOf(stub)), ...machine };
    await rejects(gatherFiles(options), { code: "prediction/profile", kind: "unsupported" });
  });
}

test("a disk that cannot be read, and one without a partition table, are errors of the input", async () => {
  const options = { ...parts.tdx, uki, ...machine };
  await rejects(gatherFiles({ ...options, disk: join(directory, "none") }), { code: "measure/input" });
  const { input } = await gatherFiles({ ...options, disk: path.kernel });
  await rejects(predict(input), { code: "gpt/malformed" });
});

const F = { firmware: "f" };
const K = { kernel: "k", commandLine: "" };
const accepted: [image: string | undefined, LooseFiles & { log?: string }][] = [
  ["image", { log: "l" }],
  [undefined, F],
  [undefined, { ...F, ...K }],
  [undefined, { ...F, ...K, initrd: "i", variables: "v", firmwareRelease: "202502", log: "l" }],
  [undefined, { ...F, uki: "u", disk: "d", variables: "v" }],
];
test("what says one thing is accepted", () => {
  for (const [image, options] of accepted) checkCombination(image, options);
});

const refused: [image: string | undefined, LooseFiles & { log?: string }, message: RegExp, fix: RegExp][] = [
  [undefined, {}, /one of IMAGE and --firmware/, /--help/],
  [undefined, K, /--kernel needs the firmware/, /--firmware FILE/],
  [undefined, { uki: "u" }, /--uki needs the firmware/, /--firmware FILE/],
  [undefined, { commandLine: "" }, /--command-line needs the firmware/, /--firmware FILE/],
  ["image", F, /--firmware cannot stand beside IMAGE/, /IMAGE alone/],
  ["image", K, /--kernel cannot stand beside IMAGE/, /IMAGE alone/],
  ["image", { commandLine: "" }, /--command-line cannot stand beside IMAGE/, /IMAGE alone/],
  ["image", { firmwareRelease: "202502" }, /--firmware-release cannot/, /IMAGE alone/],
  [undefined, { ...F, ...K, uki: "u" }, /two boots/, /--kernel for .*--uki for/],
  [undefined, { ...F, kernel: "k" }, /needs its command line/, /--command-line TEXT/],
  [undefined, { ...F, kernel: "k", commandLine: "a=ü" }, /not printable ASCII/, /-append/],
  [undefined, { ...F, kernel: "k", commandLine: "a\n" }, /not printable ASCII/, /-append/],
  [undefined, { ...F, commandLine: "a" }, /--command-line needs a kernel/, /--kernel FILE/],
  [undefined, { ...F, initrd: "i" }, /--initrd needs a kernel/, /--kernel FILE/],
  [undefined, { ...F, uki: "u", initrd: "i" }, /its own command line/, /leave out --initrd/],
  [undefined, { ...F, uki: "u", commandLine: "" }, /its own command line/, /leave out --command-line/],
  [undefined, { ...F, disk: "d" }, /--disk is a UKI's/, /--uki FILE/],
  [undefined, { ...F, ...K, disk: "d" }, /--disk is a UKI's/, /--uki FILE/],
  [undefined, { ...F, variables: "v" }, /--variables has no part/, /--kernel FILE or --uki FILE/],
  [undefined, { ...F, firmwareRelease: "1" }, /--firmware-release has no part/, /--kernel FILE or --uki/],
  [undefined, { ...F, log: "l" }, /--log has no part/, /--kernel FILE or --uki/],
];
for (const [image, options, message, fix] of refused) {
  test(`refused: ${[image, ...Object.keys(options)].filter(Boolean).join(" ") || "nothing"}`, () => {
    throws(() => checkCombination(image, options), { code: "cli/usage", message, fix });
  });
}
