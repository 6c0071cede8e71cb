// SPDX-License-Identifier: Apache-2.0
/**
 * Kernel recipes against what a confidential guest needs of a kernel (decision D1). Pure.
 *
 * A capability came with a release, and shows in the source at a certain place. Where the source is at hand it
 * decides, because distributions backport; otherwise the release does, and the verdict says so. A configuration, where
 * it is known, can only take away: what was not built in is not there.
 */
import { type KernelConfig, valueOf } from "./kernel-config.ts";
import { compareReleases } from "./releases.ts";

export interface Capability {
  id: string;
  title: string;
  required: boolean;
  /** First upstream release that has it. */
  since: string;
  /** True: it is a fix that stable branches took as well, so an older release decides nothing. */
  backported?: boolean;
  /** The source has it when one of these files matches. */
  marker: { files: readonly string[]; pattern: RegExp };
  /** Symbols that a configuration must have for it. */
  symbols?: readonly string[];
  /** Where the release is known from. */
  source: string;
}

const linux = (text: string) => `Linux, ${text}`;

export const capabilities: readonly Capability[] = [
  {
    id: "tdx-guest",
    title: "runs as a TDX guest",
    required: true,
    since: "5.19",
    marker: { files: ["arch/x86/Kconfig"], pattern: /^config INTEL_TDX_GUEST$/m },
    symbols: ["INTEL_TDX_GUEST"],
    source: linux("arch/x86/coco/tdx, merged for 5.19"),
  },
  {
    id: "tdx-driver",
    title: "TDREPORT through an in-tree driver",
    required: true,
    since: "6.2",
    marker: { files: ["drivers/virt/coco/tdx-guest/Kconfig"], pattern: /^config TDX_GUEST_DRIVER$/m },
    symbols: ["TDX_GUEST_DRIVER"],
    source: linux("drivers/virt/coco/tdx-guest, merged for 6.2"),
  },
  {
    id: "unaccepted-memory",
    title: "accepts memory lazily",
    required: true,
    since: "6.5",
    marker: { files: ["drivers/firmware/efi/Kconfig"], pattern: /^config UNACCEPTED_MEMORY$/m },
    symbols: ["UNACCEPTED_MEMORY"],
    source: linux("drivers/firmware/efi/unaccepted_memory.c, merged for 6.5"),
  },
  {
    id: "configfs-tsm",
    title: "quotes through configfs",
    required: true,
    since: "6.7",
    marker: {
      files: ["drivers/virt/coco/guest/Kconfig", "drivers/virt/coco/Kconfig"],
      pattern: /^config TSM_REPORTS$/m,
    },
    symbols: ["TSM_REPORTS"],
    source: linux("Documentation/ABI/testing/configfs-tsm-report, merged for 6.7"),
  },
  {
    id: "stub-measures",
    title: "the EFI stub measures command line and initrd through the CC protocol",
    required: true,
    since: "6.9",
    marker: {
      files: ["drivers/firmware/efi/libstub/efi-stub-helper.c"],
      pattern: /EFI_CC_MEASUREMENT_PROTOCOL_GUID/,
    },
    symbols: ["EFI_STUB"],
    source: linux("drivers/firmware/efi/libstub/efi-stub-helper.c, the 6.9 cycle"),
  },
  {
    id: "rdrand-or-panic",
    title: "a confidential guest without RDRAND panics",
    required: true,
    since: "6.9",
    backported: true,
    marker: { files: ["arch/x86/coco/core.c"], pattern: /cc_random_init/ },
    source: linux("arch/x86/coco/core.c, cc_random_init, the 6.9 cycle"),
  },
  {
    id: "rtmr-extension",
    title: "extends RTMRs without a driver of one's own",
    required: true,
    since: "6.16",
    marker: { files: ["drivers/virt/coco/guest/Kconfig"], pattern: /^config TSM_MEASUREMENTS$/m },
    symbols: ["TSM_MEASUREMENTS"],
    source: linux("Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest, merged for 6.16"),
  },
  {
    id: "quote-length-fix",
    title: "checks the length of a quote that the host returns",
    required: true,
    since: "7.0",
    backported: true,
    marker: { files: ["drivers/virt/coco/tdx-guest/tdx-guest.c"], pattern: /TDX_QUOTE_MAX_LEN/ },
    source: linux("commit c3fd16c3b98e, 7.0-rc6, with stable backports"),
  },
  {
    id: "dm-init",
    title: "verity root from the command line, without an initrd",
    required: true,
    since: "5.1",
    marker: { files: ["drivers/md/Kconfig"], pattern: /^config DM_INIT$/m },
    symbols: ["DM_INIT", "DM_VERITY"],
    source: linux("Documentation/admin-guide/device-mapper/dm-init.rst, merged for 5.1"),
  },
  {
    id: "verity-panic",
    title: "panics on a wrong block",
    required: true,
    since: "5.9",
    marker: { files: ["drivers/md/dm-verity-target.c"], pattern: /panic_on_corruption/ },
    source: linux("drivers/md/dm-verity-target.c, merged for 5.9"),
  },
  {
    id: "erofs",
    title: "mounts EROFS",
    required: true,
    since: "5.4",
    marker: { files: ["fs/erofs/Kconfig"], pattern: /^config EROFS_FS$/m },
    symbols: ["EROFS_FS"],
    source: linux("fs/erofs, out of staging for 5.4"),
  },
  {
    id: "write-mounted",
    title: "refuses writes to a mounted device",
    required: false,
    since: "6.8",
    marker: { files: ["block/Kconfig"], pattern: /^config BLK_DEV_WRITE_MOUNTED$/m },
    source: linux("block/bdev.c, bdev_allow_write_mounted, merged for 6.8"),
  },
  {
    id: "slab-buckets",
    title: "separates allocations of user-controlled size",
    required: false,
    since: "6.11",
    marker: { files: ["mm/Kconfig"], pattern: /^config SLAB_BUCKETS$/m },
    symbols: ["SLAB_BUCKETS"],
    source: linux("mm/slab_common.c, merged for 6.11"),
  },
  {
    id: "proc-mem",
    title: "/proc/PID/mem can be made to respect protection",
    required: false,
    since: "6.12",
    marker: { files: ["security/Kconfig"], pattern: /^config PROC_MEM_NO_FORCE$/m },
    symbols: ["PROC_MEM_NO_FORCE"],
    source: linux("fs/proc/base.c, merged for 6.12"),
  },
];

