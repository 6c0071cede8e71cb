// SPDX-License-Identifier: Apache-2.0
/**
 * Files that have to be there after a crash: written beside their place, synchronized, renamed, and the directory
 * synchronized, too.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** Directories that got new names, to be synchronized once for all of a batch. */
export class Durable {
  readonly #directories = new Set<string>();

  /** Puts a whole file into its place. */
  write(path: string, content: string | Uint8Array): void {
    const directory = dirname(path);
    const made = mkdirSync(directory, { recursive: true });
    if (made !== undefined) {
      for (let at = directory; at.length >= made.length; at = dirname(at)) this.#directories.add(dirname(at));
    }
    writeFileSync(`${path}.new`, content, { flush: true });
    renameSync(`${path}.new`, path);
    this.#directories.add(directory);
  }

  /** After this, everything that was written outlives a crash. */
  sync(): void {
    for (const directory of this.#directories) {
      const handle = openSync(directory, "r");
      try {
        fsyncSync(handle);
      } finally {
        closeSync(handle);
      }
    }
    this.#directories.clear();
  }
}

/** A file's bytes; undefined where there is none. */
export function readIfThere(path: string): Uint8Array | undefined {
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
