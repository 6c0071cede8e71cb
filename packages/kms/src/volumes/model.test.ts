// SPDX-License-Identifier: Apache-2.0
import { equal, match, ok } from "node:assert/strict";
import { test } from "node:test";
import { type Mutations, searchModel } from "../testing/volume-model.ts";

test("the protocol as it is: no run presents a state that it must not", () => {
  const found = searchModel({ runs: 1500, steps: 60, seed: 20_261_126 });
  equal(found, undefined, JSON.stringify(found, null, 2));
});

const mutations: [name: string, mutations: Mutations, what: RegExp][] = [
  ["openings without a stamp", { noStamp: true }, /two contents|not after/],
  ["a KMS that fences nobody", { noFence: true }, /not after/],
  ["guests that take what is below the anchor", { noAnchor: true }, /not after/],
  [
    "copies of a garbled superblock that are not compared with the anchor",
    { noCopyAnchor: true },
    /not after/,
  ],
  ["restores that do not know of each other", { uncounted: true }, /two contents|not after/],
  ["a KMS that is put back and does not know it", { noRestore: true }, /two contents|not after/],
];
for (const [name, mutation, what] of mutations) {
  test(`${name}: the search finds why not`, () => {
    const found = searchModel({ runs: 3000, steps: 60, seed: 20_261_126, mutations: mutation });
    ok(found, "nothing was found");
    match(found.what, what);
  });
}
