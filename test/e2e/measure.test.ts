/**
 * Reality: the image's kernel under OVMF and swtpm, at several machine shapes. The prediction, made before the boot, must
 * equal what the TPM holds after it and what the guest's log says; a changed byte must be named.
 *
 * The guest gets no root file system, so that its kernel stops in a panic with firmware and boot measured. PCRs are then
 * read through the TPM's own registers, and the log is taken from the guest's memory: no program of the guest is asked.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { end } from "@caisson/host/child";
import { imageFwCfg, qemuVersion, tcgCpu } from "@caisson/host/fw-cfg";
import { emulatedMachine } from "@caisson/host/machine";
import { Qmp } from "@caisson/host/qmp";
import { Qtest } from "@caisson/host/qtest";
import { startTpm } from "@caisson/host/swtpm";
import type { Manifest } from "@caisson/image";
import {
  type EventLog,
  explain,
  measuredEvents,
  type PredictInput,
  parseEventLog,
  predict,
  SMBIOS_TABLES,
} from "@caisson/measure";
import { toHex } from "@caisson/measure/bytes";
import { firmwareIdentity, ovmfVolumes } from "@caisson/measure/firmware-volume";
import { imageOf } from "../image.ts";
import { unpackDebian } from "../integration/debian.ts";

let image: string;
before(async () => {
  image = (await imageOf("development")).directory;
});
const qemu = { program: "qemu-system-x86_64" };
const commandLine = "console=ttyS0 panic=0 hpet=disable";
const BOOT_LIMIT_MS = 180_000;

interface Shape {
  vcpus: number;
  memory: number;
}

/** An OVMF on two flash chips. */
interface Firmware {
  code: string;
  variables: string;
  release: string;
}

function imageFirmware(): Firmware {
  const { firmware, versions } = manifest();
  const { code, variables } = firmware.emulated;
  return {
    code: join(image, code.file),
    variables: join(image, variables.file),
    release: versions.firmware.emulated,
  };
}

/** The generation of production's firmware, which measures SMBIOS too; a string says why it cannot be had. */
async function newFirmware(): Promise<Firmware | string> {
  const unpacked = await unpackDebian("forky", ["ovmf-generic"]);
  if (typeof unpacked === "string") return unpacked;
  const at = (name: string) => join(unpacked.root, "usr/share/OVMF", name);
  return {
    code: at("OVMF_CODE_4M.fd"),
    variables: at("OVMF_VARS_4M.fd"),
    release: unpacked.versions["ovmf-generic"]!,
  };
}

for (const [name, shape, choose] of [
  ["the image's firmware", { vcpus: 1, memory: 512 }, imageFirmware],
  ["the image's firmware", { vcpus: 2, memory: 1024 }, imageFirmware],
  ["a firmware that measures SMBIOS", { vcpus: 1, memory: 1024 }, newFirmware],
  ["a firmware that measures SMBIOS", { vcpus: 2, memory: 768 }, newFirmware],
] as const) {
  test(`${name}, ${shape.vcpus} vCPUs, ${shape.memory} MiB: prediction, TPM and log agree`, async (t) => {
    const firmware = await choose();
    if (typeof firmware === "string") return t.skip(firmware);
    const cache = mkdtempSync(join(tmpdir(), "caisson-measure-"));
    try {
      const input = await predictInput(firmware, shape, cache);
      const prediction = await predict(input);
      const { pcrs, log } = await boot(firmware, shape);

      for (const pcr of [0, 1, 2, 3, 4, 5, 6, 7, 9])
        equal(pcrs.get(pcr), prediction.pcrs?.[pcr]?.value, `PCR ${pcr}`);
      const events = measuredEvents(log, "pcr");
      const comparison = await explain(prediction, events, input);
      equal(comparison.agrees, true, comparison.first?.cause ?? "");
      deepEqual(comparison.notVerified, []);

      const kernel = direct(input).kernel.slice();
      kernel[kernel.length - 1000]! ^= 1;
      const otherKernel = { ...input, boot: { ...direct(input), kernel } };
      const first = (await explain(await predict(otherKernel), events, otherKernel)).first;
      deepEqual([first?.register, first?.cause], ["rtmr1", "other kernel"]);
      const otherLine = { ...input, boot: { ...direct(input), commandLine: `${commandLine} quiet` } };
      const second = (await explain(await predict(otherLine), events, otherLine)).first;
      deepEqual([second?.register, second?.cause], ["rtmr2", "changed command line"]);
      const otherShape = await predictInput(firmware, { ...shape, vcpus: shape.vcpus + 1 }, cache);
      match((await explain(await predict(otherShape), events, otherShape)).first?.cause ?? "", /vCPU count/);
    } finally {
      rmSync(cache, { recursive: true, force: true });
    }
  });
}

function direct({ boot: how }: PredictInput) {
  ok(how.method === "direct");
  return how;
}

