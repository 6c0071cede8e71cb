// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import test from "node:test";
import { setTimeout } from "node:timers/promises";
import { Newcomers } from "./newcomers.ts";

const elapsed = () => performance.now();

test("who asks waits for a look that began after it did, and many share one", async () => {
  const began: number[] = [];
  let known = false;
  let finish = () => {};
  const look = () => {
    began.push(elapsed());
    return new Promise<void>((resolve) => {
      finish = resolve;
    });
  };
  const newcomers = new Newcomers(look, () => known, elapsed);
  const early = Array.from({ length: 5 }, () => newcomers.has("00"));
  while (began.length === 0) await setTimeout(1);
  // This look may have read before the policy was signed.
  const late = newcomers.has("00");
  finish();
  deepEqual(await Promise.all(early), Array(5).fill(false));
  known = true;
  while (began.length === 1) await setTimeout(1);
  finish();
  equal(await late, true);
  equal(began.length, 2);
  // Timers are in whole ms.
  ok(began[1]! - began[0]! >= 98, began.join());
});

test("no more than 32 wait, and a store that does not answer makes nobody known", async () => {
  let refuse = (_: Error) => {};
  const look = () =>
    new Promise((_, reject) => {
      refuse = reject;
    });
  const newcomers = new Newcomers(look, () => true, elapsed);
  const waiting = Array.from({ length: 32 }, () => newcomers.has("00"));
  equal(await newcomers.has("00"), false);
  await setTimeout(5);
  refuse(new Error("the database does not answer"));
  deepEqual(await Promise.all(waiting), Array(32).fill(false));
  const next = newcomers.has("00");
  await setTimeout(150);
  refuse(new Error("still not"));
  equal(await next, false);
});
