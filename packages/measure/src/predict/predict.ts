// SPDX-License-Identifier: Apache-2.0
/**
 * From files and machine shape to the registers of a boot: the list of events that firmware and kernel will measure,
 * each with its digest and the input that determines it, and the registers that they fold to.
 *
 * Invariants: an event whose digest the inputs do not determine stays in the list without one and says why, and its
 * register has no value: nothing is guessed. Digests are lower-case hexadecimal, so that a prediction is JSON as it is.
 */

import { fromHex, toHex } from "@caisson/vocabulary/bytes";
import type { Platform } from "@caisson/vocabulary/platforms";
import { sha384 } from "#sha";
import { groupBy, utf16le } from "../bytes.ts";
import { MeasureError } from "../errors.ts";
import { type AcpiFiles, measuredAcpiFiles } from "../formats/acpi-tables.ts";
import { authenticode } from "../formats/authenticode.ts";
import { gptEvent } from "../formats/gpt.ts";
import { measuresInitrd, patchSetupHeader } from "../formats/kernel.ts";
import { type FirmwareIdentity, measuredSmbios } from "../formats/smbios.ts";
import { type HobStyle, tdHob } from "../formats/td-hob.ts";
import { parseTdxMetadata, type TdxMetadata } from "../formats/tdvf.ts";
import { archivedBesideInitrd, measuredSections, parseUki, type Uki } from "../formats/uki.ts";
import {
  bootOrderVariable,
  readVariableStore,
  secureBootVariables,
  variableData,
} from "../formats/variables.ts";
import { pcrRegister } from "../logs/event-log.ts";
import * as ev from "../logs/event-types.ts";
import { fold, type RegisterName } from "../logs/rtmr.ts";
import { mrtdBothOrders } from "./mrtd.ts";
import { type FirmwareProfile, firmwareProfile, platformRows, qemuProfile, type Step } from "./profiles.ts";

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

/** Predicts a boot. Throws MeasureError with the code of the input that is malformed or unsupported. */
export async function predict(input: PredictInput): Promise<Prediction> {
  const [prediction] = await predictEach(input, [input]);
  return prediction!;
}

/**
 * Predicts one image on many machines: what depends on files alone is hashed once. Throws as `predict` does.
 */
export async function predictEach(
  input: PredictInput,
  machines: readonly MachineShape[],
): Promise<Prediction[]> {
  const profile = firmwareProfile(input.firmwareRelease);
  const qemu = qemuProfile(input.qemu);
  const path = `${input.platform}-${input.boot.method}` as const;
  const steps = profile.steps[path];
  if (steps === undefined) {
    throw new MeasureError(
      "prediction/profile",
      `${profile.name} has no ${input.boot.method} boot on ${input.platform}`,
      { kind: "unsupported" },
    );
  }
  const row = platformRows[input.platform];
  const tdx = row.tdxMetadata ? parseTdxMetadata(input.firmware) : undefined;
  const uki = input.boot.method === "uki" ? parseUki(input.boot.image) : undefined;
  const keepsHeader = keepsKernelHeader(input.platform, profile, qemu);
  const orders = tdx && (await mrtdBothOrders(input.firmware, tdx.sections));
  const evidence = profile.evidence[path];

  const shared = new Map<Step, PredictedEvent[]>();
  const predictions: Prediction[] = [];
  const { acpi: _, smbios: __, ...files } = input;
  for (const machine of machines) {
    const context: Context = { input: { ...files, ...machine }, profile, tdx, uki, keepsHeader };
    const events: PredictedEvent[] = [];
    for (const step of steps) {
      const measured = shared.get(step) ?? (await measure[step](context));
      if (!dependsOnMachine(step, keepsHeader)) shared.set(step, measured);
      events.push(...measured);
    }
    predictions.push({
      platform: input.platform,
      profile: { firmware: profile.name, qemu: input.qemu, ...(evidence !== undefined && { evidence }) },
      ...(orders !== undefined && {
        mrtd: { singlePass: toHex(orders.singlePass), twoPass: toHex(orders.twoPass) },
      }),
      registers: await foldBy(events, (event) => event.register),
      ...(row.pcrs && { pcrs: await foldBy(events, (event) => String(event.pcr)) }),
      events,
    });
  }
  return predictions;
}

const dependsOnMachine = (step: Step, keepsHeader: boolean): boolean =>
  step === "td-hob" || step === "acpi" || step === "smbios" || (step === "kernel" && !keepsHeader);

