// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import { test } from "node:test";
import { Recent } from "./recent.ts";

test("the entry that was not used for longest goes first", () => {
  const recent = new Recent<number>(2);
  recent.set("a", 1);
  recent.set("b", 2);
  equal(recent.get("a"), 1);
  recent.set("c", 3);
  equal(recent.get("b"), undefined);
  equal(recent.get("a"), 1);
  equal(recent.get("c"), 3);
});
