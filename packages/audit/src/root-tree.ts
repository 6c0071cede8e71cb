// SPDX-License-Identifier: Apache-2.0
/**
 * Facts of a root file system that lies in a directory: another system's, audited by the same controls so that the two
 * can be compared. `mmdebstrap` makes such a tree, and so does unpacking a cloud image's root.
 *
 * The tree is read as its files say, from one file system, and no link is followed. What only an image of Caisson has
 * (sandbox, firmware, hash tree, build record) is missing from the facts, and controls on it have nothing to judge.
 */

import {
  closeSync,
  existsSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
} from "node:fs";
import { join } from "node:path";
import { isElf, parseElf } from "@caisson/image/elf";
import { ImageError } from "@caisson/image/errors";
import { splitCommandLine } from "@caisson/protocol/command-line";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { MissingPart } from "./control.ts";
import { AuditError } from "./errors.ts";
import type { FileFact, ImageFacts } from "./facts.ts";
import { readKernelConfig } from "./kernel-config.ts";
import { compareReleases } from "./releases.ts";

const pathLimit = 1_000_000;
const elfLimit = 512 * 1024 * 1024;

/** Whether a directory is the root of a system (os-release(5)) rather than an image of Caisson. */
export function isRootTree(directory: string): boolean {
  const release = ["etc/os-release", "usr/lib/os-release"].some((path) => existsSync(join(directory, path)));
  return release && !existsSync(join(directory, "manifest.json"));
}

const missing = (why: string): never => {
  throw new MissingPart(why);
};

/** Throws AuditError `image/kernel` when /boot has no kernel configuration, `image/rootfs` when the tree cannot be read. */
export function collectRootTree(directory: string): ImageFacts {
  const files = readTree(directory);
  const line = bootLine(directory);
  return {
    kind: "tree",
    // Nothing that fails here is a deviation of a development image.
    flavour: "production",
    kernel: readKernel(directory),
    files,
    packages: installedPackages(directory),
    get commandLine() {
      return line ?? missing("this tree does not say which command line it boots with");
    },
    get root() {
      return missing("a tree of files has no hash tree and no file system features");
    },
    get guest() {
      return missing("this system has no /etc/caisson/guest.json");
    },
    get runtime() {
      return missing("this system confines no application with crun");
    },
    get firmware() {
      return missing("a root file system brings no firmware");
    },
    get build() {
      return missing("a tree of files has no manifest and no bill of materials");
    },
  };
}

/** Every path of the file system that `directory` is on. */
function readTree(directory: string): Map<string, FileFact> {
  const files = new Map<string, FileFact>();
  const device = lstatSync(directory).dev;
  const visit = (below: string): void => {
    for (const name of readdirSync(join(directory, below)).sort()) {
      const path = `${below}/${name}`;
      const fact = describe(join(directory, path), device);
      if (fact === undefined) continue;
      if (files.size === pathLimit)
        throw new AuditError("image/rootfs", `${directory} holds more than ${pathLimit} paths`);
      files.set(path, fact);
      if (fact.kind === "directory") visit(path);
    }
  };
  try {
    visit("");
  } catch (error) {
    if (error instanceof AuditError) throw error;
    throw new AuditError("image/rootfs", `${directory} cannot be read whole: ${reasonOf(error)}`, {
      fix: "read it as the user that owns its files, root as a rule",
    });
  }
  return files;
}

/** One path; undefined where another file system is mounted. */
function describe(path: string, device: number): FileFact | undefined {
  const stat = lstatSync(path);
  if (stat.dev !== device) return undefined;
  const common = { mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid, size: stat.size };
  if (stat.isDirectory()) return { kind: "directory", ...common };
  if (stat.isSymbolicLink()) return { kind: "symlink", ...common, target: readlinkSync(path) };
  if (!stat.isFile()) return { kind: "other", ...common };
  const start = head(path);
  const elf = isElf(start) && stat.size <= elfLimit ? elfOf(path) : undefined;
  const script = start.toString("latin1", 0, 2) === "#!" ? firstLine(start) : undefined;
  return {
    kind: "file",
    ...common,
    ...(elf !== undefined && { elf }),
    ...(script !== undefined && { script }),
  };
}

function head(path: string): Buffer {
  const file = openSync(path, "r");
  try {
    const bytes = Buffer.alloc(66);
    return bytes.subarray(0, readSync(file, bytes));
  } finally {
    closeSync(file);
  }
}

const firstLine = (start: Buffer): string => start.toString("utf8", 2).split("\n")[0]!.trim();

/** Undefined for ELF files that are neither program nor library for x86-64: kernel modules, object files. */
function elfOf(path: string): FileFact["elf"] {
  try {
    return parseElf(readFileSync(path), path);
  } catch (error) {
    if (error instanceof ImageError) return undefined;
    throw error;
  }
}

/** The newest kernel of /boot, by its configuration. */
function readKernel(directory: string): ImageFacts["kernel"] {
  const boot = join(directory, "boot");
  const releases = (existsSync(boot) ? readdirSync(boot) : [])
    .map((name) => /^config-(\d+\.\d+.*)$/.exec(name)?.[1])
    .filter((release) => release !== undefined)
    .sort(compareReleases);
  const release = releases.at(-1);
  if (release === undefined) {
    throw new AuditError(
      "image/kernel",
      `${boot} holds no config-RELEASE: this system's kernel cannot be judged`,
      {
        fix: "install its kernel into the tree, for example mmdebstrap --include=linux-image-cloud-amd64",
      },
    );
  }
  const config = readKernelConfig(readFileSync(join(boot, `config-${release}`)));
  return { release, config, size: 0 };
}

/** From kernel-install(8)'s file, or GRUB's defaults (Debian's grub-mkconfig, GRUB_CMDLINE_LINUX and …_DEFAULT). */
function bootLine(directory: string): string[] | undefined {
  const text = (path: string): string | undefined =>
    existsSync(join(directory, path)) ? readFileSync(join(directory, path), "utf8") : undefined;
  const line = text("etc/kernel/cmdline");
  if (line !== undefined) return splitCommandLine(line);
  const grub = text("etc/default/grub");
  if (grub === undefined) return undefined;
  const value = (name: string) => new RegExp(`^${name}="?([^"\\n]*)"?$`, "m").exec(grub)?.[1] ?? "";
  return splitCommandLine(`${value("GRUB_CMDLINE_LINUX")} ${value("GRUB_CMDLINE_LINUX_DEFAULT")}`);
}

/** Names of Debian packages that are installed (dpkg's status file); empty where there is no dpkg. */
function installedPackages(directory: string): string[] {
  const path = join(directory, "var/lib/dpkg/status");
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n\n")
    .filter((stanza) => /^Status: install ok installed$/m.test(stanza))
    .map((stanza) => /^Package: (.+)$/m.exec(stanza)?.[1] ?? "");
}
