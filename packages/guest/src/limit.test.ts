// SPDX-License-Identifier: Apache-2.0
import { equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { withLimit } from "./limit.ts";

const late = () => new Error("late");

test("what settles in time passes, and its timer is gone", async () => {
  equal(await withLimit(Promise.resolve(1), 3_600_000, late), 1);
  await rejects(withLimit(Promise.reject(new Error("own")), 3_600_000, late), { message: "own" });
});

test("what never settles is given up, and what fails afterwards is nobody's fault", async () => {
  await rejects(withLimit(new Promise(() => {}), 10, late), { message: "late" });
  const afterwards = Promise.withResolvers<void>();
  await rejects(withLimit(afterwards.promise, 10, late), { message: "late" });
  afterwards.reject(new Error("too late to matter"));
  await new Promise((resolve) => setImmediate(resolve));
});
