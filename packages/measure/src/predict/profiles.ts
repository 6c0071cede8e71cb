// SPDX-License-Identifier: Apache-2.0
/**
 * What differs between generations of edk2 and QEMU, as data: which events a boot consists of, in which order.
 * A row changes with a named upstream commit; `evidence` names the real log that confirms a path, and a path without
 * one is reported as unverified.
 */
import type { Platform, PlatformTable } from "@caisson/vocabulary/platforms";
import { MeasureError } from "../errors.ts";
import { bootOrder, loadOption } from "../formats/variables.ts";

export type BootMethod = "direct" | "uki";

/** What of a boot depends on the platform alone. */
export const platformRows: PlatformTable<{
  /** The firmware image says by TDX metadata what is loaded and measured before it runs. */
  tdxMetadata: boolean;
  /** There is a TPM: registers are folded from PCRs, and its log is an ACPI file. */
  pcrs: boolean;
  /** QEMU sees a confidential guest. */
  confidential: boolean;
}> = {
  tdx: { tdxMetadata: true, pcrs: false, confidential: true },
  emulated: { tdxMetadata: false, pcrs: true, confidential: false },
};

/** One step of a boot; `steps.ts` turns each into the events that it measures. */
export type Step =
  | "td-hob"
  | "cfv"
  | "fw-cfg"
  | "crtm-version"
  | "pei-volume"
  | "dxe-volume"
  | "secure-boot"
  | "separator-7"
  | "separator-1"
  | "separator-4"
  | "separators-0-6"
  | "acpi"
  | "kernel"
  | "smbios"
  | "boot-entries"
  | "calling"
  | "gpt"
  | "uki"
  | "uki-kernel"
  | "uki-sections"
  | "load-options"
  | "initrd"
  | "exit-boot-services";

/**
 * How a family of firmware numbers its releases: a number that grows with them; undefined for what is not one of its
 * releases. Another family (td-shim, coreboot) is a row here and profiles of its own.
 */
const families = {
  /** Stable releases by year and month, yyyymm: "202502", "2025.02-8+deb13u1", "edk2-stable202505". */
  edk2(release: string): number | undefined {
    const [, year, month] = /^(?:edk2-(?:stable)?)?(20\d\d)\.?(\d\d)(?!\d)/.exec(release) ?? [];
    return year === undefined ? undefined : Number(`${year}${month}`);
  },
} satisfies Record<string, (release: string) => number | undefined>;

/** One generation of a family. `since` is its first release, as the family counts. */
export interface FirmwareProfile {
  name: string;
  family: keyof typeof families;
  since: number;
  /** Layout of the boot, by platform and method; absent where this generation cannot do it. */
  steps: Readonly<Record<`${Platform}-${BootMethod}`, readonly Step[] | undefined>>;
  /** Where ` initrd=initrd` goes when an initrd is given over fw_cfg. */
  initrdArgument: "suffix" | "prefix";
  /** Boot variables of a direct boot: name and data. */
  bootEntries: readonly (readonly [name: string, data: Uint8Array])[];
  /** Whether the loader prefers the untouched kernel that QEMU ≥ 10.0 offers as `etc/boot/kernel`. */
  namedBlobs: boolean;
  /** The real log behind a layout. */
  evidence: Readonly<Partial<Record<`${Platform}-${BootMethod}`, string>>>;
}

const DXE_VOLUME = "7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1";
const UI_APP = "462caa21-7614-4503-836e-8ab6f4662331";
const BOOT_MANAGER_MENU = "eec25bdc-67f2-4d95-b1d5-f81b2039d11d";

/** Up to 202502 the only entry is UiApp (active, hidden, application). */
const uiAppOnly = [
  ["BootOrder", bootOrder([0])],
  ["Boot0000", loadOption(0x109, "UiApp", DXE_VOLUME, UI_APP)],
] as const;

/** From 202505 (9d9e3a2ba8, d433b4c8e4) the boot manager's menu comes first, then the setup application. */
const menuAndSetup = [
  ["BootOrder", bootOrder([0, 1])],
  ["Boot0000", loadOption(0x109, "BootManagerMenuApp", DXE_VOLUME, BOOT_MANAGER_MENU)],
  ["Boot0001", loadOption(0x101, "EFI Firmware Setup", DXE_VOLUME, UI_APP)],
] as const;

const tdxStart: readonly Step[] = ["td-hob", "cfv"];
const linuxEnd: readonly Step[] = ["load-options", "initrd", "exit-boot-services"];
const emulatedStart: readonly Step[] = [
  "crtm-version",
  "pei-volume",
  "dxe-volume",
  "secure-boot",
  "separator-7",
];
const emulatedEnd: readonly Step[] = ["calling", "separators-0-6", ...linuxEnd];
/** From the disk on. systemd-stub measures its sections before it loads the kernel. */
const ukiStart: readonly Step[] = ["gpt", "uki", "uki-sections", "uki-kernel", ...linuxEnd];

const tdxDirect = (fwCfg: readonly Step[], smbios: readonly Step[]): readonly Step[] => [
  ...tdxStart,
  ...fwCfg,
  "secure-boot",
  "separator-7",
  "acpi",
  "kernel",
  ...smbios,
  "boot-entries",
  "calling",
  "separator-4",
  ...linuxEnd,
];
const tdxUki = (fwCfg: readonly Step[], smbios: readonly Step[]): readonly Step[] => [
  ...tdxStart,
  ...fwCfg,
  "secure-boot",
  "separator-7",
  "acpi",
  ...smbios,
  "boot-entries",
  "calling",
  "separator-4",
  ...ukiStart,
];
const emulatedUki = (smbios: readonly Step[]): readonly Step[] => [
  ...emulatedStart,
  "acpi",
  ...smbios,
  "boot-entries",
  "calling",
  "separators-0-6",
  ...ukiStart,
];

