// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { firstBytes, piecesOf } from "./body.ts";

function stream(chunks: readonly string[]): {
  body: ReadableStream<Uint8Array>;
  state: { cancelled: boolean };
} {
  const state = { cancelled: false };
  const left = chunks.map((chunk) => new TextEncoder().encode(chunk));
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const next = left.shift();
      if (next === undefined) controller.close();
      else controller.enqueue(next);
    },
    cancel() {
      state.cancelled = true;
    },
  });
  return { body, state };
}

test("a body within the limit comes whole", async () => {
  const { bytes, more } = await firstBytes(stream(["ab", "", "cd"]).body, 4);
  deepEqual([new TextDecoder().decode(bytes), more], ["abcd", false]);
});

test("a longer one is cut at the limit, and the rest is not asked for", async () => {
  const { body, state } = stream(["abc", "de", "never read"]);
  const { bytes, more } = await firstBytes(body, 4);
  deepEqual([new TextDecoder().decode(bytes), more], ["abcd", true]);
  equal(state.cancelled, true);
});

test("an answer without a body is empty", async () => {
  deepEqual(await firstBytes(null, 4), { bytes: new Uint8Array(), more: false });
});

test("the pieces of a stream that cannot be iterated; one that is left is cancelled, one that fails fails", async () => {
  const safari = ({ body }: { body: ReadableStream<Uint8Array> }) =>
    ({ getReader: () => body.getReader() }) as Parameters<typeof piecesOf>[0];
  const whole = stream(["ab", "c"]);
  const found: string[] = [];
  for await (const piece of piecesOf(safari(whole))) found.push(new TextDecoder().decode(piece));
  deepEqual([found, whole.state.cancelled], [["ab", "c"], false]);
  const left = stream(["ab", "c"]);
  equal((await firstBytes(piecesOf(safari(left)), 1)).more, true);
  equal(left.state.cancelled, true);
  const failing = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.error(new Error("cut")),
  });
  await rejects(firstBytes(piecesOf(safari({ body: failing })), 1), /cut/);
  deepEqual(await firstBytes(piecesOf(null), 1), { bytes: new Uint8Array(), more: false });
});
