// SPDX-License-Identifier: Apache-2.0
/**
 * The power fails at every flush of two openings, and each time another half of what was not flushed is on the disk. Beside
 * it, without machines: a drive that tears the superblock and its copy at once, in any of their sectors.
 */
import { deepEqual, match, ok } from "node:assert/strict";
import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { reservedSize } from "@caisson/protocol/volumes";
import { findSuperblock } from "../../packages/guest/src/volumes/torn.ts";
import { checkFileSystem } from "../support/btrfs-check.ts";
import { RecordedVolume, superblockPlaces } from "../support/recorded-volume.ts";
import { decrypt, GenerationSearch, volumeKeys } from "../support/volume-disk.ts";
import { counterImage } from "../support/volume-host.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-crash-"));
let recorded: RecordedVolume;
before(async () => {
  recorded = await RecordedVolume.record(await counterImage(join(place, "counter")), 256 << 20);
});
after(async () => {
  await recorded?.remove();
  rmSync(place, { recursive: true });
});

test("both superblocks torn at once in any of their sectors: one of the two commits is found, or none, and mostly one", async (t) => {
  const keys = await volumeKeys(recorded.host.state);
  const tears = 200;
  const blank = Buffer.alloc(4096);
  const before = new Map<number, Buffer>();
  let written = new Map<number, Buffer>();
  const count = { moments: 0, torn: 0, lost: 0 };
  for (const event of recorded.disk.events) {
    if (event.kind === "write" && superblockPlaces.includes(event.at)) written.set(event.at, event.bytes);
    if (event.kind !== "flush") continue;
    const both = superblockPlaces.map((at) => [before.get(at) ?? blank, written.get(at)] as const);
    const older = await generationOf(both[0]![0], blank);
    // Older than the first place where that was stamped since.
    const copied = await generationOf(blank, both[1]![0]);
    if (both.every(([, newer]) => newer !== undefined) && older !== undefined) {
      count.moments++;
      for (let tear = 0; tear < tears; tear++) {
        const [first, copy] = both.map(([from, to]) => torn(from, to!)) as [Buffer, Buffer];
        if ([both[0]![0], both[0]![1]!].some((whole) => whole.equals(first))) continue;
        count.torn++;
        const found = await generationOf(first, copy);
        if (found === undefined) count.lost++;
        else ok(found === older || found === older + 1n || found === copied, `${found} after ${older}`);
      }
    }
    for (const [at, bytes] of written) before.set(at, bytes);
    written = new Map();
  }
  // How many there are is a matter of the machine: the application commits by the clock, too.
  ok(count.moments > 5, `only ${count.moments} superblocks`);
  ok(count.lost < count.torn / 2, JSON.stringify(count));
  t.diagnostic(`of ${count.torn} torn pairs at ${count.moments} commits, ${count.lost} hold neither`);

  async function generationOf(first: Buffer, copy: Buffer): Promise<bigint | undefined> {
    const blocks = [first, copy].map(
      (bytes, index) => new Uint8Array(decrypt(keys, superblockPlaces[index]! - reservedSize, bytes)),
    );
    const read = async (at: number) => blocks[superblockPlaces.indexOf(at + reservedSize)]!;
    return findSuperblock(read, keys.fsid).then(
      ({ generation }) => generation,
      () => undefined,
    );
  }
});

/** About half of the sectors of 512 bytes. */
function torn(from: Buffer, to: Buffer): Buffer {
  const bytes = Buffer.from(from);
  for (let at = 0; at < bytes.length; at += 512) if (randomInt(2) === 0) to.copy(bytes, at, at, at + 512);
  return bytes;
}

test("no place is given two contents in one generation, which is what the guarantee takes for granted of btrfs", async (t) => {
  const search = new GenerationSearch();
  search.keys = await volumeKeys(recorded.host.state);
  for (const event of recorded.disk.events) if (event.kind === "write") search.see(event.at, event.bytes);
  deepEqual(search.found, []);
  ok(search.pairs > 200, `only ${search.pairs} pairs`);
  t.diagnostic(`${search.pairs} pairs of place and generation, each with one content`);
});

test("whenever the power fails, and whichever sectors it leaves, PID 1 makes a whole file system of them", async (t) => {
  const { flushes } = recorded;
  const plain = join(place, "plain");
  for (let seed = 100; seed < 108; seed++) {
    for (const [index, count] of flushes.entries()) {
      await recorded.prepare(count, seed * flushes.length + index, plain);
      match(await checkFileSystem(plain), /no error found/, `flush ${index + 1}, seed ${seed}`);
    }
  }
  t.diagnostic(`${8 * flushes.length} disks`);
});

test("whenever the power fails, the volume opens and holds every promise", async (t) => {
  const { flushes } = recorded;
  ok(flushes.length > 30, `only ${flushes.length} flushes`);
  for (const [index, count] of flushes.entries()) {
    await t.test(`flush ${index + 1} of ${flushes.length}`, () => recorded.fail(count, index));
  }
});
