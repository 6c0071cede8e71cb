// SPDX-License-Identifier: Apache-2.0
/** Text files that an operator names; `-` is standard input. */
import { reasonOf } from "@caisson/vocabulary/system-error";
import { UsageError } from "./failure.ts";
import { readInput } from "./input-file.ts";

export function readTextFile(path: string): string {
  try {
    return readInput(path).toString("utf8");
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${reasonOf(error)}`, "name a file that can be read");
  }
}

/** The first line of a file. */
export function readPassphrase(path: string): string {
  return readTextFile(path).split("\n", 1)[0]!.replace(/\r$/, "");
}
