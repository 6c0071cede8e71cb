// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  blockSize,
  type Expectation,
  type ReadBlock,
  readSuperblock,
  seal,
  stamp,
  superblockPlace,
} from "./btrfs.ts";
import { VolumeError } from "./errors.ts";
import { emptyFileSystem, templateSize } from "./template.ts";

const ids = {
  fsid: new Uint8Array(16).fill(1),
  device: new Uint8Array(16).fill(2),
  chunkTree: new Uint8Array(16).fill(3),
};
const to = 5n << 40n;
const expected = { fsid: ids.fsid, least: 0n, deviceSize: templateSize };

/** A disk of a new file system: blocks by their place. */
function disk(): Map<number, Uint8Array> {
  return new Map(emptyFileSystem(ids).map(({ at, bytes }) => [at, bytes]));
}
const reader = (blocks: ReadonlyMap<number, Uint8Array>) => async (at: number) =>
  blocks.get(at) ?? new Uint8Array(blockSize);

/** A stamp of what stands in the first place. */
const stampOf = async (read: ReadBlock, to: bigint, expectation: Expectation) =>
  stamp(read, readSuperblock(await read(superblockPlace), expectation.fsid), to, expectation);

const code =
  (wanted: string) =>
  (error: unknown): boolean => {
    equal(error instanceof VolumeError ? error.code : String(error), wanted);
    return true;
  };

/** A superblock with some bytes changed and a checksum that fits again. */
function resealed(change: (view: DataView) => void): Map<number, Uint8Array> {
  const blocks = disk();
  const bytes = Uint8Array.from(blocks.get(superblockPlace)!);
  change(new DataView(bytes.buffer));
  return blocks.set(superblockPlace, seal(bytes));
}

test("the template is one file system: a superblock and nine leaves, each with its SHA-256, none of mkfs's own ids", () => {
  const blocks = emptyFileSystem(ids);
  equal(blocks.length, 10);
  for (const { at, bytes } of blocks) {
    const digest = createHash("sha256").update(bytes.subarray(32)).digest();
    equal(digest.compare(bytes.subarray(0, 32)), 0, String(at));
    deepEqual(bytes.subarray(32, 48), ids.fsid);
    for (const left of [0xf1, 0xd2, 0xc3]) {
      equal(Buffer.from(bytes).includes(Buffer.alloc(16, left)), false, `${at}: ${left.toString(16)}`);
    }
  }
});

test("ids that look like the template's come out as they are", () => {
  const similar = {
    fsid: new Uint8Array(16).fill(0xd2),
    device: new Uint8Array(16).fill(0xc3),
    chunkTree: new Uint8Array(16).fill(7),
  };
  const [superblock] = emptyFileSystem({ ...similar, device: new Uint8Array(16).fill(9) });
  equal(readSuperblock(superblock!.bytes, similar.fsid).generation, 6n);
});

test("a stamp is the root and the superblock with another generation, and nothing else", async () => {
  const blocks = disk();
  const { from, root, superblock, size } = await stampOf(reader(blocks), to, expected);
  deepEqual([from, root.at, superblock.at, size], [6n, 5_242_880, superblockPlace, templateSize]);
  for (const { at, bytes } of [root, superblock]) {
    const before = blocks.get(at)!;
    const changed = Array.from({ length: blockSize }, (_, i) => i).filter(
      (i) => bytes[i] !== before[i] && i >= 32,
    );
    const field = at === superblockPlace ? 72 : 80;
    ok8(changed, field);
    blocks.set(at, bytes);
  }
  equal(readSuperblock(blocks.get(superblockPlace)!, ids.fsid).generation, to);
  // What was stamped can be stamped again, and only upwards.
  equal((await stampOf(reader(blocks), 6n << 40n, expected)).from, to);
  await rejects(stampOf(reader(blocks), to, expected), code("volume/epoch"));
});

function ok8(changed: readonly number[], field: number): void {
  equal(changed.length > 0 && changed.every((at) => at >= field && at < field + 8), true, String(changed));
}

test("older than the anchor, larger than the disk, with a log: refused by name", async () => {
  await rejects(stampOf(reader(disk()), to, { ...expected, least: 7n }), code("volume/stale"));
  await rejects(
    stampOf(reader(disk()), to, { ...expected, deviceSize: templateSize - 1 }),
    code("volume/too-small"),
  );
  const log = resealed((view) => view.setBigUint64(96, 5_242_880n, true));
  await rejects(stampOf(reader(log), to, expected), code("volume/log-tree"));
});

for (const [what, change] of Object.entries({
  "another checksum type": (view: DataView) => view.setUint16(196, 0, true),
  "nodes of 16 KiB": (view: DataView) => view.setUint32(148, 16_384, true),
  "two devices": (view: DataView) => view.setBigUint64(136, 2n, true),
  "a root outside of all chunks": (view: DataView) => view.setBigUint64(80, 1n << 60n, true),
  "a root beyond the end": (view: DataView) => view.setBigUint64(112, 5_242_880n, true),
  "a tree of 200 levels": (view: DataView) => view.setUint8(198, 200),
  "a list of chunks that does not fit": (view: DataView) => view.setUint32(160, 3000, true),
  "a list of half a chunk": (view: DataView) => view.setUint32(160, 50, true),
  "no chunks": (view: DataView) => view.setUint32(160, 0, true),
  "another generation of the chunk tree": (view: DataView) => view.setBigUint64(164, 4n, true),
})) {
  test(`a superblock with ${what} is damaged, although its checksum holds`, async () => {
    await rejects(stampOf(reader(resealed(change)), to, expected), code("volume/damaged"));
  });
}

test("another volume's file system is damaged, as seen from this one", async () => {
  await rejects(
    stampOf(reader(disk()), to, { ...expected, fsid: new Uint8Array(16) }),
    code("volume/damaged"),
  );
});

test("every flipped bit of what is read, and every shorter block, is noticed", async () => {
  const seen = new Set<number>();
  await stampOf(
    async (at) => {
      seen.add(at);
      return (await reader(disk())(at)) as Uint8Array;
    },
    to,
    expected,
  );
  equal(seen.size, 3);
  for (const at of seen) {
    for (let bit = 0; bit < 8 * blockSize; bit += 37) {
      const blocks = disk();
      const bytes = Uint8Array.from(blocks.get(at)!);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      await rejects(
        stampOf(reader(blocks.set(at, bytes)), to, expected),
        code("volume/damaged"),
        `${at}: bit ${bit}`,
      );
    }
    for (const length of [0, 31, 32, 100, blockSize - 1]) {
      const blocks = disk();
      blocks.set(at, blocks.get(at)!.subarray(0, length));
      await rejects(stampOf(reader(blocks), to, expected), code("volume/damaged"), `${at}: ${length} bytes`);
    }
  }
});

test("any bytes with a checksum that holds are a superblock or damaged: no other error, no end without one", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(blockSize - 33), fc.nat(255)), { maxLength: 24 }),
      fc.constantFrom(...disk().keys()),
      async (changes, at) => {
        const blocks = disk();
        const bytes = Uint8Array.from(blocks.get(at)!);
        for (const [place, value] of changes) bytes[32 + place] = value;
        blocks.set(at, seal(bytes));
        await stampOf(reader(blocks), to, expected).catch((error: unknown) => {
          if (!(error instanceof VolumeError)) throw error;
        });
      },
    ),
    { numRuns: 300 },
  );
});

test("noise is damaged", () => {
  throws(() => readSuperblock(randomBytes(blockSize), ids.fsid), code("volume/damaged"));
});
