// SPDX-License-Identifier: Apache-2.0
/** Packages like Debian's, for tests: an ELF file, as small as can be, for each file that the recipe names. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { RootInputs } from "../build/rootfs.ts";
import type { LockedPackage } from "../inputs/lock.ts";
import { firmwareFiles, rootFiles } from "../inputs/recipe.ts";
import { writeTar } from "../oci/tar-writer.ts";
import { makeDeb, sha256 } from "./archive.ts";
import { elfFile, type WantedElf } from "./elf.ts";

const loader = "/lib64/ld-linux-x86-64.so.2";
/** A program that asks for these libraries. */
export const program = (...needed: string[]): WantedElf => ({ interpreter: loader, needed });
export const node = program(
  "libatomic.so.1",
  "libdl.so.2",
  "libm.so.6",
  "libstdc++.so.6",
  "libgcc_s.so.1",
  "libpthread.so.0",
  "libc.so.6",
);
export const crun = program("libsystemd.so.0", "libseccomp.so.2", "libcap.so.2", "libyajl.so.2", "libc.so.6");

/** What is wrong with the packages or with Node. */
export interface Variation {
  node?: WantedElf;
  crun?: WantedElf;
  /** Left out of its package. */
  withoutFile?: string;
  withoutPackage?: string;
  /** Content by path, instead of the ELF file. */
  instead?: Record<string, Buffer>;
}

function lockedPackage(
  name: string,
  groups: LockedPackage["groups"],
  archive: string,
  bytes: Uint8Array,
): LockedPackage {
  return {
    name,
    version: "1",
    architecture: "amd64",
    suite: "trixie",
    archive: "debian",
    groups,
    path: `pool/${archive}`,
    size: bytes.length,
    sha256: sha256(bytes),
  };
}

/** The root's packages in the directory `place`: libraries are links to a versioned file. */
function rootPackages(place: string, variation: Variation = {}): Map<LockedPackage, string> {
  const packages = new Map<LockedPackage, string>();
  for (const name of new Set(rootFiles.map((file) => file.package))) {
    if (name === variation.withoutPackage) continue;
    const files = rootFiles.filter((file) => file.package === name && file.path !== variation.withoutFile);
    const tar = writeTar(
      files.flatMap(({ path, source }) => {
        const at = (source ?? path).slice(1);
        const soname = at.slice(at.lastIndexOf("/") + 1);
        const bytes = at.endsWith("/crun") ? elfFile(variation.crun ?? crun) : elfFile({ soname });
        const content = variation.instead?.[path] ?? bytes;
        return [
          { path: `${at}.real`, mode: 0o755, content },
          { path: at, mode: 0o777, content: { symlink: `${soname}.real` } },
        ];
      }),
    );
    const bytes = makeDeb(Buffer.concat([...tar]), { data: "data.tar" });
    const archive = join(place, `${name}.deb`);
    writeFileSync(archive, bytes);
    packages.set(lockedPackage(name, ["root"], `${name}.deb`, bytes), archive);
  }
  return packages;
}

/** TDX firmware as far as it is looked at: a volume that begins with a store of authenticated variables. */
function firmwareWithVariables(): Buffer {
  const bytes = Buffer.alloc(0x2000, 0xff);
  const store = 0x48;
  bytes.write("_FVH", 40);
  bytes.writeUInt16LE(store, 48);
  bytes.write("782cf3aa7b949a43a1802e144ec37792", store, "hex");
  bytes.writeUInt32LE(0x1000, store + 16);
  bytes.set([0x5a, 0xfe], store + 20);
  return bytes;
}

/** The packages that lie beside the root: the kernel's source (empty) and the firmware. */
export function otherPackages(place: string): Map<LockedPackage, string> {
  const packages = new Map<LockedPackage, string>();
  for (const group of ["source", "firmware-emulated", "firmware-tdx"] as const) {
    const files = firmwareFiles.filter((file) => file.group === group);
    const tar = writeTar(
      files.map(({ source }) => {
        const content = group === "firmware-tdx" ? firmwareWithVariables() : Buffer.from(source);
        return { path: source.slice(1), mode: 0o644, content };
      }),
    );
    const bytes = makeDeb(Buffer.concat([...tar]), { data: "data.tar" });
    const archive = join(place, `${group}.deb`);
    writeFileSync(archive, bytes);
    packages.set(lockedPackage(group, [group], `${group}.deb`, bytes), archive);
  }
  return packages;
}

/** Everything that `assembleRoot` asks for. */
export function rootInputs(place: string, variation: Variation = {}): RootInputs {
  return {
    packages: rootPackages(place, variation),
    node: elfFile(variation.node ?? node),
    bundle: Buffer.from("//"),
    addon: elfFile({ needed: ["libc.so.6"] }),
  };
}
