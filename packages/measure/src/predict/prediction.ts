// SPDX-License-Identifier: Apache-2.0
/** What a prediction is made from, and what it says. */
import type { Platform } from "@caisson/vocabulary/platforms";
import type { AcpiFiles } from "../formats/acpi-tables.ts";
import type { FirmwareIdentity } from "../formats/smbios.ts";
import type { HobStyle } from "../formats/td-hob.ts";
import type { RegisterName } from "../logs/rtmr.ts";

/** A kernel that QEMU hands over with -kernel, -append and perhaps -initrd. */
export interface DirectBoot {
  method: "direct";
  kernel: Uint8Array;
  commandLine: string;
  initrd?: Uint8Array;
}

/** A unified kernel image that the firmware's boot manager starts from a disk. */
export interface UkiBoot {
  method: "uki";
  image: Uint8Array;
  /** The first sectors of its disk, with the partition table; without them the GPT event is open. */
  disk?: Uint8Array;
  sectorSize?: 512 | 4096;
  /** Boot variables in the order of measurement; without them their events are open. */
  bootEntries?: readonly (readonly [name: string, data: Uint8Array])[];
  /** Whether the stub measures its sections (systemd-stub with a TPM or a CC protocol). */
  sectionsMeasured: boolean;
}

/** Everything a prediction depends on. Sizes in bytes. */
export interface PredictInput {
  platform: Platform;
  firmware: Uint8Array;
  /** edk2's stable release that the firmware was built from, or a version that begins with it ("2025.02-8"). */
  firmwareRelease: string;
  /** What it says of itself in PCR 0's first event and in SMBIOS (`firmwareIdentity` in firmware-volume.ts). */
  identity?: FirmwareIdentity;
  boot: DirectBoot | UkiBoot;
  /** RAM of the guest. */
  memory: number;
  /** QEMU's version, "major.minor…". */
  qemu: string;
  /** The machine's ACPI files (they carry vCPU count and devices); without them their events are open. */
  acpi?: AcpiFiles;
  /** The machine's SMBIOS structures (fw_cfg's etc/smbios/smbios-tables); edk2 ≥ 202505 measures them. */
  smbios?: Uint8Array;
  /** fw_cfg items that edk2 ≥ 202505 measures in a TD, by name; default: what QEMU sets for a direct boot. */
  fwCfg?: Readonly<Record<string, Uint8Array>>;
  /** Whether the SecureBoot variable exists and says on; default: on with an enrolled PK, else absent. */
  secureBoot?: "absent" | "off" | "on";
  /** A separate variable store (VARS file) of the emulated platform. */
  variables?: Uint8Array;
  /** Whose TD HOB; default QEMU's. */
  hob?: HobStyle;
  /** The volumes that PCR 0 covers, as they are measured (`ovmfVolumes` in firmware-volume.ts). */
  volumes?: { pei?: Uint8Array | undefined; dxe?: Uint8Array | undefined };
}

/** Which input decides an event's digest; "constant" for the specification itself. */
export type EventSource =
  | "firmware"
  | "kernel"
  | "command line"
  | "initrd"
  | "uki"
  | "disk"
  | "acpi"
  | "smbios"
  | "machine"
  | "constant";

/**
 * One event in the order of measurement. `digest` is absent where the inputs leave it open; `reason` says why, and
 * `several` that it stands for one or more events of its type.
 */
export interface PredictedEvent {
  register: RegisterName;
  pcr: number;
  type: number;
  what: string;
  source: EventSource;
  digest?: string;
  reason?: string;
  several?: true;
}

/** A register: its value where every event of it is known, else absent. */
export interface PredictedRegister {
  value?: string;
  /** What the value depends on that the inputs do not determine. */
  open: readonly string[];
}

/** A prediction; JSON as it is. */
export interface Prediction {
  platform: Platform;
  profile: {
    firmware: string;
    qemu: string;
    /** The real log that confirms this layout; absent: the layout is unverified. */
    evidence?: string;
  };
  /** A TD's MRTD in both page orders (a property of the host); absent on the emulated platform. */
  mrtd?: { singlePass: string; twoPass: string };
  /** Registers that fold events. On the emulated platform "mrtd" is the fold of PCR 0's events. */
  registers: Partial<Record<RegisterName, PredictedRegister>>;
  /** On the emulated platform: PCR values by number. */
  pcrs?: Record<string, PredictedRegister>;
  events: readonly PredictedEvent[];
}

/** What of a machine changes from guest to guest of one image. */
export interface MachineShape {
  memory: number;
  acpi?: AcpiFiles;
  smbios?: Uint8Array;
}
