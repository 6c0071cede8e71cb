// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { blockSize, seal, superblockPlace } from "./btrfs.ts";
import { VolumeError } from "./errors.ts";
import { emptyFileSystem } from "./template.ts";
import { copyPlace, findSuperblock } from "./torn.ts";

const ids = {
  fsid: new Uint8Array(16).fill(1),
  device: new Uint8Array(16).fill(2),
  chunkTree: new Uint8Array(16).fill(3),
};
const [empty] = emptyFileSystem(ids);
const sectors = 8;

/** A superblock as the kernel writes it for a commit: what changes lies in four sectors of 512 bytes. */
function committed(generation: bigint, place: number): Uint8Array {
  const bytes = Uint8Array.from(empty!.bytes);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(48, BigInt(place), true);
  for (const at of [72, 563]) view.setBigUint64(at, generation, true);
  view.setBigUint64(80, 5_242_880n + generation * 4096n, true);
  // The array of four earlier roots, of which this commit writes one.
  for (let one = generation - 3n; one <= generation; one++) {
    const slot = 2859 + 168 * Number(one % 4n);
    for (let at = 0; at < 160; at += 8) view.setBigUint64(slot + at, one * 1000n + BigInt(at), true);
  }
  return seal(bytes);
}

/** The sectors of a mask from the newer one. */
function torn(older: Uint8Array, newer: Uint8Array, mask: number): Uint8Array {
  const bytes = Uint8Array.from(older);
  for (let index = 0; index < sectors; index++) {
    if ((mask & (1 << index)) !== 0) bytes.set(newer.subarray(index * 512, (index + 1) * 512), index * 512);
  }
  return bytes;
}

const disk = (first: Uint8Array, copy: Uint8Array) => async (at: number) =>
  at === superblockPlace ? first : at === copyPlace ? copy : new Uint8Array(blockSize);

/** The generation that is found, after a check that what is found is that commit's, byte for byte. */
async function found(first: Uint8Array, copy: Uint8Array): Promise<bigint | undefined> {
  try {
    const { generation, bytes } = await findSuperblock(disk(first, copy), ids.fsid);
    deepEqual(bytes, committed(generation, superblockPlace));
    return generation;
  } catch (error) {
    if (error instanceof VolumeError && error.code === "volume/damaged") return undefined;
    throw error;
  }
}

const commit = (generation: bigint) => ({
  first: committed(generation, superblockPlace),
  copy: committed(generation, copyPlace),
});
const all = (1 << sectors) - 1;

/** What has to be found where the sectors of two masks have the commit's bytes, and the others those of the one before. */
async function check(generation: bigint, one: number, two: number): Promise<void> {
  const [older, newer] = [commit(generation - 1n), commit(generation)];
  const first = torn(older.first, newer.first, one);
  const got = await found(first, torn(older.copy, newer.copy, two));
  const isWhole = (wanted: Uint8Array) => Buffer.compare(first, wanted) === 0;
  const matter = Array.from({ length: sectors }, (_, index) => index).filter((index) => {
    const sector = ({ first }: typeof older) => first.subarray(index * 512, (index + 1) * 512);
    return Buffer.compare(sector(older), sector(newer)) !== 0;
  });
  const mask = matter.reduce((sum, index) => sum | (1 << index), 0);
  const newest = ((one | two) & mask) === mask ? generation : undefined;
  const before = (~(one & two) & mask) === mask ? generation - 1n : undefined;
  equal(got, isWhole(older.first) ? generation - 1n : (newest ?? before), `${generation}, ${one}, ${two}`);
}

test("whatever was written of the first place, a whole copy makes up for it, of this commit or of the one before", async () => {
  for (const generation of [8n, 9n, 10n, 11n]) {
    for (let mask = 0; mask <= all; mask++) {
      await check(generation, mask, 0);
      await check(generation, mask, all);
    }
  }
});

test("both places torn: one of the two commits, byte for byte, where each sector of it is in one of them", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 8, max: 40 }), fc.nat(all), fc.nat(all), (number, one, two) =>
      check(BigInt(number), one, two),
    ),
    { numRuns: 500 },
  );
});

test("a first place that is whole is taken, whatever the copy says, which is not even read", async () => {
  const read: number[] = [];
  const { generation } = await findSuperblock(async (at) => {
    read.push(at);
    return disk(commit(8n).first, commit(9n).copy)(at);
  }, ids.fsid);
  deepEqual([generation, read], [8n, [superblockPlace]]);
});

test("a copy of another file system, of the wrong place, shorter, or noise is damage; one with a log is refused by name", async () => {
  const noise = randomBytes(blockSize);
  const foreign = Uint8Array.from(commit(9n).copy);
  foreign[32]! ^= 1;
  const moved = Uint8Array.from(commit(9n).copy);
  new DataView(moved.buffer).setBigUint64(80, 0n, true);
  for (const copy of [noise, seal(foreign), moved, commit(9n).copy.subarray(0, 512), new Uint8Array()]) {
    equal(await found(noise, copy), undefined);
    equal(await found(new Uint8Array(blockSize), copy), undefined);
  }
  const log = Uint8Array.from(commit(9n).copy);
  new DataView(log.buffer).setBigUint64(96, 5_242_880n, true);
  await rejects(findSuperblock(disk(noise, seal(log)), ids.fsid), { code: "volume/log-tree" });
});

test("every flipped bit of a copy whose first place is gone is noticed", async () => {
  const noise = randomBytes(blockSize);
  for (let bit = 0; bit < 8 * blockSize; bit += 1013) {
    const copy = commit(9n).copy;
    copy[bit >> 3]! ^= 1 << (bit & 7);
    equal(await found(noise, copy), undefined, `bit ${bit}`);
  }
});
