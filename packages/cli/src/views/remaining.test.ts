// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { Remaining, timeLeft } from "./remaining.ts";

test("words for a person", () => {
  deepEqual([0, 0.5, 3, 42, 89, 90, 380, Number.NaN, Number.POSITIVE_INFINITY].map(timeLeft), [
    "",
    "",
    "about 5 s left",
    "about 45 s left",
    "about 90 s left",
    "about 2 min left",
    "about 6 min left",
    "",
    "",
  ]);
});

test("from what is done and how long it took; a step that goes on where it was begins there", () => {
  let now = 0;
  const remaining = new Remaining(() => now);
  equal(remaining.left("kernel", 100, 1000), "");
  now = 4000;
  equal(remaining.left("kernel", 190, 1000), "", "too early to say");
  now = 60_000;
  equal(remaining.left("kernel", 190, 1000), "about 9 min left");
  equal(remaining.left("kernel", 1000, 1000), "");
  equal(remaining.left("other", 0, 10), "");
  now = 70_000;
  equal(remaining.left("other", 5, 10), "about 10 s left");
});
