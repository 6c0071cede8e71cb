// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { deriveVolumeKeys } from "@caisson/protocol/derivation";
import { firstGeneration } from "@caisson/protocol/volumes";
import { type Block, blockSize, offsets, readSuperblock, seal, superblockPlace } from "./btrfs.ts";
import { VolumeError } from "./errors.ts";
import { type Preparation, prepareVolume } from "./prepare.ts";
import { openRedo, sealRedo } from "./reserved.ts";
import { templateSize } from "./template.ts";
import { copyPlace } from "./torn.ts";

const keys = deriveVolumeKeys(new Uint8Array(32).fill(9));
const deviceSize = templateSize;
/** Where the template's root lies. */
const rootPlace = 5_242_880n;

/** A disk whose power can go: after so many writes, the next one is torn in the middle and nothing follows. */
class Disk {
  blocks = new Map<number, Uint8Array>();
  redo: Uint8Array = new Uint8Array();
  left = Number.POSITIVE_INFINITY;
  /** Writes so far. */
  writes = 0;

  copy(): Disk {
    const copy = new Disk();
    copy.blocks = new Map(this.blocks);
    copy.redo = this.redo;
    return copy;
  }

  /** The bytes that are there after a write of \`wanted\` over \`before\`. */
  #written(before: Uint8Array, wanted: Uint8Array): Uint8Array {
    if (this.left === 0) {
      this.left = -1;
      // The cipher turns half a sector of old and half of new into noise; the record has its own tag.
      return wanted.length === blockSize
        ? randomBytes(blockSize)
        : Buffer.concat([wanted.subarray(0, 99), before.subarray(99)]);
    }
    if (this.left < 0) throw new Error("no power");
    this.left--;
    this.writes++;
    return wanted;
  }

  prepare(change: Partial<Preparation>): Promise<number> {
    const put = async (...blocks: readonly Block[]) => {
      for (const { at, bytes } of blocks) {
        this.blocks.set(at, this.#written(this.blocks.get(at) ?? new Uint8Array(blockSize), bytes));
        if (this.left < 0) throw new Error("no power");
      }
    };
    return prepareVolume(
      {
        read: async (at) => this.blocks.get(at) ?? new Uint8Array(blockSize),
        put,
        readRedo: async () => openRedo(keys.redo, this.redo),
        writeRedo: async (stamp) => {
          this.redo = this.#written(this.redo, sealRedo(keys.redo, stamp));
          if (this.left < 0) throw new Error("no power");
        },
      },
      keys,
      { made: false, to: 0n, least: 0n, deviceSize, ...change },
    );
  }

  /** A commit of the kernel: another root, and the superblock in both places; the first place's is returned. */
  commit(): Uint8Array {
    const before = this.blocks.get(superblockPlace)!;
    const view = new DataView(before.buffer, before.byteOffset);
    const [generation, from] = [this.generation + 1n, view.getBigUint64(offsets.root, true)];
    const changed = (bytes: Uint8Array, changes: Record<number, bigint>) => {
      const after = Uint8Array.from(bytes);
      for (const [at, value] of Object.entries(changes))
        new DataView(after.buffer).setBigUint64(Number(at), value, true);
      return seal(after);
    };
    const to = from === rootPlace ? rootPlace + 4096n : rootPlace;
    this.blocks.set(Number(to), changed(this.blocks.get(Number(from))!, { 48: to, 80: generation }));
    const written = { [offsets.generation]: generation, [offsets.root]: to };
    this.blocks.set(copyPlace, changed(before, { ...written, [offsets.place]: BigInt(copyPlace) }));
    this.blocks.set(superblockPlace, changed(before, written));
    return this.blocks.get(superblockPlace)!;
  }

  get generation(): bigint {
    return readSuperblock(this.blocks.get(superblockPlace)!, keys.fsid).generation;
  }
}

test("a new volume is made and stamped; an old one is stamped and nothing of it is made anew", async () => {
  const disk = new Disk();
  equal(await disk.prepare({ made: true, to: firstGeneration(1n) }), templateSize);
  equal(disk.generation, firstGeneration(1n));
  const before = new Map(disk.blocks);
  await disk.prepare({ to: firstGeneration(2n), least: firstGeneration(1n) });
  const changed = [...disk.blocks].filter(([at, bytes]) => before.get(at) !== bytes).map(([at]) => at);
  deepEqual(
    changed.sort((a, b) => a - b),
    [superblockPlace, 5_242_880],
  );
});

