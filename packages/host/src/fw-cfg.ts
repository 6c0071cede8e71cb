// SPDX-License-Identifier: Apache-2.0
/**
 * What a QEMU machine hands to its firmware over fw_cfg and the firmware measures (ACPI files, SMBIOS structures, a few
 * settings), read out of a stock QEMU over qtest. No firmware, guest code, KVM or TDX runs. QEMU completes its ACPI
 * tables when fw_cfg is first read after the chipset is set up, so this does what OVMF does before that: the ECAM base,
 * the PM base, and 64-bit BARs placed in its MMIO window.
 * Idea: Edgeless Systems' Contrast. Registers: Intel 82G33 (MCH) and ICH9 datasheets; OvmfPkg PlatformPei.
 */

import { createHash } from "node:crypto";
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { makeDirectory } from "@caisson/vocabulary/directory";
import type { Platform, PlatformTable } from "@caisson/vocabulary/platforms";
import { end, exited, start } from "./child.ts";
import { HostError } from "./errors.ts";
import {
  type EmulatedParts,
  emulatedMachine,
  emulatedPhysicalBits,
  type Shape,
  type TdxParts,
  tdxMachine,
} from "./machine.ts";
import { type Qemu, Qtest } from "./qtest.ts";
import { startTpm } from "./swtpm.ts";

/** fw_cfg files by name. */
export type FwCfgFiles = Readonly<Record<string, Uint8Array>>;

/** Files that a firmware may measure: ACPI's, and from edk2 202505 SMBIOS and, in a TD, settings. */
export const measuredFiles = [
  "etc/acpi/tables",
  "etc/acpi/rsdp",
  "etc/table-loader",
  "etc/tpm/log",
  "etc/smbios/smbios-tables",
  "etc/extra-pci-roots",
  "etc/boot-menu-wait",
  "etc/reserved-memory-end",
  "opt/ovmf/X-PciMmio64Mb",
  "bootorder",
] as const;
const FILE_DIRECTORY = 0x19;
/** The directory's entry count and file sizes come from QEMU; these only bound a broken one. */
const MAX_FILES = 256;
const MAX_FILE = 4 << 20;
/** Guest RAM that the DMA reads may use: above the low megabyte, below any machine's size. */
const DMA_DESCRIPTOR = 0x0400_0000;
const DMA_BUFFER = 0x0410_0000;

/** A machine: QEMU's arguments without accelerator and display, and where the firmware puts 64-bit BARs. */
export interface FwCfgMachine {
  arguments: readonly string[];
  /** Base of OVMF's 64-bit MMIO window; see `mmioWindow`. */
  window: bigint;
}

/** What of the guest's CPU decides where OVMF puts its MMIO window: CPUID's vendor and physical address bits. */
export interface GuestCpu {
  /** Twelve characters, such as "GenuineIntel". */
  vendor: string;
  physicalBits: number;
}

/** 64-bit MMIO that OVMF offers at least (PcdPciMmio64Size): 32 GiB. */
const CLASSIC_SIZE = 32n << 30n;
/** QEMU keeps the last 12 GiB below 1 TiB free for HyperTransport on AMD CPUs (hw/i386/pc.c, AMD_HT_START). */
const HYPERTRANSPORT = 0xfd00000000n;

/**
 * Where OVMF starts its 64-bit MMIO window (OvmfPkg/Library/PlatformInitLib/MemDetect.c): the top eighth of the address
 * space, below what QEMU reserves, where it believes the CPU's address bits, and an eighth is more than 32 GiB and lies
 * above the place for those; else there, the first multiple of 32 GiB above RAM. Up to 38 bits an eighth is never more:
 * then neither the vendor counts nor what newer OVMFs look at besides (guest address bits, 5-level paging).
 * `memory` in bytes.
 */
