// SPDX-License-Identifier: Apache-2.0
/**
 * A KMS that comes from a backup: its persistent volumes are suspect, and epochs go beyond all that were ever given out. How
 * often there was a restore is what nothing that is restored can know: it is counted in a file beside what it comes from.
 */
import { appendFileSync, existsSync } from "node:fs";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { messageOf } from "@caisson/vocabulary/failure";
import { Option } from "commander";
import { UsageError } from "../failure.ts";
import { whole } from "../number-options.ts";
import { readTextFile } from "../passphrase-file.ts";

export interface RestoreOptions {
  data: string;
  database?: string;
  restoredBefore: number;
}

export const restoredBefore = (): Option =>
  new Option(
    "--restored-before <N>",
    "restores that this copy's count does not know of: at least so many in all",
  )
    .argParser(whole(0, 60))
    .default(0);

/**
 * Counts one more restore from `file`, a line of `file`.restored each, marks the database as restored, and puts `secret`,
 * where there is one, into a data directory that has none: last, so that no KMS can start that does not know what it is.
 * How many volumes are suspect now. Throws KmsError, UsageError.
 */
export async function restoreFrom(
  file: string,
  { data, database, restoredBefore }: RestoreOptions,
  secret?: Uint8Array,
): Promise<number> {
  const { openRootSecret, openVolumeBook, refuseRootSecret, storeRootSecret } = await import("@caisson/kms");
  if (secret === undefined) openRootSecret(data, { development: true });
  else refuseRootSecret(data);
  const counted = `${file}.restored`;
  const lines = existsSync(counted)
    ? readTextFile(counted)
        .split("\n")
        .filter((line) => line !== "")
    : [];
  try {
    appendFileSync(counted, `${new Date().toISOString()}\n`, { mode: 0o600, flush: true });
  } catch (error) {
    throw new UsageError(
      `${counted} counts restores, and cannot be written: ${messageOf(error)}`,
      "copy the file to where it can be, keep that copy, and say --restored-before N",
    );
  }
  makeDirectory(data, 0o700);
  const databases = database === undefined ? [] : [database];
  const book = await openVolumeBook(data, { databases, ...(secret && { secret }) });
  let count: number;
  try {
    count = await book.markRestored(Math.max(lines.length, restoredBefore));
  } finally {
    await book.close();
  }
  if (secret !== undefined) storeRootSecret(data, secret);
  return count;
}