/** Before efaf8931bb TdTcg2Dxe put the second separator into RTMR0 and none into RTMR1. */
const oneSidedSeparators = (steps: readonly Step[]): readonly Step[] =>
  steps.map((step) => (step === "separator-4" ? "separator-1" : step));

/** What 202411 and 202502 share. */
const since202411 = {
  steps: {
    "tdx-direct": tdxDirect([], []),
    "tdx-uki": tdxUki([], []),
    "emulated-direct": [...emulatedStart, "acpi", "kernel", "boot-entries", ...emulatedEnd],
    "emulated-uki": emulatedUki([]),
  },
  initrdArgument: "suffix",
  bootEntries: uiAppOnly,
} as const satisfies Partial<FirmwareProfile>;

/** What 202505 and 202508 share. */
const since202505 = {
  steps: {
    "tdx-direct": tdxDirect(["fw-cfg"], ["smbios"]),
    "tdx-uki": tdxUki(["fw-cfg"], ["smbios"]),
    "emulated-direct": [...emulatedStart, "acpi", "kernel", "smbios", "boot-entries", ...emulatedEnd],
    "emulated-uki": emulatedUki(["smbios"]),
  },
  bootEntries: menuAndSetup,
  namedBlobs: true,
} as const satisfies Partial<FirmwareProfile>;

/** Newest first. */
export const firmwareProfiles: readonly FirmwareProfile[] = [
  {
    name: "edk2-202508",
    family: "edk2",
    since: 202508,
    ...since202505,
    initrdArgument: "prefix", // a2ac0fea49
    evidence: {
      "emulated-direct": "boot under Debian's ovmf-generic 2026.08, QEMU 7.2",
      "emulated-uki": "boot under Debian's ovmf-generic 2026.08, QEMU 7.2, systemd-stub 257",
    },
  },
  {
    name: "edk2-202505",
    family: "edk2",
    since: 202505,
    ...since202505,
    initrdArgument: "suffix",
    evidence: {
      "tdx-direct": "quote and log of a dstack 0.6.0 guest (its simulator fixture): order and all but SMBIOS",
    },
  },
  {
    name: "edk2-202502",
    family: "edk2",
    since: 202502,
    ...since202411,
    namedBlobs: true,
    evidence: {
      "tdx-direct": "quotes of dstack 0.6.0 and 0.5 guests (QEMU 8.2.2 and 9.2.1)",
      "emulated-direct": "boot under Debian's ovmf 2025.02, QEMU 7.2",
      "emulated-uki": "boot under Debian's ovmf 2025.02, QEMU 7.2, systemd-stub 257",
    },
  },
  {
    name: "edk2-202411",
    family: "edk2",
    since: 202411,
    ...since202411,
    namedBlobs: false,
    evidence: {},
  },
  {
    name: "edk2-202302",
    family: "edk2",
    since: 202302,
    steps: {
      "tdx-direct": oneSidedSeparators(tdxDirect([], [])),
      "tdx-uki": oneSidedSeparators(tdxUki([], [])),
      "emulated-direct": [...emulatedStart, "acpi", "kernel", "boot-entries", ...emulatedEnd],
      "emulated-uki": emulatedUki([]),
    },
    initrdArgument: "suffix",
    bootEntries: uiAppOnly,
    namedBlobs: false,
    evidence: { "tdx-direct": "go-eventlog's CCEL of a direct boot" },
  },
  {
    name: "edk2-202211",
    family: "edk2",
    since: 202208,
    steps: {
      "tdx-direct": undefined,
      "tdx-uki": undefined,
      "emulated-direct": [...emulatedStart, "kernel", "boot-entries", ...emulatedEnd],
      "emulated-uki": undefined,
    },
    initrdArgument: "suffix",
    bootEntries: uiAppOnly,
    namedBlobs: false,
    evidence: { "emulated-direct": "boot under Debian's ovmf 2022.11, QEMU 7.2" },
  },
];

/**
 * The generation that a firmware release belongs to: "202502", "2025.02-8+deb13u1", "edk2-stable202505". Throws
 * MeasureError "prediction/profile" for anything else or older.
 */
export function firmwareProfile(release: string): FirmwareProfile {
  const profile = firmwareProfiles.find(
    ({ family, since }) => (families[family](release) ?? Number.NEGATIVE_INFINITY) >= since,
  );
  if (profile === undefined) {
    throw new MeasureError("prediction/profile", `no profile for firmware release '${release}'`, {
      kind: "unsupported",
      facts: [["known", firmwareProfiles.map(({ name }) => name).join(", ")]],
      fix: "give edk2's stable release, for instance 202502",
    });
  }
  return profile;
}

/** QEMU's generation, as far as measurements show it. */
export interface QemuProfile {
  /** Major × 100 + minor. */
  version: number;
  /** `etc/boot/kernel` holds the file as given (QEMU ≥ 10.0). */
  namedBlobs: boolean;
  /** The setup header of a confidential guest's kernel stays untouched (a7542a38f399, QEMU ≥ 10.2). */
  keepsConfidentialHeader: boolean;
}

/** `version` begins with major.minor: "7.2.22", "10.0.13". Throws MeasureError "prediction/profile" for anything else. */
export function qemuProfile(version: string): QemuProfile {
  const match = /^(\d{1,3})\.(\d{1,2})(?!\d)/.exec(version);
  if (match === null) {
    throw new MeasureError("prediction/profile", `'${version}' is not a QEMU version`, {
      kind: "unsupported",
    });
  }
  const number = 100 * Number(match[1]) + Number(match[2]);
  return { version: number, namedBlobs: number >= 1000, keepsConfidentialHeader: number >= 1002 };
}
