// SPDX-License-Identifier: Apache-2.0
/**
 * The virtual machine that an image is made for, as QEMU arguments. Pure: the same shape gives the same machine, and
 * so the same ACPI tables and measurements, wherever it runs.
 *
 * q35 without its default devices; virtio-pci in its modern form only; no HPET, so that the TSC has no rival; one
 * serial port that the guest writes to and never reads.
 */
import { type Disk, disks } from "@caisson/vocabulary/disks";

/** What of a machine enters its measurements. */
export interface Shape {
  vcpus: number;
  /** MiB. */
  memory: number;
  /** Disks of persistent volumes; none when left out. */
  volumes?: number;
}

export interface Forward {
  /** "tcp" when left out. */
  protocol?: "tcp" | "udp";
  host: number;
  guest: number;
}

/** Files and sockets of one run. */
interface CommonParts {
  kernel: string;
  commandLine: string;
  rootfs: string;
  /** The instance document's block device. */
  instance: string;
  /** Disks of the persistent volumes, in the order of their names. */
  volumes?: readonly string[];
  qmpSocket: string;
  /** Ports of the host on 127.0.0.1 that lead to the guest's. */
  forwards: readonly Forward[];
}

export interface EmulatedParts extends CommonParts {
  firmwareCode: string;
  /** A writable copy; the guest never reaches it after boot. */
  firmwareVariables: string;
  tpmSocket: string;
  /** Where the quoting service listens: the guest's second serial port. */
  quoteSocket: string;
  accelerator: Accelerator;
}

export type Accelerator = "kvm" | "tcg";

/**
 * Physical address bits of the emulated machine's processor. From 38 bits downwards OVMF puts its 64-bit MMIO window in
 * the same place whatever else the processor is (`mmioWindow`), so that a machine measures the same ACPI tables on every
 * host, under KVM as under TCG. The host's own bits would not do: /proc/cpuinfo shows fewer of them where memory is
 * encrypted, and what OVMF makes of 40 and more also depends on its version, on QEMU's and on the host's kernel.
 */
export const emulatedPhysicalBits = 38;

/**
 * `-cpu` of the emulated machine. Of QEMU's models only `host` and, under KVM, `max` take the host's bits by themselves.
 * TCG walks the guest's page tables in software: without a fifth level it has one load less for each miss.
 */
export const emulatedProcessor = (accelerator: Accelerator): string => {
  const bits = `host-phys-bits=off,phys-bits=${emulatedPhysicalBits}`;
  return accelerator === "kvm" ? `host,${bits}` : `max,${bits},la57=off`;
};

export interface TdxParts extends CommonParts {
  /** TDVF as one file. */
  firmware: string;
  mrConfigId: Uint8Array;
  /** Vsock port of the host's quote generation service. */
  quotePort: number;
}

/** One option with its value, or an option alone. */
type Option = readonly string[];

/** A comma ends an option's value in QEMU's syntax unless doubled. */
const value = (text: string): string => text.replaceAll(",", ",,");

const pflash = (unit: number, file: string, readonly: "on" | "off"): Option => [
  "-drive",
  `if=pflash,format=raw,unit=${unit},readonly=${readonly},file=${value(file)}`,
];

/**
 * The transfer size that our disks recommend, in bytes; the kernel reads ahead twice as much. Without one it takes
 * virtio's disks for rotating ones and reads 8 MiB ahead, which dm-verity then hashes: most of Node's 119 MiB before its
 * first instruction (Linux block/blk-settings.c, blk_apply_bdi_limits; drivers/block/virtio_blk.c). Under TCG, hashing a
 * page that nobody uses costs more than asking for it when somebody does.
 */
const transferSize = { kvm: 65_536, tcg: 16_384 } satisfies Record<Accelerator, number>;

const disk = (id: string, file: string, transfer: number, readonly: "on" | "off" = "on"): Option[] => [
  ["-drive", `if=none,id=${id},format=raw,readonly=${readonly},file=${value(file)}`],
  ["-device", `virtio-blk-pci,drive=${id},disable-legacy=on,opt_io_size=${transfer}`],
];

