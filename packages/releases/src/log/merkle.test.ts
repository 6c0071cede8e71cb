// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { leafHash, nodeHash, verifyConsistency, verifyInclusion } from "@caisson/vocabulary/merkle";
import fc from "fast-check";
import {
  consistencyProof,
  hashesOfTiles,
  inclusionProof,
  readEntries,
  readHashes,
  tilePath,
  treeRoot,
  writeEntries,
} from "./tiles.ts";

/** RFC 6962, section 2.1, as it is written there: the oracle of everything below. */
const sha256 = (...parts: readonly (Uint8Array | number[])[]) => {
  const sum = createHash("sha256");
  for (const part of parts) sum.update(Uint8Array.from(part));
  return new Uint8Array(sum.digest());
};
const k = (n: number) => {
  let power = 1;
  while (2 * power < n) power *= 2;
  return power;
};
function mth(d: readonly Uint8Array[]): Uint8Array {
  if (d.length === 0) return sha256();
  if (d.length === 1) return sha256([0], d[0]!);
  return sha256([1], mth(d.slice(0, k(d.length))), mth(d.slice(k(d.length))));
}
function path(m: number, d: readonly Uint8Array[]): Uint8Array[] {
  if (d.length === 1) return [];
  const split = k(d.length);
  return m < split
    ? [...path(m, d.slice(0, split)), mth(d.slice(split))]
    : [...path(m - split, d.slice(split)), mth(d.slice(0, split))];
}
function subproof(m: number, d: readonly Uint8Array[], whole: boolean): Uint8Array[] {
  if (m === d.length) return whole ? [] : [mth(d)];
  const split = k(d.length);
  return m <= split
    ? [...subproof(m, d.slice(0, split), whole), mth(d.slice(split))]
    : [...subproof(m - split, d.slice(split), false), mth(d.slice(0, split))];
}

/** The inputs of Certificate Transparency's own tests, and the roots that they give. */
const inputs = [
  "",
  "00",
  "10",
  "2021",
  "3031",
  "40414243",
  "5051525354555657",
  "606162636465666768696a6b6c6d6e6f",
];
const known: Record<number, string> = {
  1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};

/** A log in memory: tiles as files would hold them. */
function logOf(entries: readonly Uint8Array[]) {
  const levels: Uint8Array[][] = [entries.map((entry) => sha256([0], entry))];
  while (levels.at(-1)!.length >= 256) {
    const below = levels.at(-1)!;
    const full = Math.floor(below.length / 256);
    const fold = (hashes: Uint8Array[]): Uint8Array =>
      hashes.length === 1
        ? hashes[0]!
        : fold(hashes.flatMap((hash, i) => (i % 2 === 0 ? [sha256([1], hash, hashes[i + 1]!)] : [])));
    levels.push(Array.from({ length: full }, (_, i) => fold(below.slice(256 * i, 256 * (i + 1)))));
  }
  return hashesOfTiles(async (level, index, width) => {
    const hashes = levels[level]!.slice(256 * index, 256 * index + width);
    equal(hashes.length, width, `tile ${level}/${index} has more hashes than it says`);
    return hashes;
  }, entries.length);
}

test("roots of Certificate Transparency's tests", async () => {
  const entries = inputs.map((text) => Uint8Array.fromHex(text));
  for (const [size, root] of Object.entries(known)) {
    const some = entries.slice(0, Number(size));
    equal(mth(some).toHex(), root);
    equal((await treeRoot(logOf(some), some.length)).toHex(), root);
  }
  deepEqual(await leafHash(entries[3]!), sha256([0], entries[3]!));
  deepEqual(await nodeHash(entries[3]!, entries[4]!), sha256([1], entries[3]!, entries[4]!));
});

const entriesOf = (size: number) => Array.from({ length: size }, (_, i) => Uint8Array.of(i >> 8, i & 255));

test("every entry of trees of 1 to 34 entries is proved, and in no other place", async () => {
  for (let size = 1; size <= 34; size++) {
    const entries = entriesOf(size);
    const tree = { size, root: mth(entries) };
    for (let index = 0; index < size; index++) {
      const proof = await inclusionProof(logOf(entries), index, size);
      deepEqual(proof, path(index, entries));
      const leaf = await leafHash(entries[index]!);
      equal(await verifyInclusion({ index, leaf }, tree, proof), true);
      for (const other of [index - 1, index + 1, size + index]) {
        equal(
          await verifyInclusion({ index: other, leaf }, tree, proof),
          false,
          `${other} for ${index} of ${size}`,
        );
      }
      equal(await verifyInclusion({ index, leaf }, tree, [...proof, leaf]), false);
      if (proof.length > 0) equal(await verifyInclusion({ index, leaf }, tree, proof.slice(1)), false);
    }
  }
});