/** Folds the digests of each group; a group with an open event gets no value. */
async function foldBy<Key extends string>(
  events: readonly PredictedEvent[],
  key: (event: PredictedEvent) => Key,
): Promise<Record<Key, PredictedRegister>> {
  const groups = groupBy(events, key);
  const registers = {} as Record<Key, PredictedRegister>;
  for (const [name, group] of groups) {
    const open = group.filter(({ digest }) => digest === undefined).map(({ what }) => what);
    const digests = group.map(({ digest }) => fromHex(digest ?? "")!);
    registers[name] = { ...(open.length === 0 && { value: toHex(await fold(digests)) }), open };
  }
  return registers;
}

/** Whether the firmware measures the kernel as in the file, or with QEMU's setup header fields written in. */
function keepsKernelHeader(
  platform: Platform,
  profile: FirmwareProfile,
  qemu: ReturnType<typeof qemuProfile>,
): boolean {
  return (
    (profile.namedBlobs && qemu.namedBlobs) ||
    (platformRows[platform].confidential && qemu.keepsConfidentialHeader)
  );
}

interface Context {
  input: PredictInput;
  profile: FirmwareProfile;
  tdx: TdxMetadata | undefined;
  uki: Uki | undefined;
  keepsHeader: boolean;
}

const ZERO_SEPARATOR = new Uint8Array(4);
const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

/** An event whose digest is that of `bytes`. */
async function known(
  pcr: number,
  type: number,
  what: string,
  source: EventSource,
  bytes: Uint8Array,
): Promise<PredictedEvent> {
  return digested(pcr, type, what, source, await sha384(bytes));
}

function digested(
  pcr: number,
  type: number,
  what: string,
  source: EventSource,
  digest: Uint8Array,
): PredictedEvent {
  return { register: pcrRegister(pcr)!, pcr, type, what, source, digest: toHex(digest) };
}

/** An event that will be measured, but whose digest the inputs leave open. */
function open(pcr: number, type: number, what: string, source: EventSource, reason: string): PredictedEvent {
  return { register: pcrRegister(pcr)!, pcr, type, what, source, reason };
}

const separator = (pcr: number) =>
  known(pcr, ev.EV_SEPARATOR, `separator (PCR ${pcr})`, "constant", ZERO_SEPARATOR);
const action = (pcr: number, text: string) => known(pcr, ev.EV_EFI_ACTION, text, "constant", ascii(text));

const volume = async (what: string, bytes: Uint8Array | undefined): Promise<PredictedEvent> =>
  bytes === undefined
    ? open(
        0,
        ev.EV_EFI_PLATFORM_FIRMWARE_BLOB,
        what,
        "firmware",
        "it was not given, or its state in memory cannot be told",
      )
    : known(0, ev.EV_EFI_PLATFORM_FIRMWARE_BLOB, what, "firmware", bytes);

/** QEMU's fw_cfg for -kernel: no boot menu, and the option ROM that a legacy BIOS would boot first. */
const directBootFwCfg: Readonly<Record<string, Uint8Array>> = {
  BootMenu: new Uint8Array(2),
  bootorder: ascii("/rom@genroms/linuxboot_dma.bin\0"),
};
/** What edk2 ≥ 202505 measures of fw_cfg, in its order (fb56dc78ef), with the size it insists on (0: any). */
const measuredFwCfg: readonly (readonly [name: string, size: number])[] = [
  ["etc/extra-pci-roots", 8],
  ["BootMenu", 2],
  ["etc/boot-menu-wait", 2],
  ["etc/reserved-memory-end", 8],
  ["opt/ovmf/X-PciMmio64Mb", 0],
  ["bootorder", 0],
];