/** Every file that a marker looks at. */
export const markerFiles: readonly string[] = [
  ...new Set(capabilities.flatMap(({ marker }) => marker.files)),
];

export interface KernelRecipe {
  name: string;
  /** "6.12.48"; as precise as known. */
  release: string;
  /** Where the recipe is known from. */
  origin: string;
  /** Contents of marker files by path; missing files are not in it. Undefined: the source is not at hand. */
  files?: ReadonlyMap<string, string>;
  config?: KernelConfig;
}

export interface Verdict {
  capability: Capability;
  answer: "yes" | "no" | "unknown";
  /** What decided. */
  basis: "source" | "release" | "configuration";
  reason: string;
}

export interface Evaluation {
  recipe: Pick<KernelRecipe, "name" | "release" | "origin">;
  accepted: boolean;
  verdicts: readonly Verdict[];
}

/** Recipes that are not at hand but described: what this project's predecessors and peers build from. */
export const describedRecipes: readonly KernelRecipe[] = [
  {
    name: "linux-yocto 6.6",
    release: "6.6",
    origin: "described: the stable recipe of Yocto's scarthgap release",
  },
  {
    name: "linux-yocto-dev 6.9",
    release: "6.9",
    origin: "described: the development recipe that dstack's decision names",
  },
  { name: "linux-yocto 6.12", release: "6.12", origin: "described: long-term release" },
  {
    name: "linux-yocto 6.18",
    release: "6.18",
    origin: "described: long-term release that dstack pins today",
  },
];

/** One verdict for each capability; a recipe is accepted when every required one is there for certain. */
export function evaluate(recipe: KernelRecipe): Evaluation {
  const verdicts = capabilities.map((capability) => verdict(capability, recipe));
  const { name, release, origin } = recipe;
  return {
    recipe: { name, release, origin },
    accepted: verdicts.every(({ capability, answer }) => !capability.required || answer === "yes"),
    verdicts,
  };
}

function verdict(capability: Capability, { release, files, config }: KernelRecipe): Verdict {
  const missing =
    config === undefined ? undefined : capability.symbols?.find((symbol) => valueOf(config, symbol) === "n");
  if (missing !== undefined) {
    return { capability, answer: "no", basis: "configuration", reason: `CONFIG_${missing} is not set` };
  }
  if (files !== undefined) {
    const { files: paths, pattern } = capability.marker;
    const found = paths.find((path) => pattern.test(files.get(path) ?? ""));
    return found === undefined
      ? { capability, answer: "no", basis: "source", reason: `${paths.join(", ")}: no ${pattern.source}` }
      : { capability, answer: "yes", basis: "source", reason: `${found} has it` };
  }
  if (compareReleases(release, capability.since) >= 0) {
    return { capability, answer: "yes", basis: "release", reason: `upstream since ${capability.since}` };
  }
  return capability.backported === true
    ? {
        capability,
        answer: "unknown",
        basis: "release",
        reason: `upstream since ${capability.since}; only the source can tell whether ${release} took it`,
      }
    : { capability, answer: "no", basis: "release", reason: `upstream since ${capability.since}` };
}