test("every tree of up to 20 entries is the beginning of every larger one, and of no other", async () => {
  for (let second = 1; second <= 20; second++) {
    const entries = entriesOf(second);
    const large = { size: second, root: mth(entries) };
    for (let first = 1; first <= second; first++) {
      const small = { size: first, root: mth(entries.slice(0, first)) };
      const proof = await consistencyProof(logOf(entries), first, second);
      deepEqual(proof, first === second ? [] : subproof(first, entries, true));
      equal(await verifyConsistency(small, large, proof), true, `${first} of ${second}`);
      const forked = { size: first, root: sha256(small.root) };
      equal(await verifyConsistency(forked, large, proof), false);
      equal(await verifyConsistency(small, { ...large, root: sha256(large.root) }, proof), false);
      equal(await verifyConsistency(small, large, [...proof, small.root]), false);
      if (proof.length > 0) equal(await verifyConsistency(small, large, proof.slice(0, -1)), false);
    }
    equal(await verifyConsistency({ size: 0, root: sha256() }, large, []), true);
    equal(await verifyConsistency({ size: 0, root: large.root }, large, []), false);
    equal(await verifyConsistency({ size: second + 1, root: large.root }, large, []), false);
  }
});

test("trees of several tiles: proofs are those of the definition", async () => {
  const property = fc.asyncProperty(
    fc.integer({ min: 250, max: 1100 }),
    fc.nat(),
    fc.nat(),
    async (size, a, b) => {
      const entries = entriesOf(size);
      const tree = { size, root: mth(entries) };
      const read = logOf(entries);
      deepEqual(await treeRoot(read, size), tree.root);
      const index = a % size;
      const proof = await inclusionProof(read, index, size);
      deepEqual(proof, path(index, entries));
      equal(await verifyInclusion({ index, leaf: await leafHash(entries[index]!) }, tree, proof), true);
      const first = 1 + (b % size);
      const consistency = await consistencyProof(read, first, size);
      deepEqual(consistency, subproof(first, entries, true));
      const small = { size: first, root: mth(entries.slice(0, first)) };
      equal(await verifyConsistency(small, tree, consistency), true);
    },
  );
  await fc.assert(property, { numRuns: 15 });
});

test("an index above 2^32 is not a smaller one", async () => {
  const leaf = await leafHash(Uint8Array.of(1));
  const tree = { size: 2 ** 32 + 1, root: await nodeHash(sha256(), leaf) };
  equal(await verifyInclusion({ index: 2 ** 32, leaf }, tree, [sha256()]), true);
  equal(await verifyInclusion({ index: 0, leaf }, tree, [sha256()]), false);
});

test("paths of tiles, as c2sp.org/tlog-tiles writes them", () => {
  equal(tilePath(0, 1234067), "tile/0/x001/x234/067");
  equal(tilePath(1, 0, 3), "tile/1/000.p/3");
  equal(tilePath("entries", 999), "tile/entries/999");
  equal(tilePath("entries", 1000, 255), "tile/entries/x001/000.p/255");
});

test("an entry of 65,535 bytes is the longest", () => {
  const longest = new Uint8Array(0xffff).fill(7);
  deepEqual(readEntries(writeEntries([longest]), 1), [longest]);
  throws(() => writeEntries([new Uint8Array(0x10000)]), { code: "log/malformed" });
});

test("entries are read as they were written, and nothing else is", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), fc.nat(), (entries, at) => {
      const bytes = writeEntries(entries);
      deepEqual(readEntries(bytes, entries.length), entries);
      const refused = { code: "log/malformed" };
      for (const [wrong, width] of [
        [bytes, entries.length + 1],
        [Uint8Array.of(...bytes, 0), entries.length],
        ...(bytes.length > 0 ? ([[bytes.subarray(0, at % bytes.length), entries.length]] as const) : []),
      ] as const) {
        try {
          readEntries(wrong, width);
          throw new Error("read");
        } catch (error) {
          equal((error as { code?: string }).code, refused.code);
        }
      }
    }),
  );
  equal(readHashes(new Uint8Array(64), 2).length, 2);
});
