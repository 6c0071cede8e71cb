// SPDX-License-Identifier: Apache-2.0
/**
 * What btrfs says and does not count. A node whose checksum, place, level or generation is wrong is an error for whoever
 * reads it and a line of the kernel's log, no more: the device's statistics count wrong data alone (fs/btrfs/disk-io.c,
 * btrfs_validate_extent_buffer; fs/btrfs/messages.c has the lines' form). Pure.
 */
import { textOf } from "../kernel-log.ts";

/** Errors, and the one warning that is an error for us: our file systems have one copy of each node. */
const fault = /^BTRFS:? (?:emergency|alert|critical|error)\b|^BTRFS warning \(.*\): checksum verify failed/;

/** The first record that tells of a fault of a file system, as text. */
export function faultIn(records: readonly string[]): string | undefined {
  return records
    .map(textOf)
    .find((text) => fault.test(text))
    ?.trim();
}
