// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { Batcher } from "./batcher.ts";

const minute = 60_000;
const never = { least: minute, most: minute };
const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await turn();
};

/** A batcher of numbers, and the batches that it made. */
function recorded(most: number, pace = never) {
  const batches: number[][] = [];
  const batcher = new Batcher<number>(most, pace, (batch) => void batches.push([...batch]));
  return { batcher, batches };
}

test("what comes alone is done at once, again and again", async () => {
  const { batcher, batches } = recorded(10);
  for (let i = 0; i < 5; i++) {
    batcher.add(i);
    await turns(2);
    deepEqual(batches.at(-1), [i]);
  }
});

test("once several came together, the next ones wait for each other, and no longer than a pace", async () => {
  const { batcher, batches } = recorded(10);
  batcher.add(1);
  batcher.add(2);
  await turns(2);
  deepEqual(batches, [[1, 2]]);
  batcher.add(3);
  await turns(20);
  batcher.add(4);
  await turns(20);
  equal(batches.length, 1);
  await batcher.drain();
  deepEqual(batches, [
    [1, 2],
    [3, 4],
  ]);

  const soon = recorded(10, { least: 20, most: 20 });
  for (const i of [1, 2]) soon.batcher.add(i);
  await turns(2);
  soon.batcher.add(3);
  // As long as this takes: what fails is that it never comes.
  for (let i = 0; i < 2000 && soon.batches.length < 2; i++) await sleep(5);
  deepEqual(soon.batches, [[1, 2], [3]]);
});

test("who came alone last does not wait, though many did before", async () => {
  const { batcher, batches } = recorded(10);
  for (const i of [1, 2, 3]) batcher.add(i);
  await turns(2);
  batcher.add(4);
  await batcher.drain();
  batcher.add(5);
  await turns(2);
  deepEqual(batches, [[1, 2, 3], [4], [5]]);
});

test("a batch begins after the one before it has ended", async () => {
  let end = () => {};
  const begun: number[][] = [];
  const batcher = new Batcher<number>(2, { least: 0, most: 0 }, (batch) => {
    begun.push([...batch]);
    return new Promise<void>((resolve) => {
      end = resolve;
    });
  });
  for (const i of [1, 2, 3]) batcher.add(i);
  await turns(10);
  const drained = batcher.drain();
  await turns(10);
  deepEqual(begun, [[1, 2]]);
  end();
  await turns(10);
  deepEqual(begun, [[1, 2], [3]]);
  end();
  await drained;
});

test("everything is done once, in its order, in batches that are not too large", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(7), { maxLength: 12 }),
      fc.integer({ min: 1, max: 5 }),
      fc.nat(2),
      async (bursts, most, least) => {
        const { batcher, batches } = recorded(most, { least, most: least + 1 });
        let next = 0;
        for (const burst of bursts) {
          for (let i = 0; i < burst; i++) batcher.add(next++);
          await turn();
        }
        await batcher.drain();
        deepEqual(batches.flat(), [...Array(next).keys()]);
        ok(batches.every(({ length }) => length >= 1 && length <= most));
      },
    ),
    { numRuns: 100 },
  );
});

test("the longer a process has been at work, the longer it is from one batch to the next", async () => {
  const { batcher, batches } = recorded(10, { least: 0, most: minute });
  const pair = async () => {
    for (const i of [1, 2]) batcher.add(i);
    await turns(2);
  };
  await pair();
  for (const until = performance.now() + 30; performance.now() < until; );
  await pair();
  await batcher.drain();
  const before = batches.length;
  await pair();
  await turns(20);
  equal(batches.length, before, "a part of a minute");
  await batcher.drain();
  equal(batches.length, before + 1);
});
