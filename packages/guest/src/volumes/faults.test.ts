// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import { test } from "node:test";
import { faultIn } from "./faults.ts";

/** Lines in the form of fs/btrfs/messages.c (7.3.4). */
const faults = [
  "BTRFS error (device dm-1): parent transid verify failed on logical 30408704 mirror 1 wanted 9 found 7",
  "BTRFS error (device dm-1): bad tree block start, mirror 1 want 30408704 have 0",
  "BTRFS warning (device dm-1): checksum verify failed on logical 30408704 mirror 1 wanted 0x1 found 0x2 level 0",
  "BTRFS error (device dm-1 state EA): level verify failed on logical 30408704 mirror 1 wanted 0 found 1",
  "BTRFS critical (device dm-1): corrupt leaf: root=5 block=30408704 slot=3",
  "BTRFS: error (device dm-1 state A) in btrfs_run_delayed_refs:2174: errno=-5 IO failure",
];
const others = [
  "BTRFS info (device dm-1): using free-space-tree",
  "BTRFS info (device dm-1): first mount of filesystem 6f6f; error is only a word here",
  "BTRFS warning (device dm-1): read-write for sector size 4096 is experimental",
  "random: crng init done",
  "service: BTRFS error (device dm-1): said by somebody else",
];

test("each way in which the kernel says that a node is wrong is a fault; what else it says is none", () => {
  const record = (text: string) => `3,812,5123456,-;${text}\n`;
  for (const text of faults) equal(faultIn([...others, text].map(record)), text);
  equal(faultIn(others.map(record)), undefined);
  equal(faultIn([]), undefined);
  // A program's own record has no text in front of the semicolon, either: it is the kernel's that begins so.
  equal(faultIn([" SUBSYSTEM=BTRFS error\n"]), undefined);
});