/** What each step measures. PCR numbers are edk2's; a TD maps them to registers (`pcrRegister`). */
const measure: Record<Step, (context: Context) => Promise<PredictedEvent[]>> = {
  "td-hob": async ({ input, tdx }) => [
    await known(
      1,
      ev.EV_EFI_HANDOFF_TABLES2,
      "TD HOB",
      "machine",
      tdHob(tdx!.sections, input.memory, input.hob),
    ),
  ],

  cfv: async ({ input, tdx }) => {
    const cfv = configurationVolume(input, tdx);
    if (cfv === undefined) throw new MeasureError("firmware/section", "the firmware has no CFV section");
    return [await known(1, ev.EV_EFI_PLATFORM_FIRMWARE_BLOB2, "configuration volume (CFV)", "firmware", cfv)];
  },

  "fw-cfg": async ({ input }) => {
    const given =
      input.fwCfg ?? (input.boot.method === "direct" ? directBootFwCfg : { BootMenu: new Uint8Array(2) });
    const events = [];
    for (const [name, size] of measuredFwCfg) {
      const bytes = Object.hasOwn(given, name) ? given[name] : undefined;
      if (bytes === undefined || bytes.length === 0 || (size !== 0 && bytes.length !== size)) continue;
      events.push(await known(1, ev.EV_PLATFORM_CONFIG_FLAGS, `fw_cfg ${name}`, "machine", bytes));
    }
    return events;
  },

  "crtm-version": async ({ input: { identity } }) => [
    identity === undefined
      ? open(0, ev.EV_S_CRTM_VERSION, "firmware version", "firmware", "its version string was not given")
      : await known(
          0,
          ev.EV_S_CRTM_VERSION,
          "firmware version",
          "firmware",
          utf16le(`${identity.version}\0`),
        ),
  ],

  "pei-volume": async ({ input: { volumes } }) => [await volume("PEI volume", volumes?.pei)],
  "dxe-volume": async ({ input: { volumes } }) => [await volume("DXE volume", volumes?.dxe)],

  "secure-boot": async ({ input, tdx }) => {
    const store = variableStore(input, tdx);
    const enrolled = (name: string, guid: string) => store?.get(`${name}-${guid}`);
    const state = input.secureBoot ?? (enrolled(...secureBootVariables[1]) === undefined ? "absent" : "on");
    const events = [];
    for (const [name, guid] of secureBootVariables) {
      const data =
        name === "SecureBoot"
          ? { absent: new Uint8Array(), off: Uint8Array.of(0), on: Uint8Array.of(1) }[state]
          : enrolled(name, guid);
      if (name === "dbt" && data === undefined) continue;
      const event = [7, ev.EV_EFI_VARIABLE_DRIVER_CONFIG, `variable ${name}`, "firmware"] as const;
      const bytes = variableData(name, guid, data ?? new Uint8Array());
      events.push(store ? await known(...event, bytes) : open(...event, "the variable store was not given"));
    }
    return events;
  },

  "separator-7": async () => [await separator(7)],
  "separator-1": async () => [await separator(1)],
  "separator-4": async () => [await separator(4)],
  "separators-0-6": async () => Promise.all([0, 1, 2, 3, 4, 5, 6].map(separator)),

  acpi: async ({ input }) => {
    if (input.acpi === undefined) {
      const reason = "the machine's ACPI tables were not given";
      const names = ["loader", "RSDP", ...(platformRows[input.platform].pcrs ? ["TPM log"] : []), "tables"];
      return names.map((name) => open(1, ev.EV_PLATFORM_CONFIG_FLAGS, `ACPI ${name}`, "acpi", reason));
    }
    return Promise.all(
      measuredAcpiFiles(input.acpi).map(({ name, bytes }) =>
        known(1, ev.EV_PLATFORM_CONFIG_FLAGS, `ACPI file ${name}`, "acpi", bytes),
      ),
    );
  },

  kernel: async ({ input, keepsHeader }) => {
    const { kernel, initrd } = directBoot(input);
    const image = keepsHeader ? kernel : patchSetupHeader(kernel, input.memory, initrd?.length);
    const what = keepsHeader ? "kernel" : "kernel with QEMU's setup header";
    return [digested(4, ev.EV_EFI_BOOT_SERVICES_APPLICATION, what, "kernel", await authenticode(image))];
  },

  smbios: async ({ input: { smbios, identity } }) => {
    const event = [1, ev.EV_EFI_HANDOFF_TABLES, "SMBIOS tables", "smbios"] as const;
    if (smbios === undefined) return [open(...event, "the machine's SMBIOS tables were not given")];
    if (identity === undefined) return [open(...event, "what the firmware says of itself was not given")];
    return [await known(...event, measuredSmbios(smbios, identity))];
  },

  "boot-entries": async ({ input, profile, tdx }) => {
    const own = variableStore(input, tdx)?.has(bootOrderVariable) ? undefined : profile.bootEntries;
    const entries = input.boot.method === "direct" ? own : input.boot.bootEntries;
    if (entries === undefined) {
      const reason = "they depend on the machine's disks, or on entries in its variable store";
      return [{ ...open(1, ev.EV_EFI_VARIABLE_BOOT, "boot variables", "machine", reason), several: true }];
    }
    return Promise.all(
      entries.map(([name, data]) => known(1, ev.EV_EFI_VARIABLE_BOOT, `variable ${name}`, "constant", data)),
    );
  },

  calling: async () => [await action(4, "Calling EFI Application from Boot Option")],

  gpt: async ({ input }) => {
    const { disk, sectorSize } = ukiBoot(input);
    return [
      disk === undefined
        ? open(5, ev.EV_EFI_GPT_EVENT, "partition table", "disk", "the disk was not given")
        : await known(5, ev.EV_EFI_GPT_EVENT, "partition table", "disk", gptEvent(disk, sectorSize)),
    ];
  },

  uki: async ({ input }) => [
    digested(4, ev.EV_EFI_BOOT_SERVICES_APPLICATION, "UKI", "uki", await authenticode(ukiBoot(input).image)),
  ],
  "uki-kernel": async ({ uki }) => [
    digested(
      4,
      ev.EV_EFI_BOOT_SERVICES_APPLICATION,
      "kernel inside the UKI",
      "uki",
      await authenticode(uki!.kernel),
    ),
  ],
  "uki-sections": async ({ input, uki }) => {
    if (!ukiBoot(input).sectionsMeasured) return [];
    const events = [];
    for (const name of measuredSections) {
      const content = uki!.sections.get(name);
      if (content === undefined) continue;
      events.push(await known(11, ev.EV_IPL, `name of UKI section ${name}`, "constant", ascii(`${name}\0`)));
      events.push(await known(11, ev.EV_IPL, `UKI section ${name}`, "uki", content));
    }
    return events;
  },

  "load-options": async ({ input, profile, uki }) => {
    const line = uki === undefined ? loadOptions(directBoot(input), profile) : uki.commandLine;
    const event = [
      9,
      ev.EV_EVENT_TAG,
      "kernel command line",
      uki === undefined ? "command line" : "uki",
    ] as const;
    if (line === undefined) return [open(...event, "the UKI has none: it is the boot entry's")];
    return line === "" ? [] : [await known(...event, utf16le(`${line}\0`))];
  },

  initrd: async ({ input, uki }) => {
    const event = [9, ev.EV_EVENT_TAG, "initrd", uki === undefined ? "initrd" : "uki"] as const;
    const archived = uki === undefined ? [] : archivedBesideInitrd(uki);
    // A kernel without initrd support leaves everything where it is.
    if (archived.length > 0 && (uki!.initrd !== undefined || measuresInitrd(uki!.kernel))) {
      return [open(...event, `the stub adds archives of ${archived.join(", ")} to it`)];
    }
    const initrd = uki === undefined ? directBoot(input).initrd : uki.initrd;
    return initrd === undefined || initrd.length === 0 ? [] : [await known(...event, initrd)];
  },

  "exit-boot-services": async () => [
    await action(5, "Exit Boot Services Invocation"),
    await action(5, "Exit Boot Services Returned with Success"),
  ],
};