export function mmioWindow(memory: number, { vendor, physicalBits }: GuestCpu): bigint {
  const low = memory < 0xb0000000 ? memory : 0x80000000;
  const top = BigInt(2 ** 32 + memory - low);
  const classic = ((top + CLASSIC_SIZE - 1n) / CLASSIC_SIZE) * CLASSIC_SIZE;
  const believed =
    physicalBits >= 41 ||
    (vendor === "AuthenticAMD" && physicalBits === 40) ||
    (vendor === "GenuineIntel" && [36, 39].includes(physicalBits));
  const space = 1n << BigInt(Math.min(physicalBits, 46));
  const size = space / 8n;
  if (!believed || size <= CLASSIC_SIZE || classic + size >= space) return classic;
  const base = space - size;
  const reserved = vendor === "AuthenticAMD" && base < 1n << 40n && base + size > HYPERTRANSPORT;
  return reserved ? ((HYPERTRANSPORT - size) / size) * size : base;
}

/** Reads the measured files of a machine. Throws HostError when QEMU is missing, fails or ends. */
export async function fwCfgOf(qemu: Qemu, machine: FwCfgMachine): Promise<FwCfgFiles> {
  const qtest = await Qtest.start(qemu, machine.arguments);
  try {
    await setUpChipset(qtest);
    await placeBars(qtest, machine.window);
    const directory = await fileDirectory(qtest);
    const files: Record<string, Uint8Array> = {};
    for (const name of measuredFiles) {
      const file = directory.get(name);
      if (file !== undefined && file.size > 0) files[name] = await readItem(qtest, file.selector, file.size);
    }
    return files;
  } finally {
    await qtest.close();
  }
}

/**
 * What `read` gives, from `cache` where it was read before. `machine` names the machine whatever its temporary paths
 * are; with QEMU's version line and the files' names it is the key, so that a cached set is what this QEMU would give
 * again.
 */
export async function cachedFwCfg(
  qemu: Qemu,
  machine: unknown,
  cache: string,
  read: () => Promise<FwCfgFiles>,
): Promise<FwCfgFiles> {
  const version = await qemuVersionText(qemu);
  const key = createHash("sha256")
    .update(JSON.stringify([version, machine, measuredFiles]))
    .digest("hex");
  const path = join(cache, `${key}.json`);
  const stored = readCache(path);
  if (stored !== undefined) return stored;
  const files = await read();
  makeDirectory(cache);
  const encoded = Object.entries(files).map(([name, bytes]) => [name, Buffer.from(bytes).toString("base64")]);
  writeFileSync(`${path}.${process.pid}`, JSON.stringify(Object.fromEntries(encoded)));
  renameSync(`${path}.${process.pid}`, path);
  return files;
}

/** A damaged or missing cache file is not an error: the machine is read again. */
function readCache(path: string): FwCfgFiles | undefined {
  try {
    const stored = JSON.parse(readFileSync(path, "utf8")) as Record<string, string>;
    const decoded = Object.entries(stored).map(([name, base64]) => [
      name,
      new Uint8Array(Buffer.from(base64, "base64")),
    ]);
    return Object.fromEntries(decoded) as FwCfgFiles;
  } catch {
    return undefined;
  }
}

/** The machine of an image: its shape, and the files whose presence (not contents) its ACPI tables show. */
export interface ImageMachine {
  platform: Platform;
  shape: Shape;
  kernel: string;
  /** Emulated: the code part; TDX: the whole image. */
  firmware: string;
  /** Emulated: the variable store. */
  variables?: string;
}

interface PlatformMachine {
  arguments(shape: Shape, parts: EmulatedParts & TdxParts): string[];
  cpu: GuestCpu;
  /** Whether the machine has a TPM. */
  tpm: boolean;
}

const platformMachines: PlatformTable<PlatformMachine> = {
  // Servers with TDX have 46 bits or more, and OVMF makes 46 of more.
  tdx: { arguments: tdxMachine, cpu: { vendor: "GenuineIntel", physicalBits: 46 }, tpm: false },
  // The vendor is irrelevant at 38 address bits and fewer (see `mmioWindow`).
  emulated: {
    arguments: emulatedMachine,
    cpu: { vendor: "", physicalBits: emulatedPhysicalBits },
    tpm: true,
  },
};

