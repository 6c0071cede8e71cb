// SPDX-License-Identifier: Apache-2.0
import { deepEqual, throws } from "node:assert/strict";
import { test } from "node:test";
import { deriveVolumeKeys } from "@caisson/protocol/derivation";
import { firstGeneration } from "@caisson/protocol/volumes";
import { type BtrfsInfo, MS } from "../syscalls.ts";
import { VolumeError } from "./errors.ts";
import { mountCompared } from "./open.ts";

const keys = deriveVolumeKeys(new Uint8Array(32));
const generation = firstGeneration(4n);
const honest: BtrfsInfo = { generation, fsid: keys.fsid, nodeSize: 4096, checksumType: 2, devices: 1 };

/** What is called of the kernel, which says this of what it mounted. */
function kernel(info: BtrfsInfo) {
  const calls: string[] = [];
  return {
    calls,
    mount: (_: string, __: string, ___: string, flags: number) =>
      void calls.push(
        (flags & MS.readOnly) !== 0 ? "read-only" : (flags & MS.remount) !== 0 ? "writable" : "?",
      ),
    unmount: () => void calls.push("unmount"),
    btrfsInfo: () => info,
  };
}

test("what the kernel mounted is what was stamped: it may write", () => {
  const syscalls = kernel(honest);
  mountCompared(syscalls, "/dev/dm-1", "/mnt", keys, generation);
  deepEqual(syscalls.calls, ["read-only", "writable"]);
});

for (const [what, change] of Object.entries({
  "an older generation": { generation: generation - 1n },
  "another file system": { fsid: new Uint8Array(16) },
  "weaker checksums": { checksumType: 0 },
  "larger nodes": { nodeSize: 16_384 },
  "a second device": { devices: 2 },
})) {
  test(`the disk answered the kernel with ${what}: nothing is ever written`, () => {
    const syscalls = kernel({ ...honest, ...change });
    throws(
      () => mountCompared(syscalls, "/dev/dm-1", "/mnt", keys, generation),
      (error: unknown) => error instanceof VolumeError && error.code === "volume/changed",
    );
    deepEqual(syscalls.calls, ["read-only", "unmount"]);
  });
}
