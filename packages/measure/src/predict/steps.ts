// SPDX-License-Identifier: Apache-2.0
/** What firmware and kernel measure in each step of a boot. */
import { toHex } from "@caisson/vocabulary/bytes";
import { sha384 } from "#sha";
import { utf16le } from "../bytes.ts";
import { MeasureError } from "../errors.ts";
import { measuredAcpiFiles } from "../formats/acpi-tables.ts";
import { authenticode } from "../formats/authenticode.ts";
import { gptEvent } from "../formats/gpt.ts";
import { measuresInitrd, patchSetupHeader } from "../formats/kernel.ts";
import { measuredSmbios } from "../formats/smbios.ts";
import { tdHob } from "../formats/td-hob.ts";
import type { TdxMetadata } from "../formats/tdvf.ts";
import { archivedBesideInitrd, measuredSections, type Uki } from "../formats/uki.ts";
import {
  bootOrderVariable,
  readVariableStore,
  secureBootVariables,
  variableData,
} from "../formats/variables.ts";
import { pcrRegister } from "../logs/event-log.ts";
import * as ev from "../logs/event-types.ts";
import type { DirectBoot, EventSource, PredictedEvent, PredictInput, UkiBoot } from "./prediction.ts";
import { type FirmwareProfile, platformRows, type Step } from "./profiles.ts";

/** What a step is measured by. */
export interface Context {
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
export const measure: Record<Step, (context: Context) => Promise<PredictedEvent[]>> = {
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
