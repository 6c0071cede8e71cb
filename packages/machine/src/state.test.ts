// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notEqual, rejects, throws } from "node:assert/strict";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { claimState, instanceSeed, runsOn } from "./state.ts";

function place(t: TestContext): string {
  const directory = temporaryDirectory("state", t);
  return directory;
}

test("a seed is made at the first start, is the owner's alone, and stays", (t) => {
  const state = place(t);
  const seed = instanceSeed(state);
  equal(/^[0-9a-f]{40}$/.test(seed), true);
  equal(instanceSeed(state), seed);
  equal(statSync(join(state, "instance-seed")).mode & 0o777, 0o600);
  // Nothing half-written stays behind.
  deepEqual(readdirSync(state), ["instance-seed"]);
  notEqual(instanceSeed(place(t)), seed);
});

test("the seed of a state that somebody keeps is used as it is; without a place there is none", (t) => {
  const state = place(t);
  writeFileSync(join(state, "instance-seed"), `${"cd".repeat(20)}\n`);
  equal(instanceSeed(state), "cd".repeat(20));
  throws(() => instanceSeed(join(state, "nowhere")), { code: "ENOENT" });
});

test("a state is one machine's; who looks whether one runs keeps nobody from it", async (t) => {
  const state = place(t);
  equal(await runsOn(join(state, "nowhere")), false);
  equal(await runsOn(state), false);
  const looks = Array.from({ length: 20 }, () => runsOn(state));
  const release = await claimState(state);
  await Promise.all(looks);
  equal(await runsOn(state), true);
  await rejects(claimState(state), { code: "up/busy" });
  await release();
  equal(await runsOn(state), false);
});
