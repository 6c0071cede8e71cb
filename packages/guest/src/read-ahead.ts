// SPDX-License-Identifier: Apache-2.0
/**
 * How much the kernel reads ahead of what is asked for. It takes virtio's disks for rotating ones and, where the host
 * recommends nothing, reads 8 MiB, all of which dm-verity hashes (Linux block/blk-settings.c, blk_apply_bdi_limits).
 * Our own machines' disks recommend less; this is for all others, and holds for every file that is opened afterwards.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** KiB; the kernel's own value for disks that do not rotate (include/linux/pagemap.h, VM_READAHEAD_PAGES). */
const most = 128;

/** `root`: where the kernel's file systems lie, "/" but in a test. A disk that reads less ahead is left alone. */
export function limitReadAhead(root: string): void {
  const disks = join(root, "sys/block");
  for (const name of existsSync(disks) ? readdirSync(disks) : []) {
    const path = join(disks, name, "queue/read_ahead_kb");
    if (existsSync(path) && Number(readFileSync(path, "utf8")) > most) writeFileSync(path, String(most));
  }
}
