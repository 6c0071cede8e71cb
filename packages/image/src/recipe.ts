/**
 * What an image is made of: the packages of each group, and the suites they may come from.
 *
 * Groups are resolved apart from each other, because each is unpacked into a place of its own: `root` into the
 * image, `toolchain` into the root in which the kernel is built; `source` and `firmware-*` are only containers of
 * files, so what they depend on is not wanted.
 */

export type Group = "root" | "toolchain" | "source" | "firmware-emulated" | "firmware-tdx";

export interface GroupRecipe {
  packages: readonly string[];
  /** Whether the packages that these depend on belong to the group, too. */
  dependencies: boolean;
  /** In order of preference only where versions are equal; among these the highest version wins. */
  suites: readonly string[];
}

const stable = ["trixie", "trixie-updates", "trixie-security"] as const;

export const recipe: Readonly<Record<Group, GroupRecipe>> = {
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
