// SPDX-License-Identifier: Apache-2.0
/**
 * The quote channel of the emulation driver (kernel/driver/quote-channel.c), as a program with the sanitizers: what it does
 * when the service on the host is late, refuses, talks nonsense or is not there. Its waits of 30 s cost nothing here,
 * because the clock is the harness's.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { constants } from "node:os";
import { before, test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { driverProgram } from "../support/driver-program.ts";

const place = temporaryDirectory("quote-channel");

let program: (input: string) => Promise<string[]>;
before(async () => {
  program = await driverProgram("quote-channel", place);
});

const { EBUSY, EFBIG, EINTR, EIO, ENODEV, ETIMEDOUT } = constants.errno;

/** An answer of the service: status, and a quote of so many bytes, or a length that is not its own. */
function answer(delay: number, size: number, { status = 0, stated = size, magic = "CQRS" } = {}): string {
  const bytes = Buffer.alloc(12 + size, 0x51);
  bytes.write(magic, "latin1");
  bytes.writeUInt32LE(status, 4);
  bytes.writeUInt32LE(stated, 8);
  return `answer ${delay} ${bytes.toString("hex")}`;
}

/** Results of the steps that have one, and how many whole requests reached the host. */
async function play(...steps: string[]) {
  const lines = (await program(`${["open", ...steps].join("\n")}\n`)).map((line) =>
    line.split(" ").map(Number),
  );
  return {
    results: lines.slice(0, -1).map(([result, length]) => (result === 0 ? length! : result!)),
    ticks: lines.slice(0, -1).map((line) => line[2]!),
    requests: lines.at(-1)![0],
  };
}

/** Ticks of the harness a second. */
const second = 100;

test("quotes up to the limit arrive, one after the other", async () => {
  const { results, requests } = await play(
    answer(10, 1),
    answer(0, 5000),
    answer(0, 16_384),
    ...Array(3).fill("request"),
  );
  deepEqual(results, [0, 1, 5000, 16_384]);
  equal(requests, 3);
});

test("a quote costs a sleep for every 14 bytes, not one for each", async () => {
  const { results, ticks } = await play(answer(0, 5000), "request");
  deepEqual(results, [0, 5000]);
  const sleeps = Math.ceil((12 + 5000) / 14);
  ok(ticks[1]! <= sleeps, `${ticks[1]} ticks of at most ${sleeps}`);
});

test("no answer within 30 s: a time-out; asked again: busy, until the late answer came and was dropped", async () => {
  const late = answer(33 * second, 100);
  const { results, ticks, requests } = await play(
    late,
    answer(0, 200),
    "request",
    ...Array(60).fill("request"),
  );
  equal(results[1], -ETIMEDOUT);
  ok(ticks[1]! >= 30 * second && ticks[1]! < 31 * second, `${ticks[1]} ticks`);
  const next = results.findIndex((result, i) => i > 1 && result !== -EBUSY);
  equal(results[next], 200, "the second request's quote, not the first's");
  ok(next > 10, `${next - 2} times busy`);
  equal(results[next + 1], -ETIMEDOUT, "a third one that nobody answers");
  equal(requests, 3, "a busy one sends nothing");
});

const ends: Record<string, { answer: string; first: number; next: number }> = {
  "the service refuses": { answer: answer(0, 0, { status: 2 }), first: -EIO, next: 7 },
  "done, without a quote": { answer: answer(0, 0), first: -EIO, next: 7 },
  "a quote with a status of failure": { answer: answer(0, 5, { status: 1 }), first: -EIO, next: 7 },
  "another magic": { answer: answer(0, 5, { magic: "XXXX" }), first: -EIO, next: -EIO },
  "one byte more than the limit": { answer: answer(0, 16_385), first: -EFBIG, next: -EIO },
  "a length of 4 GiB": { answer: answer(0, 5, { stated: 0xffff_ffff }), first: -EFBIG, next: -EIO },
  "an answer that breaks off": { answer: answer(0, 5, { stated: 6 }), first: -ETIMEDOUT, next: -EBUSY },
};
for (const [what, { answer: given, first, next }] of Object.entries(ends)) {
  test(`${what}: ${first}, and the next request: ${next}`, async () => {
    const { results } = await play(given, answer(0, 7), "request", "request");
    deepEqual(results, [0, first, next]);
  });
}

test("a signal ends the wait, and the answer is dropped when it comes", async () => {
  const steps = ["signal on", "request", "signal off", "request"];
  const { results } = await play(answer(2, 50), answer(5, 200), ...steps);
  deepEqual(results, [0, -EINTR, 200]);
});

test("a request that cannot be sent closes the channel", async () => {
  const { results, requests } = await play("stuck on", "request", "stuck off", "request");
  deepEqual(results, [0, -ETIMEDOUT, -EIO]);
  equal(requests, 0);
});

test("no second serial port, or one that somebody has: no channel, and every request says so", async () => {
  for (const [port, errno] of [
    ["absent", ENODEV],
    ["taken", EBUSY],
  ] as const) {
    const lines = await program(`port ${port}\nopen\nrequest\n`);
    deepEqual(
      lines.map((line) => Number(line.split(" ")[0])),
      [-errno, -EIO, 0],
    );
  }
});