/**
 * Files of the machine that `vm.ts` would start for an image. A TD's machine is read without its protection, which the
 * ACPI tables do not show (compared with those of a live TD: test/integration/measure-fw-cfg.test.ts). Every machine is
 * read with `-cpu max` of TCG, whose ID stands in SMBIOS in place of the one that a TD and KVM take from the host
 * (`withProcessor` puts another one there).
 */
export async function imageFwCfg(qemu: Qemu, machine: ImageMachine, cache: string): Promise<FwCfgFiles> {
  const { shape } = machine;
  const platform = platformMachines[machine.platform];
  const window = mmioWindow(shape.memory * 2 ** 20, platform.cpu);
  const volumes = Array<string>(shape.volumes ?? 0).fill("null-co://");
  const empty = { commandLine: "", rootfs: "null-co://", instance: "null-co://", volumes, forwards: [] };
  const named = {
    ...empty,
    kernel: "kernel",
    qmpSocket: "qmp",
    firmware: "firmware",
    firmwareCode: "code",
    firmwareVariables: "variables",
    tpmSocket: "tpm",
    quoteSocket: "quotes",
    accelerator: "tcg",
    mrConfigId: new Uint8Array(48),
    quotePort: 0,
  } as const;
  const build = (parts: EmulatedParts & TdxParts) => withoutAccelerator(platform.arguments(shape, parts));

  return cachedFwCfg(qemu, { machine: build(named), window: String(window) }, cache, async () => {
    const directory = mkdtempSync(join(tmpdir(), "caisson-fw-cfg-"));
    const quotes = createServer().listen(join(directory, "quotes.sock"));
    try {
      const tpm = platform.tpm ? await startTpm(directory) : undefined;
      const variables = join(directory, "variables.fd");
      if (machine.variables !== undefined) copyFileSync(machine.variables, variables);
      const parts = {
        ...named,
        kernel: machine.kernel,
        qmpSocket: join(directory, "qmp.sock"),
        firmware: machine.firmware,
        firmwareCode: machine.firmware,
        firmwareVariables: variables,
        tpmSocket: tpm?.socket ?? "",
        quoteSocket: join(directory, "quotes.sock"),
      };
      try {
        return await fwCfgOf(qemu, { arguments: build(parts), window });
      } finally {
        if (tpm !== undefined) await end(tpm.process);
      }
    } finally {
      quotes.close();
      rmSync(directory, { recursive: true, force: true });
    }
  });
}

/** What only a real start needs: the accelerator with its CPU, and the protection of a TD. */
function withoutAccelerator(args: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const [option, value] = [args[i]!, args[i + 1] ?? ""];
    if (option === "-accel" || option === "-object") i++;
    else if (option === "-cpu") {
      kept.push(option, "max");
      i++;
    } else if (option === "-machine") {
      kept.push(option, value.replace(/,(?:kernel-irqchip|confidential-guest-support)=[^,]*/g, ""));
      i++;
    } else kept.push(option);
  }
  return kept;
}

/** "10.0.13" of a QEMU binary. Throws HostError "host/program-failed" when the program prints no version. */
export async function qemuVersion(qemu: Qemu): Promise<string> {
  const text = await qemuVersionText(qemu);
  const match = /version (\d+\.\d+\.\d+)/.exec(text);
  if (match === null) throw new HostError("host/program-failed", `${qemu.program} names no version`);
  return match[1]!;
}

async function qemuVersionText(qemu: Qemu): Promise<string> {
  const child = await start(qemu.program, [...(qemu.prefix ?? []), "--version"], "qemu-system-x86");
  const [text, status] = await Promise.all([buffer(child.stdout!), exited(child)]);
  if (status !== 0)
    throw new HostError("host/program-failed", `${qemu.program} --version ended with ${status}`);
  return text.toString("utf8").split("\n", 1)[0]!;
}

async function configRead(qtest: Qtest, device: number, register: number): Promise<number> {
  await qtest.outl(0xcf8, 0x80000000 | (device << 11) | register);
  return qtest.inl(0xcfc);
}

