// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { test } from "node:test";
import { decodeConsole } from "@caisson/protocol/console";
import { Console } from "./console.ts";

/** A port that takes `room` bytes and then nothing until somebody reads. */
function port(room: number) {
  const state = { room, text: "" };
  return {
    state,
    take: (bytes: Uint8Array): number => {
      const taken = Math.min(state.room, bytes.length);
      state.room -= taken;
      state.text += Buffer.from(bytes.subarray(0, taken)).toString();
      return taken;
    },
    events: () =>
      state.text
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => decodeConsole(line)),
  };
}

test("lines go out at once and in order while the port takes them", () => {
  const { take, events } = port(1e6);
  const console = new Console(take);
  console.say({ kind: "note", text: "one" });
  console.say({ kind: "stopping", reason: "two" });
  deepEqual(
    events().map((event) => event?.kind),
    ["note", "stopping"],
  );
});

test("a port that takes a few bytes at a time gets whole lines, in order", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { state, take, events } = port(7);
  const console = new Console(take);
  const texts = Array.from({ length: 20 }, (_, i) => `line ${i}`);
  for (const text of texts) console.say({ kind: "note", text });
  for (let i = 0; i < 1000; i++) {
    state.room = 7;
    t.mock.timers.tick(20);
  }
  deepEqual(
    events().map((event) => event?.kind === "note" && event.text),
    texts,
  );
});

test("a port that is not read costs bounded memory; what was dropped is counted, and said when it is read", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { state, take, events } = port(100);
  const console = new Console(take);
  const text = "x".repeat(1000);
  for (let i = 0; i < 1000; i++) console.say({ kind: "note", text });
  t.mock.timers.tick(1000);
  equal(state.text.length, 100);
  state.room = 1e9;
  t.mock.timers.tick(20);
  const said = events();
  const last = said.at(-1);
  const dropped = Number(/: (\d+) lines were dropped$/.exec(last?.kind === "note" ? last.text : "")?.[1]);
  equal(said.length - 1 + dropped, 1000);
  ok(state.text.length < 300_000, `${state.text.length} bytes waited`);
});

test("the application's lines leave room for what PID 1 says", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { state, take, events } = port(0);
  const console = new Console(take);
  for (let i = 0; i < 1000; i++) console.say({ kind: "app", line: "y".repeat(1000) });
  console.say({ kind: "stopping", reason: "last words" });
  state.room = 1e9;
  t.mock.timers.tick(20);
  const kinds = events().map((event) => event?.kind);
  equal(kinds.at(-2), "stopping");
  ok(kinds.filter((kind) => kind === "app").length < 100);
});

test("a port that fails is one that takes nothing", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let broken = true;
  const { take, state } = port(1e6);
  const console = new Console((bytes) => {
    if (broken) throw Object.assign(new Error("EIO"), { code: "EIO" });
    return take(bytes);
  });
  console.say({ kind: "note", text: "kept" });
  broken = false;
  t.mock.timers.tick(20);
  match(state.text, /kept/);
});

test("the end waits for the last words, and not for ever", async () => {
  const { state, take } = port(0);
  const console = new Console(take);
  console.say({ kind: "stopping", reason: "why" });
  const before = performance.now();
  await console.drained(100);
  ok(performance.now() - before >= 99);
  state.room = 1e6;
  await console.drained(60_000);
  match(state.text, /why/);
});
