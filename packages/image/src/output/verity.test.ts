// SPDX-License-Identifier: Apache-2.0
import { equal, notEqual, throws } from "node:assert/strict";
import { hash } from "node:crypto";
import { test } from "node:test";
import { VerityHasher, verityBlockSize, veritySalt } from "./verity.ts";

const tree = (data: Buffer, step = data.length) => {
  const hasher = new VerityHasher();
  for (let at = 0; at < data.length; at += step) hasher.update(data.subarray(at, at + step));
  return hasher.finish();
};
const salted = (block: Buffer) => hash("sha256", Buffer.concat([veritySalt, block]), "buffer");

test("one block: no hash block, the root is its hash", () => {
  const { rootHash, bytes, dataBlocks } = tree(Buffer.alloc(4096, 1));
  equal(rootHash, salted(Buffer.alloc(4096, 1)).toString("hex"));
  equal(bytes.length, 0);
  equal(dataBlocks, 1);
});

test("two blocks: one hash block with both digests, padded with zeros", () => {
  const data = Buffer.concat([Buffer.alloc(4096, 1), Buffer.alloc(4096, 2)]);
  const block = Buffer.alloc(4096);
  salted(data.subarray(0, 4096)).copy(block);
  salted(data.subarray(4096)).copy(block, 32);
  const { rootHash, bytes } = tree(data);
  equal(bytes.compare(block), 0);
  equal(rootHash, salted(block).toString("hex"));
});

test("the number of hash blocks grows with the levels, 128 digests a block", () => {
  const hashBlocks = (blocks: number) => tree(Buffer.alloc(blocks * 4096)).bytes.length / verityBlockSize;
  equal(hashBlocks(128), 1);
  equal(hashBlocks(129), 3);
  equal(hashBlocks(2 * 128 + 1), 4);
});

test("the size of the chunks does not matter", () => {
  const data = Buffer.alloc(1500 * 4096, "caisson");
  equal(tree(data).rootHash, tree(data, 7 * 4096).rootHash);
  equal(tree(data).bytes.compare(tree(data, 4096).bytes), 0);
});

test("any flipped bit changes the root", () => {
  const data = Buffer.alloc(200 * 4096);
  const { rootHash } = tree(data);
  for (const at of [0, 4096, data.length - 1]) {
    const changed = Buffer.from(data);
    changed[at]! ^= 0x80;
    notEqual(tree(changed).rootHash, rootHash);
  }
});

test("refused: half a block, no block", () => {
  throws(() => new VerityHasher().update(Buffer.alloc(4095)), { code: "verity/size" });
  throws(() => new VerityHasher().finish(), { code: "verity/size" });
});
