// SPDX-License-Identifier: Apache-2.0
/**
 * Reality, for a unified kernel image: systemd's stub and the image's kernel on a disk, started by the firmware's boot
 * manager. What a TPM then holds must be what was predicted from the files.
 */
import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, type TestContext, test } from "node:test";
import { explainLog, measuredEvents, type PredictInput, parseVariable, predict } from "@caisson/measure";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { unpackDebian } from "../support/debian.ts";
import { imageOf } from "../support/image.ts";
import {
  boot,
  type Firmware,
  imageFirmware,
  installedQemu,
  machineInput,
  newFirmware,
} from "../support/measured-boot.ts";
import { bootDisk, unifiedImage } from "../support/uki-disk.ts";

let image: string;
before(async () => {
  image = (await imageOf("development")).directory;
});
const shape = { vcpus: 1, memory: 512 };
const VARIABLE_BOOT = 0x80000002;

/** Boots a UKI from a disk of its own: what was predicted, and what its TPM and its log hold. */
async function bootUki(t: TestContext, firmware: Firmware, uki: Uint8Array) {
  const kernel = join(image, "kernel");
  const disk = bootDisk(uki);
  const directory = temporaryDirectory("uki", t);
  const path = join(directory, "disk.img");
  writeFileSync(path, disk);
  const input: PredictInput = {
    ...(await machineInput(installedQemu, firmware, shape, kernel, directory)),
    boot: { method: "uki", image: uki, disk: disk.subarray(0, 34 * 512), sectionsMeasured: true },
  };
  const prediction = await predict(input);
  return { disk, input, prediction, ...(await boot(installedQemu, firmware, shape, { disk: path })) };
}

for (const [name, choose] of [
  ["the image's firmware", imageFirmware],
  ["a firmware that measures SMBIOS", newFirmware],
] as const) {
  test(`a UKI under ${name}: prediction, TPM and log agree`, async (t) => {
    const firmware = await choose(image);
    const unpacked = await unpackDebian("trixie", ["systemd-boot-efi"]);
    t.diagnostic(`systemd-stub ${unpacked.versions["systemd-boot-efi"]}`);
    const stub = readFileSync(join(unpacked.root, "usr/lib/systemd/boot/efi/linuxx64.efi.stub"));
    const uki = unifiedImage(stub, [
      [".osrel", Buffer.from("ID=caisson\n")],
      [".cmdline", Buffer.from("\tconsole=ttyS0 panic=0\nhpet=disable \n")],
      [".linux", readFileSync(join(image, "kernel"))],
    ]);
    const { disk, input, prediction, pcrs, log } = await bootUki(t, firmware, uki);
    ok(prediction.profile.evidence !== undefined);
    for (const pcr of [0, 2, 3, 4, 5, 6, 7, 9, 11])
      equal(pcrs.get(pcr), prediction.pcrs?.[pcr]?.value, `PCR ${pcr}`);
    const events = measuredEvents(log, "pcr");
    const { agrees, first, notVerified } = await explainLog(prediction, events, input);
    equal(agrees, true, first?.cause ?? "");
    deepEqual([...new Set(notVerified.map(({ what }) => what))], ["boot variables"]);

    // The boot manager makes these variables from the disks and network cards that it finds; their data is bound.
    const bootEntries = events
      .filter(({ type }) => type === VARIABLE_BOOT)
      .map(({ data }) => parseVariable(data)!)
      .map((variable) => [variable.name, variable.data] as const);
    const whole = await predict({ ...input, boot: { ...input.boot, bootEntries } as PredictInput["boot"] });
    deepEqual(
      whole.events.map(({ pcr, digest }) => [pcr, digest]),
      events.map(({ pcr, digest }) => [pcr, Buffer.from(digest).toString("hex")]),
    );
    equal(pcrs.get(1), whole.pcrs?.["1"]?.value);

    const resized = Buffer.from(disk.subarray(0, 34 * 512));
    resized[512 + 48]! ^= 1; // the last usable block
    const otherDisk = { ...input, boot: { ...input.boot, disk: resized } as PredictInput["boot"] };
    const differing = await explainLog(await predict(otherDisk), events, otherDisk);
    deepEqual([differing.first?.register, differing.first?.expected?.what], ["rtmr1", "partition table"]);
    notEqual(differing.first?.expected?.digest, differing.first?.found?.digest);
  });
}

/** Changes the VirtualSize of a section of a PE. */
function resize(uki: Buffer, name: string, size: (raw: number) => number): void {
  const header = uki.readUInt32LE(0x3c);
  const table = header + 24 + uki.readUInt16LE(header + 20);
  const at =
    table + uki.subarray(table, table + 40 * uki.readUInt16LE(header + 6)).indexOf(name, 0, "latin1");
  uki.writeUInt32LE(size(uki.readUInt32LE(at + 16)), at + 8);
}

for (const [name, section, size] of [
  ["larger in memory than in the file", ".uname", (raw: number) => raw + 100],
  ["empty in memory", ".uname", () => 0],
  ["cut in memory", ".uname", () => 3],
  ["the kernel, larger in memory", ".linux", (raw: number) => raw + 100],
] as const) {
  test(`a UKI with a section ${name}: the prediction is what the TPM holds`, async (t) => {
    const firmware = imageFirmware(image);
    const unpacked = await unpackDebian("trixie", ["systemd-boot-efi"]);
    const uki = unifiedImage(
      readFileSync(join(unpacked.root, "usr/lib/systemd/boot/efi/linuxx64.efi.stub")),
      [
        [".cmdline", Buffer.from("console=ttyS0 panic=0")],
        [".uname", Buffer.from("7.3.4")],
        // Last: what it is larger in memory lies behind it.
        [".linux", readFileSync(join(image, "kernel"))],
      ],
    );
    resize(uki, section, size);
    const { prediction, pcrs } = await bootUki(t, firmware, uki);
    for (const pcr of [4, 9, 11]) equal(pcrs.get(pcr), prediction.pcrs?.[pcr]?.value, `PCR ${pcr}`);
  });
}
