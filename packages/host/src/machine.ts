/**
 * The virtual machine that an image is made for, as QEMU arguments. Pure: the same shape gives the same machine, and
 * so the same ACPI tables and measurements, wherever it runs.
 *
 * q35 without its default devices; virtio-pci in its modern form only; no HPET, so that the TSC has no rival; one
 * serial port that the guest writes to and never reads.
 */

/** What of a machine enters its measurements. */
export interface Shape {
  vcpus: number;
  /** MiB. */
  memory: number;
}

/** Files and sockets of one run. */
export interface Parts {
  firmwareCode: string;
  /** A writable copy; the guest never reaches it after boot. */
  firmwareVariables: string;
  kernel: string;
  commandLine: string;
  rootfs: string;
  /** The instance document's block device. */
  instance: string;
  tpmSocket: string;
  qmpSocket: string;
  /** Where the quoting service listens: the guest's second serial port. */
  quoteSocket: string;
  /** Host TCP ports on 127.0.0.1 by guest port. */
  forwards: readonly { host: number; guest: number }[];
  accelerator: "kvm" | "tcg";
}

/** One option with its value, or an option alone. */
type Option = readonly string[];

/** A comma ends an option's value in QEMU's syntax unless doubled. */
const value = (text: string): string => text.replaceAll(",", ",,");

const pflash = (unit: number, file: string, readonly: "on" | "off"): Option => [
  "-drive",
  `if=pflash,format=raw,unit=${unit},readonly=${readonly},file=${value(file)}`,
];

const disk = (id: string, file: string): Option[] => [
  ["-drive", `if=none,id=${id},format=raw,readonly=on,file=${value(file)}`],
  ["-device", `virtio-blk-pci,drive=${id},disable-legacy=on`],
];

/** The machine that stands in for a TD where there is no TDX: OVMF, a TPM for the measured boot, a quoting port. */
export function emulatedMachine(shape: Shape, parts: Parts): string[] {
  const forwards = parts.forwards
    .map(({ host, guest }) => `,hostfwd=tcp:127.0.0.1:${host}-:${guest}`)
    .join("");
  const kvm = parts.accelerator === "kvm";
  const options: Option[] = [
    ["-nodefaults"],
    ["-no-user-config"],
    ["-no-reboot"],
    ["-display", "none"],
    ["-machine", "q35,hpet=off,smm=off,vmport=off"],
    ["-accel", kvm ? "kvm" : "tcg,thread=multi"],
    ["-cpu", kvm ? "host" : "max"],
    ["-smp", String(shape.vcpus)],
    ["-m", `${shape.memory}M`],
    pflash(0, parts.firmwareCode, "on"),
    pflash(1, parts.firmwareVariables, "off"),
    ["-kernel", parts.kernel],
    ["-append", parts.commandLine],
    ...disk("root", parts.rootfs),
    ...disk("instance", parts.instance),
    ["-netdev", `user,id=net,ipv6=off${forwards}`],
    ["-device", "virtio-net-pci,netdev=net,disable-legacy=on,romfile="],
    ["-chardev", `socket,id=tpm,path=${value(parts.tpmSocket)}`],
    ["-tpmdev", "emulator,id=tpm,chardev=tpm"],
    ["-device", "tpm-crb,tpmdev=tpm"],
    ["-chardev", "stdio,id=console,signal=off"],
    ["-device", "isa-serial,index=0,chardev=console"],
    ["-chardev", `socket,id=quotes,path=${value(parts.quoteSocket)}`],
    ["-device", "isa-serial,index=1,chardev=quotes"],
    ["-qmp", `unix:${value(parts.qmpSocket)},server=on,wait=off`],
  ];
  return options.flat();
}
