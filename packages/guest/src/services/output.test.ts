// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { readLimited } from "./output.ts";
import { pipe } from "./runtime.ts";

test("whoever prints line by line is not held up: what it printed meanwhile is one piece", async (t) => {
  const place = temporaryDirectory("output", t);
  const fifo = join(place, "fifo");
  execFileSync("mkfifo", [fifo]);
  const read = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
  const { stream, write } = pipe({ pipe: () => [read, openSync(fifo, "w")] });
  const line = "require('node:fs').writeSync(1, n + ' a line of a log\\n')";
  const script = `let n = 0; const all = setInterval(() => { ${line}; if (++n === 400) clearInterval(all); }, 1)`;
  const writer = spawn(process.execPath, ["-e", script], { stdio: ["ignore", write, "inherit"] });
  closeSync(write);
  let [lines, pieces] = [0, 0];
  const drain = readLimited(stream, { bytes: 1 << 20, lines: 10_000 }, () => lines++);
  stream.on("data", () => pieces++);
  const [[status]] = await Promise.all([once(writer, "exit"), once(stream, "end")]);
  await drain();
  deepEqual([status, lines], [0, 400]);
  ok(pieces < 100, `${pieces} pieces`);
});

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
  const lines = `${"x".repeat(99)}\n`.repeat(20);
  for (let i = 0; i < 50; i++) if (stream.write(lines)) written++;
  await sleep(700);
  match(String(seen), /^\d{4}$/);
  equal(stream.isPaused(), true);
  stream.end();
  await drain();
  equal(seen, 100_000);
});

test("what is printed within a moment is read at once, and the first line without waiting", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const stream = new PassThrough();
  const lines: string[] = [];
  readLimited(stream, { bytes: 1 << 20, lines: 1000 }, (line) => lines.push(line));
  const print = async (text: string): Promise<void> => {
    stream.write(text);
    await turn();
    await turn();
  };
  await print("a\n");
  deepEqual(lines, ["a"]);
  await print("b\n");
  await print("c\n");
  deepEqual(lines, ["a"]);
  t.mock.timers.tick(50);
  await print("");
  deepEqual(lines.slice(0, 2), ["a", "b"]);
});
