// SPDX-License-Identifier: Apache-2.0
/**
 * Unpacks archives onto a disk, never outside their directory.
 *
 * Why nothing can get out: the directory is new, only this function writes into it, every parent is a directory that
 * this function made itself (it keeps the list), and files are created exclusively. So no symlink is ever followed.
 */
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ImageError } from "../errors.ts";
import type { TarEntry } from "../oci/tar.ts";

/**
 * Unpacks archives, one after the other, into `directory`, which must not exist. Files belong to the caller and get
 * the time of day; setuid, setgid and sticky bits and extended attributes are dropped; directories may stand in
 * several archives (the first mode wins), anything else in one only. After an error, what was unpacked is left for
 * the caller to remove. Errors: ImageError `archive/…`.
 */
export async function extract(archives: Iterable<AsyncIterable<TarEntry>>, directory: string): Promise<void> {
  const directories = new Set<string>([""]);
  const makeDirectory = (path: string, mode: number) => {
    if (directories.has(path)) return;
    const slash = path.lastIndexOf("/");
    if (slash !== -1) makeDirectory(path.slice(0, slash), 0o755);
    mkdirSync(join(directory, path), { mode: (mode & 0o777) | 0o700 });
    directories.add(path);
  };
  const add = (entry: TarEntry) => {
    const { path } = entry;
    if (entry.kind === "directory") return makeDirectory(path, entry.mode);
    const slash = path.lastIndexOf("/");
    if (slash !== -1) makeDirectory(path.slice(0, slash), 0o755);
    const place = join(directory, path);
    if (entry.kind === "file") writeFileSync(place, entry.content, { flag: "wx", mode: entry.mode & 0o777 });
    else if (entry.kind === "symlink") symlinkSync(entry.target, place);
    else linkSync(join(directory, entry.target), place);
  };

  mkdirSync(directory, { mode: 0o755 });
  for (const archive of archives) {
    for await (const entry of archive) {
      try {
        add(entry);
      } catch (error) {
        throw unpackError(error as NodeJS.ErrnoException, entry.path, directory);
      }
    }
  }
}

function unpackError(error: NodeJS.ErrnoException, path: string, directory: string): Error {
  switch (error.code) {
    case "EEXIST":
    case "ENOTDIR":
      return new ImageError(
        "archive/duplicate",
        `'${path}' stands in two archives that are unpacked together`,
      );
    case "ENOSPC":
    case "EDQUOT":
      return new ImageError("archive/disk", `the disk of ${directory} is full`, {
        kind: "unavailable",
        fix: "make room there, then run this again",
        cause: error,
      });
    default:
      return error;
  }
}
