// SPDX-License-Identifier: Apache-2.0
/**
 * A boot whose measurements are read from outside: PCRs through the TPM's own registers, the event log out of the guest's
 * memory. No program of the guest is asked; it has no root file system, so that its kernel stops in a panic with firmware
 * and boot measured.
 */
import { equal, ok } from "node:assert/strict";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { end } from "@caisson/host/child";
import { imageFwCfg, qemuVersion } from "@caisson/host/fw-cfg";
import { emulatedMachine, type Shape } from "@caisson/host/machine";
import { Qmp } from "@caisson/host/qmp";
import { type Qemu, Qtest } from "@caisson/host/qtest";
import { startTpm } from "@caisson/host/swtpm";
import type { Manifest } from "@caisson/image";
import { type EventLog, type PredictInput, parseEventLog } from "@caisson/measure";
import { firmwareIdentity, ovmfVolumes } from "@caisson/measure/firmware-volume";
import { SMBIOS_TABLES } from "@caisson/measure/smbios";
import { toHex } from "@caisson/vocabulary/bytes";
import { unpackDebian } from "./debian.ts";

export const installedQemu: Qemu = { program: "qemu-system-x86_64" };
const BOOT_LIMIT_MS = 180_000;

/** An OVMF on two flash chips. */
export interface Firmware {
  code: string;
  variables: string;
  release: string;
}

export function imageFirmware(image: string): Firmware {
  const { firmware, versions } = JSON.parse(readFileSync(join(image, "manifest.json"), "utf8")) as Manifest;
  const { code, variables } = firmware.emulated;
  return {
    code: join(image, code.file),
    variables: join(image, variables.file),
    release: versions.firmware.emulated,
  };
}

/** A firmware of the generation of production's, which measures SMBIOS too. */
export async function newFirmware(): Promise<Firmware> {
  const unpacked = await unpackDebian("forky", ["ovmf-generic"]);
  const at = (name: string) => join(unpacked.root, "usr/share/OVMF", name);
  return {
    code: at("OVMF_CODE_4M.fd"),
    variables: at("OVMF_VARS_4M.fd"),
    release: unpacked.versions["ovmf-generic"]!,
  };
}

const read = (path: string) => new Uint8Array(readFileSync(path));

/** Everything that the prediction of such a boot needs but what is booted. `kernel` is any file that QEMU takes. */
export async function machineInput(
  qemu: Qemu,
  { code, variables, release }: Firmware,
  shape: Shape,
  kernel: string,
  cache: string,
): Promise<Omit<PredictInput, "boot">> {
  const machine = { platform: "emulated", shape, kernel, firmware: code, variables } as const;
  const volumes = ovmfVolumes(read(code));
  const identity = firmwareIdentity(volumes.dxe);
  ok(identity !== undefined, "the firmware's strings were not found in it");
  const files = await imageFwCfg(qemu, machine, cache);
  return {
    platform: "emulated",
    firmware: read(code),
    firmwareRelease: release,
    identity,
    volumes,
    variables: read(variables),
    memory: shape.memory * 2 ** 20,
    qemu: await qemuVersion(qemu),
    acpi: files,
    smbios: files[SMBIOS_TABLES]!,
  };
}

/** What the machine starts: a kernel that QEMU hands over, or the loader on a disk. */
export type Start = { kernel: string; commandLine: string } | { disk: string };

/**
 * Boots until the kernel's panic; PCRs 0 to 15 by number, and the log with most events that its memory holds.
 * `vendor`: CPUID's, when it is to be another than TCG's.
 */
export async function boot(
  qemu: Qemu,
  { code, variables }: Firmware,
  shape: Shape,
  start: Start,
  vendor?: string,
): Promise<{ pcrs: Map<number, string>; log: EventLog }> {
  const directory = mkdtempSync(join(tmpdir(), "caisson-boot-"));
  const at = (name: string) => join(directory, name);
  copyFileSync(variables, at("variables.fd"));
  const quotes = createServer().listen(at("quotes.sock"));
  const tpm = await startTpm(directory);
  const args = emulatedMachine(shape, {
    ...("disk" in start ? { kernel: "", commandLine: "" } : start),
    rootfs: "disk" in start ? start.disk : "null-co://",
    instance: "null-co://",
    forwards: [],
    qmpSocket: at("qmp.sock"),
    firmwareCode: code,
    firmwareVariables: at("variables.fd"),
    tpmSocket: tpm.socket,
    quoteSocket: at("quotes.sock"),
    accelerator: "tcg",
  }).map((value) => (value.startsWith("stdio,id=console") ? `file,id=console,path=${at("console")}` : value));
  if (vendor !== undefined) args[args.indexOf("-cpu") + 1] += `,vendor=${vendor}`;
  if ("disk" in start) args.splice(args.indexOf("-kernel"), 4); // with -append, which follows
  try {
    const machine = await Qtest.start(qemu, args, true);
    try {
      await panicked(at("console"));
      const pcrs = new Map<number, string>();
      for (let pcr = 0; pcr < 16; pcr++) pcrs.set(pcr, await readPcr(machine, pcr));
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
