// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { leafHash, verifyInclusion } from "@caisson/releases";
import { Frontier, leafOf, wholeTree } from "./tree.ts";

const entries = (count: number) => Array.from({ length: count }, (_, i) => Buffer.from(`entry ${i}`));

for (const size of [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 256]) {
  test(`each of ${size} entries is proved to be in its place, and in no other`, async () => {
    const { root, proofs } = wholeTree(entries(size));
    const grown = new Frontier();
    for (const entry of entries(size)) grown.add(leafOf(entry));
    deepEqual(root, grown.root());
    for (const [index, entry] of entries(size).entries()) {
      const leaf = await leafHash(entry);
      equal(await verifyInclusion({ index, leaf }, { size, root }, proofs[index]!), true);
      for (const other of [index - 1, index + 1, size]) {
        equal(await verifyInclusion({ index: other, leaf }, { size, root }, proofs[index]!), false);
      }
    }
  });
}