/** The command line as OVMF hands it to the kernel: with `initrd=initrd` if there is an initrd. */
function loadOptions({ commandLine, initrd }: DirectBoot, { initrdArgument }: FirmwareProfile): string {
  if (initrd === undefined || initrd.length === 0) return commandLine;
  return initrdArgument === "prefix" ? `initrd=initrd ${commandLine}` : `${commandLine} initrd=initrd`;
}

function variableStore(input: PredictInput, tdx: TdxMetadata | undefined) {
  const volume = configurationVolume(input, tdx);
  return volume && readVariableStore(volume);
}

/** The volume that holds UEFI variables: the CFV section of a TDX image, or the separate VARS file. */
function configurationVolume(input: PredictInput, tdx: TdxMetadata | undefined): Uint8Array | undefined {
  if (tdx === undefined) return input.variables;
  const section = tdx.sections.find(({ type }) => type === "CFV");
  return section && input.firmware.subarray(section.dataOffset, section.dataOffset + section.rawSize);
}

function directBoot({ boot }: PredictInput): DirectBoot {
  if (boot.method !== "direct") throw new MeasureError("prediction/input", "a direct boot needs a kernel");
  return boot;
}

function ukiBoot({ boot }: PredictInput): UkiBoot {
  if (boot.method !== "uki") throw new MeasureError("prediction/input", "a UKI boot needs a UKI");
  return boot;
}
