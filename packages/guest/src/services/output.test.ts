// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match } from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { readLimited } from "./output.ts";

test("lines over the rate are left out and counted, and what is left at the end is read", async () => {
  const stream = new PassThrough();
  const lines: string[] = [];
  const drain = readLimited(stream, { bytes: 1 << 20, lines: 2 }, (line) => lines.push(line));
  stream.end("a\nb\nc\nd\nlast");
  await drain();
  deepEqual(lines, ["a", "b", "(3 lines were left out: more than 2 in a second)"]);
});

test("a flood waits for itself: no more is read in a second than the rate says", async () => {
  const stream = new PassThrough({ highWaterMark: 1024 });
  let seen = 0;
  const drain = readLimited(stream, { bytes: 4096, lines: 1e9 }, (line) => {
    seen += line.length + 1;
  });
  let written = 0;
  const line = `${"x".repeat(99)}\n`;
  for (let i = 0; i < 1000; i++) if (stream.write(line)) written++;
  await sleep(50);
  match(String(seen), /^\d{4}$/);
  equal(stream.isPaused(), true);
  stream.end();
  await drain();
  equal(seen, 100_000);
});