async function configWrite(qtest: Qtest, device: number, register: number, value: number): Promise<void> {
  await qtest.outl(0xcf8, 0x80000000 | (device << 11) | register);
  await qtest.outl(0xcfc, value);
}

/** PCIEXBAR of the MCH (256 buses at 0xe0000000) and the PM base of the LPC bridge, enabled. */
async function setUpChipset(qtest: Qtest): Promise<void> {
  await configWrite(qtest, 0, 0x64, 0);
  await configWrite(qtest, 0, 0x60, 0xe0000001);
  await configWrite(qtest, 0x1f, 0x40, 0x600);
  await qtest.outl(0xcf8, 0x80000000 | (0x1f << 11) | 0x44);
  await qtest.outb(0xcfc, 0x80);
}

/** Places every 64-bit prefetchable BAR on bus 0 upwards from `base`; from the lowest QEMU derives the DSDT's window. */
async function placeBars(qtest: Qtest, base: bigint): Promise<void> {
  let next = base;
  for (let device = 0; device < 32; device++) {
    if ((await configRead(qtest, device, 0)) === 0xffffffff) continue;
    for (let bar = 0; bar < 6; bar++) {
      const register = 0x10 + 4 * bar;
      const value = await configRead(qtest, device, register);
      if ((value & 0b111) !== 0b100) continue; // not a 64-bit memory BAR
      bar++;
      await configWrite(qtest, device, register, 0xffffffff);
      await configWrite(qtest, device, register + 4, 0xffffffff);
      const low = BigInt(((await configRead(qtest, device, register)) & ~0xf) >>> 0);
      const mask = low | (BigInt(await configRead(qtest, device, register + 4)) << 32n);
      const size = BigInt.asUintN(64, -mask);
      const place = size !== 0n && (value & 8) !== 0;
      const address = place ? ((next + size - 1n) / size) * size : 0n;
      await configWrite(qtest, device, register, Number(address & 0xffffffffn));
      await configWrite(qtest, device, register + 4, Number(address >> 32n));
      if (!place) continue;
      next = address + size;
      const command = await configRead(qtest, device, 4);
      await configWrite(qtest, device, 4, (command & 0xffff) | 2);
    }
  }
}

/** fw_cfg by DMA (docs/specs/fw_cfg.rst): select and read in one big-endian descriptor. */
async function readItem(qtest: Qtest, selector: number, size: number): Promise<Uint8Array> {
  if (size === 0 || size > MAX_FILE)
    throw new HostError("host/program-failed", `a fw_cfg item of ${size} bytes`);
  const descriptor = Buffer.alloc(16);
  descriptor.writeUInt32BE(((selector << 16) | 0b1010) >>> 0, 0);
  descriptor.writeUInt32BE(size, 4);
  descriptor.writeBigUInt64BE(BigInt(DMA_BUFFER), 8);
  await qtest.write(DMA_DESCRIPTOR, descriptor);
  const address = Buffer.alloc(4);
  address.writeUInt32BE(DMA_DESCRIPTOR);
  await qtest.outl(0x514, 0);
  await qtest.outl(0x518, address.readUInt32LE());
  return qtest.read(DMA_BUFFER, size);
}

async function fileDirectory(qtest: Qtest): Promise<Map<string, { selector: number; size: number }>> {
  const count = Buffer.from(await readItem(qtest, FILE_DIRECTORY, 4)).readUInt32BE();
  if (count > MAX_FILES) throw new HostError("host/program-failed", `${count} fw_cfg files`);
  const bytes = Buffer.from(await readItem(qtest, FILE_DIRECTORY, 4 + 64 * count));
  const files = new Map<string, { selector: number; size: number }>();
  for (let at = 4; at < bytes.length; at += 64) {
    const name = bytes.toString("latin1", at + 8, at + 64).replace(/\0.*$/s, "");
    files.set(name, { size: bytes.readUInt32BE(at), selector: bytes.readUInt16BE(at + 4) });
  }
  return files;
}
