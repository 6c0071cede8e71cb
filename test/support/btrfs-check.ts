// SPDX-License-Identifier: Apache-2.0
/** A volume's file system from outside, as only a test can see it: decrypted, and judged by btrfs's own checker. */
import { execFileSync } from "node:child_process";
import { closeSync, ftruncateSync, openSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { VolumeKeys } from "@caisson/protocol/derivation";
import { reservedSize } from "@caisson/protocol/volumes";
import { unpackDebian } from "./debian.ts";
import { blocks, decrypt } from "./volume-disk.ts";

/** Writes what a volume's disk holds, decrypted, to a new sparse file. */
export function decryptDisk(disk: string, keys: VolumeKeys, path: string): void {
  const file = openSync(path, "w");
  ftruncateSync(file, statSync(disk).size - reservedSize);
  for (const { at, sealed } of blocks(disk)) writeSync(file, decrypt(keys, at, sealed), 0, sealed.length, at);
  closeSync(file);
}

/** Debian's `btrfs`: what it says, whether it succeeds or not. */
async function btrfs(...args: string[]): Promise<string> {
  const { root } = await unpackDebian("bookworm", ["btrfs-progs"], { dependencies: true });
  const libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map((place) => join(root, place));
  const loader = join(root, "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
  try {
    return execFileSync(loader, ["--library-path", libraries.join(":"), join(root, "bin/btrfs"), ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch (error) {
    return String((error as { stdout?: string }).stdout) + String((error as { stderr?: string }).stderr);
  }
}

/** Every node and every block of data of a decrypted disk, as a scrub reads them: what `btrfs check` says of it. */
export const checkFileSystem = (path: string): Promise<string> =>
  btrfs("check", "--readonly", "--check-data-csum", path);

/** Copies the files of a decrypted disk to a directory that there is. */
export const restoreFiles = (path: string, to: string): Promise<string> => btrfs("restore", path, to);
