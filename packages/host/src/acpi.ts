/**
 * The ACPI files that a QEMU machine hands to its firmware, read out of a stock QEMU over qtest. No firmware, guest
 * code, KVM or TDX runs. QEMU completes the tables when fw_cfg is first read after the chipset is set up, so this does
 * what OVMF does before that: the ECAM base, the PM base, and 64-bit BARs placed in its MMIO window.
 * Idea: Edgeless Systems' Contrast. Registers: Intel 82G33 (MCH) and ICH9 datasheets; OvmfPkg PlatformPei.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import type { AcpiFiles } from "@caisson/measure";
import { exited, start } from "./child.ts";
import { HostError } from "./errors.ts";
import { type Qemu, Qtest } from "./qtest.ts";

/** fw_cfg items that a firmware may measure: ACPI's, and those that edk2 ≥ 202505 measures in a TD. */
const wanted = [
  "etc/acpi/tables",
  "etc/acpi/rsdp",
  "etc/table-loader",
  "etc/tpm/log",
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
export interface AcpiMachine {
  arguments: readonly string[];
  /** Base of OVMF's 64-bit MMIO window; see `mmioWindow`. */
  window: bigint;
}

/**
 * Where OVMF starts its 64-bit MMIO window (OvmfPkg/Library/PlatformInitLib/MemDetect.c). `physicalBits` is the
 * guest's, where the host's real value is passed on (a TD; `-cpu host`): an eighth of the address space at its top, with
 * 46 bits at most. Without it (TCG) the window of 32 GiB begins at the first multiple of 32 GiB above RAM.
 */
export function mmioWindow(memory: number, physicalBits?: number): bigint {
  if (physicalBits !== undefined) {
    const bits = BigInt(Math.min(physicalBits, 46));
    return (1n << bits) - (1n << (bits - 3n));
  }
  const low = memory < 0xb0000000 ? memory : 0x80000000;
  const top = 2 ** 32 + memory - low;
  const size = 32n << 30n;
  return ((BigInt(top) + size - 1n) / size) * size;
}

/** Reads the measured fw_cfg files of a machine. Throws HostError when QEMU is missing, fails or ends. */
export async function readAcpiFiles(qemu: Qemu, machine: AcpiMachine): Promise<AcpiFiles> {
  const qtest = await Qtest.start(qemu, machine.arguments);
  try {
    await setUpChipset(qtest);
    await placeBars(qtest, machine.window);
    const directory = await fileDirectory(qtest);
    const files: Record<string, Uint8Array> = {};
    for (const name of wanted) {
      const file = directory.get(name);
      if (file !== undefined && file.size > 0) files[name] = await readItem(qtest, file.selector, file.size);
    }
    return files;
  } finally {
    await qtest.close();
  }
}

/**
 * The same, from `cache` where this machine was read before. The key is QEMU's version line and every argument, so that
 * a cached set is what this QEMU would give again.
 */
export async function cachedAcpiFiles(qemu: Qemu, machine: AcpiMachine, cache: string): Promise<AcpiFiles> {
  const version = await qemuVersionText(qemu);
  const key = createHash("sha256")
    .update(JSON.stringify([version, machine.arguments, String(machine.window)]))
    .digest("hex");
  const path = join(cache, `${key}.json`);
  let stored: Record<string, string> | undefined;
  try {
    stored = JSON.parse(readFileSync(path, "utf8")) as Record<string, string>;
  } catch {
    // Never read before, or the file was damaged: read the machine.
  }
  if (stored !== undefined) {
    return Object.fromEntries(
      Object.entries(stored).map(([name, base64]) => [name, new Uint8Array(Buffer.from(base64, "base64"))]),
    );
  }
  const files = await readAcpiFiles(qemu, machine);
  mkdirSync(cache, { recursive: true });
  const text = JSON.stringify(
    Object.fromEntries(
      Object.entries(files).map(([name, bytes]) => [name, Buffer.from(bytes).toString("base64")]),
    ),
  );
  writeFileSync(`${path}.${process.pid}`, text);
  renameSync(`${path}.${process.pid}`, path);
  return files;
}

/** "10.0.13" of a QEMU binary. Throws HostError "host/program-failed" where its version line is none. */
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
