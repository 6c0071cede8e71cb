// SPDX-License-Identifier: Apache-2.0
/** Where kernel recipes come from: a Debian archive's index, an unpacked source tree, a locked source package. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parsePackages } from "@caisson/image/archive";
import { readDeb } from "@caisson/image/deb";
import type { Lock } from "@caisson/image/lock";
import { readTar } from "@caisson/image/tar";
import { decompress } from "@caisson/image/xz";
import { AuditError } from "./errors.ts";
import { type KernelRecipe, markerFiles } from "./kernel-candidates.ts";

const indexLimit = 512 * 1024 * 1024;
const sourceLimit = 4 * 1024 * 1024 * 1024;

/**
 * The `linux-source-*` packages of a suite, from the mirror's index. The index is not verified: this is a survey, and
 * `caisson lock` verifies what is used. Throws when the mirror cannot be reached.
 */
export async function debianRecipes(
  mirror: string,
  suite: string,
  signal: AbortSignal,
): Promise<KernelRecipe[]> {
  const response = await fetch(`${mirror}/dists/${suite}/main/binary-amd64/Packages.xz`, { signal });
  if (!response.ok || response.body === null)
    throw new Error(`the index of ${suite}: status ${response.status}`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of decompress(response.body, "xz", indexLimit, `the index of ${suite}`))
    chunks.push(chunk);
  return parsePackages(Buffer.concat(chunks), suite)
    .filter(({ name }) => /^linux-source-\d+\.\d+$/.test(name))
    .map((stanza) => {
      const version = stanza.fields().get("Version") ?? "";
      return {
        name: `${stanza.name} ${version}`,
        release: version.split("-")[0]!,
        origin: `Debian ${suite}`,
      };
    });
}

/** A recipe from an unpacked kernel tree. Throws AuditError `kernel/config` when the directory holds none. */
export function treeRecipe(directory: string): KernelRecipe {
  const makefile = join(directory, "Makefile");
  const text = existsSync(makefile) ? readFileSync(makefile, "utf8") : "";
  const files = markerFiles.filter((path) => existsSync(join(directory, path)));
  return {
    name: directory,
    release: releaseOf(text, directory),
    origin: "an unpacked source tree",
    files: new Map(files.map((path) => [path, readFileSync(join(directory, path), "utf8")])),
  };
}

/** The release that a kernel's Makefile names. */
function releaseOf(makefile: string, where: string): string {
  const part = (name: string) => new RegExp(`^${name} = (\\d+)$`, "m").exec(makefile)?.[1];
  const [version, patch, sub] = [part("VERSION"), part("PATCHLEVEL"), part("SUBLEVEL")];
  if (version === undefined || patch === undefined || sub === undefined) {
    throw new AuditError("kernel/config", `${where} is not a kernel source: its Makefile names no release`);
  }
  return `${version}.${patch}.${sub}`;
}

/**
 * The recipe of the kernel source that a lock names, from the package file `path`. Reads the whole source once
 * (a minute or so). Throws AuditError `kernel/config` when there is no kernel source in it.
 */
export async function lockedRecipe(lock: Lock, path: string): Promise<KernelRecipe> {
  const locked = lock.packages.find(({ groups }) => groups.includes("source"));
  if (locked === undefined) throw new AuditError("kernel/config", "the lock names no kernel source");
  const wanted = new Set([...markerFiles, "Makefile"]);
  const files = new Map<string, string>();
  for await (const entry of readDeb(path)) {
    if (entry.kind !== "file" || !/\/linux-source-[\d.]+\.tar\.xz$/.test(`/${entry.path}`)) continue;
    const archive = decompress([entry.content], "xz", sourceLimit, locked.name);
    for await (const inner of readTar(archive, locked.name)) {
      const relative = inner.path.split("/").slice(1).join("/");
      if (inner.kind === "file" && wanted.has(relative))
        files.set(relative, Buffer.from(inner.content).toString("utf8"));
      if (files.size === wanted.size) break;
    }
  }
  return {
    name: `${locked.name} ${locked.version}`,
    release: releaseOf(files.get("Makefile") ?? "", locked.name),
    origin: `locked, from Debian ${locked.suite}`,
    files,
  };
}
