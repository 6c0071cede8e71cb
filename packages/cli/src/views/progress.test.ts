// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { formatBytes, Progress } from "./progress.ts";

function recorded(isTTY: boolean, t?: TestContext) {
  t?.mock.timers.enable({ apis: ["setTimeout"] });
  const lines: string[] = [];
  let now = 0;
  const stream = { isTTY, columns: 40, write: (text: string) => lines.push(text) };
  const progress = new Progress(stream, () => now);
  return {
    lines,
    progress,
    pass: (ms: number) => {
      now += ms;
      t?.mock.timers.tick(ms);
    },
  };
}

test("elsewhere than on a terminal: a line a step; of one that lasts its start, too, and one every ten seconds", (t) => {
  const { lines, progress, pass } = recorded(false, t);
  progress.show("fetch", "0 of 2");
  pass(1000);
  progress.show("fetch", "1 of 2");
  pass(10_000);
  progress.show("fetch", "2 of 2");
  progress.show("kernel");
  pass(500);
  progress.done();
  pass(60_000);
  deepEqual(lines, [
    "fetch        0 of 2\n",
    "fetch        2 of 2\n",
    "fetch        2 of 2, 11.0 s\n",
    "kernel       0.5 s\n",
  ]);
});

test("on a terminal: one line that is redrawn, never wider than the terminal", () => {
  const { lines, progress, pass } = recorded(true);
  progress.show("fetch", "x".repeat(100));
  pass(50);
  progress.show("fetch", "too soon");
  progress.done();
  equal(lines.length, 2);
  ok(lines[0]!.startsWith("\r\x1b[2K"));
  equal(/x+/.exec(lines[0]!)![0].length, 40 - 3 - 13);
  match(lines[1]!, /too soon, 0\.1 s\n$/);
});

test("a cleared line leaves nothing, and nothing is ended twice", () => {
  const { lines, progress } = recorded(true);
  progress.show("root");
  progress.clear();
  progress.done();
  equal(lines.at(-1), "\r\x1b[2K");
});

test("bytes for a person", () => {
  deepEqual([0, 1023, 1024, 1536, 130 * 2 ** 20, 5 * 2 ** 40].map(formatBytes), [
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.5 KiB",
    "130.0 MiB",
    "5120.0 GiB",
  ]);
});