/**
 * What both machines have: no default devices, two read-only disks and those of volumes, one network card, QEMU's
 * control socket.
 */
function common(shape: Shape, parts: CommonParts, accelerator: Accelerator): Option[] {
  const transfer = transferSize[accelerator];
  const files: Record<Disk, string> = { root: parts.rootfs, instance: parts.instance };
  const forwards = parts.forwards
    .map(({ protocol = "tcp", host, guest }) => `,hostfwd=${protocol}:127.0.0.1:${host}-:${guest}`)
    .join("");
  return [
    ["-nodefaults"],
    ["-no-user-config"],
    ["-no-reboot"],
    ["-display", "none"],
    ["-smp", String(shape.vcpus)],
    ["-m", `${shape.memory}M`],
    ["-kernel", parts.kernel],
    ["-append", parts.commandLine],
    ...disks.flatMap((role) => disk(role, files[role], transfer)),
    ...(parts.volumes ?? []).flatMap((file, index) => disk(`volume${index}`, file, transfer, "off")),
    ["-netdev", `user,id=net,ipv6=off${forwards}`],
    ["-device", "virtio-net-pci,netdev=net,disable-legacy=on,romfile="],
    ["-chardev", "stdio,id=console,signal=off"],
    ["-device", "isa-serial,index=0,chardev=console"],
    ["-qmp", `unix:${value(parts.qmpSocket)},server=on,wait=off`],
  ];
}

/**
 * Software emulation, all virtual processors in one thread. With a thread each, one may go on executing code that
 * another has just patched, and now and then a kernel dies of a breakpoint of its own (`Oops: int3`; QEMU 7.2, once in
 * about 70 boots). A boot takes the same time either way: hardly any of it runs in parallel.
 */
const tcg = "tcg,thread=single";

/** The machine that stands in for a TD where there is no TDX: OVMF, a TPM for the measured boot, a quoting port. */
export function emulatedMachine(shape: Shape, parts: EmulatedParts): string[] {
  const kvm = parts.accelerator === "kvm";
  const options: Option[] = [
    ["-machine", "q35,hpet=off,smm=off,vmport=off"],
    ["-accel", kvm ? "kvm" : tcg],
    ["-cpu", emulatedProcessor(parts.accelerator)],
    pflash(0, parts.firmwareCode, "on"),
    pflash(1, parts.firmwareVariables, "off"),
    ...common(shape, parts, parts.accelerator),
    ["-chardev", `socket,id=tpm,path=${value(parts.tpmSocket)}`],
    ["-tpmdev", "emulator,id=tpm,chardev=tpm"],
    ["-device", "tpm-crb,tpmdev=tpm"],
    ["-chardev", `socket,id=quotes,path=${value(parts.quoteSocket)}`],
    ["-device", "isa-serial,index=1,chardev=quotes"],
  ];
  return options.flat();
}

/**
 * A trust domain (QEMU 10.1 or newer, docs/system/i386/tdx.rst): the firmware is TDVF, loaded by `-bios` because a TD
 * has no flash; KVM alone, with the interrupt controller split as TDX demands. `mrConfigId` is 48 bytes.
 */
export function tdxMachine(shape: Shape, parts: TdxParts): string[] {
  const guest = {
    "qom-type": "tdx-guest",
    id: "tdx",
    mrconfigid: Buffer.from(parts.mrConfigId).toString("base64"),
    "quote-generation-socket": { type: "vsock", cid: "2", port: String(parts.quotePort) },
  };
  const options: Option[] = [
    ["-object", JSON.stringify(guest)],
    ["-machine", "q35,confidential-guest-support=tdx,hpet=off,smm=off,pic=off,vmport=off"],
    ["-accel", "kvm,kernel-irqchip=split"],
    ["-cpu", "host"],
    ["-bios", parts.firmware],
    ...common(shape, parts, "kvm"),
  ];
  return options.flat();
}
