// SPDX-License-Identifier: Apache-2.0
/** Text files that an operator names; `-` is standard input. */
import { readFileSync } from "node:fs";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { UsageError } from "./failure.ts";

export function readTextFile(path: string): string {
  try {
    return readFileSync(path === "-" ? 0 : path, "utf8");
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${reasonOf(error)}`, "name a file that can be read");
  }
}

/** The first line of a file. */
export function readPassphrase(path: string): string {
  return readTextFile(path).split("\n", 1)[0]!.replace(/\r$/, "");
}
