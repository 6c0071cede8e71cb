// SPDX-License-Identifier: Apache-2.0
/**
 * Reality: the image's kernel under OVMF and swtpm, at several machine shapes. The prediction, made before the boot, must
 * equal what the TPM holds after it and what the guest's log says; a changed byte must be named.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import type { Shape } from "@caisson/host/machine";
import type { Qemu } from "@caisson/host/qtest";
import { explainLog, measuredEvents, type PredictInput, predict } from "@caisson/measure";
import { newerQemu } from "../support/debian.ts";
import { imageOf } from "../support/image.ts";
import {
  boot,
  type Firmware,
  imageFirmware,
  installedQemu,
  machineInput,
  newFirmware,
} from "../support/measured-boot.ts";

let image: string;
before(async () => {
  image = (await imageOf("development")).directory;
});
const commandLine = "console=ttyS0 panic=0 hpet=disable";

const installed = () => installedQemu;
for (const [name, shape, chooseFirmware, chooseQemu, vendor] of [
  ["the image's firmware", { vcpus: 1, memory: 512 }, imageFirmware, installed],
  // What KVM shows on a host of Intel's.
  ["that firmware, an Intel processor", { vcpus: 1, memory: 512 }, imageFirmware, installed, "GenuineIntel"],
  ["the image's firmware", { vcpus: 2, memory: 1024 }, imageFirmware, installed],
  ["a firmware that measures SMBIOS", { vcpus: 1, memory: 1024 }, newFirmware, installed],
  ["a firmware that measures SMBIOS", { vcpus: 2, memory: 768 }, newFirmware, installed],
  ["that firmware and QEMU 10.0", { vcpus: 2, memory: 1024 }, newFirmware, newerQemu],
] as const) {
  test(`${name}, ${shape.vcpus} vCPUs, ${shape.memory} MiB: prediction, TPM and log agree`, async () => {
    const firmware = await chooseFirmware(image);
    const qemu = await chooseQemu();
    const cache = mkdtempSync(join(tmpdir(), "caisson-measure-"));
    try {
      const input = await predictInput(qemu, firmware, shape, cache);
      const prediction = await predict(input);
      const { pcrs, log } = await boot(qemu, firmware, shape, { kernel: kernelPath(), commandLine }, vendor);

      for (const pcr of [0, 1, 2, 3, 4, 5, 6, 7, 9])
        equal(pcrs.get(pcr), prediction.pcrs?.[pcr]?.value, `PCR ${pcr}`);
      const events = measuredEvents(log, "pcr");
      const comparison = await explainLog(prediction, events, input);
      equal(comparison.agrees, true, comparison.first?.cause ?? "");
      deepEqual(comparison.notVerified, []);

      const kernel = direct(input).kernel.slice();
      kernel[kernel.length - 1000]! ^= 1;
      const otherKernel = { ...input, boot: { ...direct(input), kernel } };
      const first = (await explainLog(await predict(otherKernel), events, otherKernel)).first;
      deepEqual([first?.register, first?.cause], ["rtmr1", "other kernel"]);
      const otherLine = { ...input, boot: { ...direct(input), commandLine: `${commandLine} quiet` } };
      const second = (await explainLog(await predict(otherLine), events, otherLine)).first;
      deepEqual([second?.register, second?.cause], ["rtmr2", "changed command line"]);
      const otherShape = await predictInput(qemu, firmware, { ...shape, vcpus: shape.vcpus + 1 }, cache);
      match(
        (await explainLog(await predict(otherShape), events, otherShape)).first?.cause ?? "",
        /vCPU count/,
      );
    } finally {
      rmSync(cache, { recursive: true, force: true });
    }
  });
}

function direct({ boot: how }: PredictInput) {
  ok(how.method === "direct");
  return how;
}

const kernelPath = () => join(image, "kernel");

async function predictInput(
  qemu: Qemu,
  firmware: Firmware,
  shape: Shape,
  cache: string,
): Promise<PredictInput> {
  const kernel = new Uint8Array(readFileSync(kernelPath()));
  const machine = await machineInput(qemu, firmware, shape, kernelPath(), cache);
  return { ...machine, boot: { method: "direct", kernel, commandLine } };
}
