// SPDX-License-Identifier: Apache-2.0
/**
 * An output directory that appears whole or not at all.
 *
 * Invariants: one process at a time fills a hidden directory beside the place, and renames it; what a killed one left
 * is removed by the next; only an earlier image, or an empty directory, is ever replaced.
 */
import { mkdir, readdir, realpath, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { ImageError } from "../errors.ts";
import { tryLock } from "../exclusive.ts";
import { imageMark } from "./manifest.ts";

/** Failures of the machine that a person can do something about; any other is a bug. */
const diskReasons: Record<string, string> = {
  ENOSPC: "there is no room",
  EDQUOT: "the quota is used up",
  EACCES: "it may not be written",
  EPERM: "it may not be written",
  EROFS: "its file system is read-only",
  EEXIST: "what is above it is not a directory",
  ENOTDIR: "what is above it is not a directory",
  EIO: "the disk fails",
};

/**
 * Makes or replaces `out` with what `fill` writes into the empty directory that it is given. Throws what `fill`
 * throws, then leaving `out` as it was; ImageError `build/busy` when another process is filling `out`, `build/occupied`
 * when something that is not an image is there, `build/disk` when it cannot be written.
 */
export async function replaceOutput<T>(out: string, fill: (directory: string) => Promise<T>): Promise<T> {
  try {
    makeDirectory(dirname(out));
    const place = await realpath(dirname(out));
    const release = await tryLock(`output ${join(place, basename(out))}`);
    if (release === undefined) {
      throw new ImageError("build/busy", `another process is building ${out}`, {
        kind: "unavailable",
        fix: "wait for it, or build elsewhere with --out",
      });
    }
    try {
      return await replace(join(place, basename(out)), fill);
    } finally {
      await release();
    }
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    const reason = diskReasons[code];
    if (reason === undefined) throw error;
    throw new ImageError("build/disk", `cannot make ${out}: ${reason}`, {
      kind: "unavailable",
      facts: [["system", message]],
      fix: "free or unlock the place, or build elsewhere with --out; the cache's place is CAISSON_CACHE",
      cause: error,
    });
  }
}

async function replace<T>(out: string, fill: (directory: string) => Promise<T>): Promise<T> {
  const beside = (suffix: string) => join(dirname(out), `.${basename(out)}.${suffix}`);
  const [scratch, old] = [beside("new"), beside("old")];
  await refuseOthers(out);
  try {
    await rm(scratch, { recursive: true, force: true });
    await mkdir(scratch);
    const result = await fill(scratch);
    await rm(old, { recursive: true, force: true });
    await rename(out, old).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
    // A kill here leaves `out` absent, never half of it.
    await rename(scratch, out);
    return result;
  } finally {
    await rm(old, { recursive: true, force: true });
    await rm(scratch, { recursive: true, force: true });
  }
}

/** A path given by mistake must not cost its files. */
async function refuseOthers(out: string): Promise<void> {
  const names = await readdir(out).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    if (error.code === "ENOTDIR") return [basename(out)];
    throw error;
  });
  if (names.length === 0 || names.includes(imageMark)) return;
  throw new ImageError("build/occupied", `${out} is there already, and is not an image`, {
    kind: "usage",
    fix: "name another place with --out, or remove it yourself",
  });
}
