// SPDX-License-Identifier: Apache-2.0
/** A directory and what is missing above it, for Node. */
import { existsSync, mkdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

/**
 * Makes a directory, and those that are missing above it, with `mode`; one that is there already stays as it is. Returns the
 * topmost that was made, undefined where none was. Throws the system's error.
 *
 * Node's own `recursive` asks for ever where a file system takes no directories and says that there is no such file, as
 * /proc does.
 */
export function makeDirectory(path: string, mode = 0o777): string | undefined {
  const missing: string[] = [];
  let there = resolve(path);
  while (!existsSync(there) && dirname(there) !== there) {
    missing.unshift(there);
    there = dirname(there);
  }
  if (missing.length === 0) missing.push(there);
  let first: string | undefined;
  for (const one of missing) {
    try {
      mkdirSync(one, mode);
      first ??= one;
    } catch (error) {
      // It was there, or somebody else made it meanwhile.
      if ((error as NodeJS.ErrnoException).code !== "EEXIST" || !statSync(one).isDirectory()) throw error;
    }
  }
  return first;
}