test("power lost at any write of a stamp, whole or torn: the next opening finds the same file system", async () => {
  const first = new Disk();
  await first.prepare({ made: true, to: firstGeneration(1n) });
  const least = firstGeneration(1n);
  const whole = first.copy();
  await whole.prepare({ to: firstGeneration(2n), least });
  equal(whole.writes, 3);
  for (let crash = 0; crash < whole.writes; crash++) {
    for (let again = 0; again < 6; again++) {
      const disk = first.copy();
      disk.left = crash;
      await rejects(disk.prepare({ to: firstGeneration(2n), least }), /no power/);
      // The repair may be cut off as well.
      disk.left = again;
      await disk.prepare({ to: firstGeneration(3n), least }).catch(() => undefined);
      disk.left = Number.POSITIVE_INFINITY;
      await disk.prepare({ to: firstGeneration(4n), least });
      equal(disk.generation, firstGeneration(4n), `${crash}, ${again}`);
    }
  }
});

test("a record of a stamp that was anchored past, or of one that is not older, changes nothing", async () => {
  const disk = new Disk();
  await disk.prepare({ made: true, to: firstGeneration(1n) });
  await disk.prepare({ to: firstGeneration(2n), least: firstGeneration(1n) });
  // Its opening went on and anchored; a host puts the old blocks back and shows the record.
  const least = firstGeneration(2n) + 1n;
  await rejects(
    disk.prepare({ to: firstGeneration(3n), least }),
    (error: VolumeError) => error.code === "volume/stale",
  );
});

test("blank, random and another volume's disks are damaged, and nothing is written to them", async () => {
  const other = new Disk();
  for (const bytes of [new Uint8Array(blockSize), randomBytes(blockSize)]) {
    other.blocks.set(superblockPlace, bytes);
    const opening = other.prepare({ to: firstGeneration(3n), least: firstGeneration(1n) });
    await rejects(
      opening,
      (error: VolumeError) => error instanceof VolumeError && error.code === "volume/damaged",
    );
    equal(other.writes, 0);
  }
});

const isDamaged = (error: VolumeError) => error.code === "volume/damaged";

test("a superblock torn at a commit: its copy is opened, stamped into the first place, and each write of that may be cut off", async () => {
  for (const copyOf of ["before", "after"] as const) {
    for (let crash = 0; crash <= 3; crash++) {
      const disk = new Disk();
      await disk.prepare({ made: true, to: firstGeneration(1n) });
      disk.commit();
      const copy = disk.blocks.get(copyPlace)!;
      const least = disk.generation;
      disk.commit();
      if (copyOf === "before") disk.blocks.set(copyPlace, copy);
      disk.blocks.set(superblockPlace, randomBytes(blockSize));
      disk.left = crash;
      await disk.prepare({ to: firstGeneration(2n), least }).catch(() => undefined);
      disk.left = Number.POSITIVE_INFINITY;
      await disk.prepare({ to: firstGeneration(3n), least });
      equal(disk.generation, firstGeneration(3n), `${copyOf}, ${crash}`);
      // The root of that very commit.
      const view = new DataView(disk.blocks.get(superblockPlace)!.buffer);
      equal(view.getBigUint64(offsets.root, true), copyOf === "after" ? rootPlace : rootPlace + 4096n);
    }
  }
});

test("a garbled superblock does not make an older copy acceptable: the anchor is asked for of it, too", async () => {
  const disk = new Disk();
  await disk.prepare({ made: true, to: firstGeneration(1n) });
  disk.commit();
  const least = disk.generation + 1n;
  disk.blocks.set(superblockPlace, randomBytes(blockSize));
  await rejects(
    disk.prepare({ to: firstGeneration(2n), least }),
    (error: VolumeError) => error.code === "volume/stale",
  );
});

test("torn in the first commit after a stamp, the copy as old as before it: the record puts the stamp back, or nothing opens", async () => {
  const disk = new Disk();
  await disk.prepare({ made: true, to: firstGeneration(1n) });
  disk.commit();
  const [least, copy] = [disk.generation, disk.blocks.get(copyPlace)!];
  await disk.prepare({ to: firstGeneration(2n), least });
  disk.commit();
  disk.blocks.set(copyPlace, copy);
  disk.blocks.set(superblockPlace, randomBytes(blockSize));
  const blank = disk.copy();
  blank.redo = new Uint8Array();
  await rejects(blank.prepare({ to: firstGeneration(3n), least }), isDamaged);
  equal(blank.writes, 0);
  await disk.prepare({ to: firstGeneration(3n), least });
  equal(disk.generation, firstGeneration(3n));
});