const manifest = () => JSON.parse(readFileSync(join(image, "manifest.json"), "utf8")) as Manifest;
const kernelPath = () => join(image, manifest().kernel.file);
const read = (path: string) => new Uint8Array(readFileSync(path));

async function predictInput(firmware: Firmware, shape: Shape, cache: string): Promise<PredictInput> {
  const { code, variables, release } = firmware;
  const kernel = kernelPath();
  const machine = { platform: "emulated", shape, kernel, firmware: code, variables, cpu: tcgCpu } as const;
  const volumes = ovmfVolumes(read(code));
  const identity = firmwareIdentity(volumes.dxe);
  ok(identity !== undefined);
  const files = await imageFwCfg(qemu, machine, cache);
  return {
    platform: "emulated",
    firmware: read(code),
    firmwareRelease: release,
    identity,
    volumes,
    variables: read(variables),
    boot: { method: "direct", kernel: read(kernel), commandLine },
    memory: shape.memory * 2 ** 20,
    qemu: await qemuVersion(qemu),
    acpi: files,
    smbios: files[SMBIOS_TABLES]!,
  };
}

/** Boots until the kernel's panic; PCRs by number, and the log with most events that its memory holds. */
async function boot(
  { code, variables }: Firmware,
  shape: Shape,
): Promise<{ pcrs: Map<number, string>; log: EventLog }> {
  const directory = mkdtempSync(join(tmpdir(), "caisson-boot-"));
  const at = (name: string) => join(directory, name);
  copyFileSync(variables, at("variables.fd"));
  const quotes = createServer().listen(at("quotes.sock"));
  const tpm = await startTpm(directory);
  const args = emulatedMachine(shape, {
    kernel: kernelPath(),
    commandLine,
    rootfs: "null-co://",
    instance: "null-co://",
    forwards: [],
    qmpSocket: at("qmp.sock"),
    firmwareCode: code,
    firmwareVariables: at("variables.fd"),
    tpmSocket: tpm.socket,
    quoteSocket: at("quotes.sock"),
    accelerator: "tcg",
  }).map((value) => (value.startsWith("stdio,id=console") ? `file,id=console,path=${at("console")}` : value));
  try {
    const machine = await Qtest.start(qemu, args, true);
    try {
      await panicked(at("console"));
      const pcrs = new Map<number, string>();
      for (let pcr = 0; pcr < 10; pcr++) pcrs.set(pcr, await readPcr(machine, pcr));
      const qmp = await Qmp.connect(at("qmp.sock"));
      await qmp.execute("pmemsave", { val: 0, size: shape.memory * 2 ** 20, filename: at("memory") });
      return { pcrs, log: findLog(readFileSync(at("memory"))) };
    } finally {
      await machine.close();
    }
  } finally {
    await end(tpm.process);
    quotes.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function panicked(console: string): Promise<void> {
  const limit = performance.now() + BOOT_LIMIT_MS;
  for (;;) {
    const said = existsSync(console) ? readFileSync(console, "latin1") : "";
    if (said.includes("end Kernel panic")) return;
    if (performance.now() > limit)
      throw new Error(`no panic within the limit; last words: ${said.slice(-500)}`);
    await sleep(500);
  }
}

/** TPM2_PCR_Read of the SHA-384 bank, through the command response buffer (PC Client Platform TPM Profile, 6.5.3). */
async function readPcr(machine: Qtest, pcr: number): Promise<string> {
  const crb = 0xfed40000;
  const select = Buffer.alloc(3);
  select[pcr >> 3] = 1 << (pcr & 7);
  const command = Buffer.concat([Buffer.from("8001000000140000017e00000001000c03", "hex"), select]);
  const cleared = async (register: number) => {
    for (let i = 0; i < 500 && ((await machine.readl(crb + register)) & 1) !== 0; i++) await sleep(10);
  };
  await machine.writel(crb + 0x08, 1); // request the locality
  await machine.writel(crb + 0x40, 1); // command ready
  await cleared(0x40);
  await machine.write(crb + 0x80, command);
  await machine.writel(crb + 0x4c, 1); // start
  await cleared(0x4c);
  const response = Buffer.from(await machine.read(crb + 0x80, 128));
  equal(response.readUInt32BE(6), 0, "the TPM refused TPM2_PCR_Read");
  const size = response.readUInt32BE(2);
  return toHex(response.subarray(size - 48, size));
}

function findLog(memory: Buffer): EventLog {
  let best: EventLog | undefined;
  for (
    let at = memory.indexOf("Spec ID Event03\0");
    at >= 0;
    at = memory.indexOf("Spec ID Event03\0", at + 1)
  ) {
    try {
      const log = parseEventLog(memory.subarray(at - 32, at - 32 + 65536));
      if (best === undefined || log.events.length > best.events.length) best = log;
    } catch {
      // the text elsewhere in memory: in the kernel's own code, or in a copy that was overwritten
    }
  }
  ok(best !== undefined, "no event log in the guest's memory");
  return best;
}
