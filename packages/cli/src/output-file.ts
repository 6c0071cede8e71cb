// SPDX-License-Identifier: Apache-2.0
/** Files that a user asked for by name. */
import { writeFileSync } from "node:fs";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { UsageError } from "./failure.ts";

/** Writes a file, in place of what was there. Throws UsageError where that cannot be done. */
export function writeFile(path: string, content: string | Uint8Array): void {
  try {
    writeFileSync(path, content);
  } catch (error) {
    throw new UsageError(
      `${path} cannot be written: ${reasonOf(error)}`,
      "name a file in an existing directory",
    );
  }
}

/** Writes a file that is not there yet, through to the disk. Throws UsageError where there is one of this name. */
export function writeNewFile(path: string, content: string | Uint8Array, mode = 0o644): void {
  try {
    writeFileSync(path, content, { flag: "wx", mode, flush: true });
  } catch (error) {
    const exists = (error as NodeJS.ErrnoException).code === "EEXIST";
    const what = exists ? "is there already" : `cannot be written: ${reasonOf(error)}`;
    throw new UsageError(`${path} ${what}`, "name a file that does not exist, in a directory that does");
  }
}
