// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type ConsoleEvent, consoleDecoder, decodeConsole, encodeConsole } from "./console.ts";

const event: ConsoleEvent = {
  at: 2.5,
  kind: "stage",
  stage: "time",
  state: "done",
  seconds: 0.4,
  note: "5 sources",
};

test("an event survives, also behind the terminal codes that firmware leaves on the line", () => {
  deepEqual(decodeConsole(encodeConsole(event).trimEnd()), event);
  deepEqual(decodeConsole(`\u001b[2J\u001b[01;01H${encodeConsole(event).trimEnd()}`), event);
});

test("an event is one line, whatever its text holds", () => {
  const text = "two\nlines\r\nand\u2028three\u2029more";
  const line = encodeConsole({ at: 0, kind: "note", text });
  equal(/[\n\r\u2028\u2029]/.exec(line)?.index, line.length - 1);
  deepEqual(decodeConsole(line.trimEnd()), { at: 0, kind: "note", text });
});

test("any other line is not an event, and none throws", () => {
  fc.assert(fc.property(fc.string(), (line) => equal(decodeConsole(line), undefined)));
  for (const line of ["caisson ", "caisson {}", 'caisson {"kind":1,"at":0}', "caisson [1]", "caisson null"]) {
    equal(decodeConsole(line), undefined);
  }
});

/** What a serial port carried, as lines. */
const decoded = (text: string): ConsoleEvent[] => {
  const decode = consoleDecoder();
  return text.split("\n").flatMap((line) => decode(line.replace(/\r$/, "")) ?? []);
};
/** As a machine's log has it, seen. */
const kernelSays =
  "[   14.398793] Memory cgroup out of memory: Killed process 47 (node-MainThread) total-vm:1507424kB\r\n";

test("messages that the kernel writes into a line lose no event, wherever they stand", () => {
  const stamped: ConsoleEvent = {
    at: 3,
    kind: "app",
    line: "[    1.000000] a line that looks like the kernel's",
  };
  const events = [event, stamped, { ...event, at: 4 }];
  const text = events.map(encodeConsole).join("").replaceAll("\n", "\r\n");
  deepEqual(decoded(text), events);
  for (let at = 0; at <= text.length; at++)
    deepEqual(decoded(`${text.slice(0, at)}${kernelSays.repeat(2)}${text.slice(at)}`), events, `at ${at}`);
  const place = fc.nat(text.length);
  fc.assert(
    fc.property(place, place, (one, other) => {
      const [a, b] = [Math.min(one, other), Math.max(one, other)];
      const cut = `${text.slice(0, a)}${kernelSays}${text.slice(a, b)}${kernelSays}${text.slice(b)}`;
      deepEqual(decoded(cut), events);
    }),
  );
});

test("a line whose rest never comes does not take the next one with it", () => {
  const whole = encodeConsole(event);
  deepEqual(decoded(`${whole.slice(0, 30)}${kernelSays}${whole}`), [event]);
  deepEqual(decoded(`${whole.slice(0, 30)}${kernelSays}rest of something else\n${whole}`), [event]);
});

test("lines that are cut at random never throw, and what is kept of them is bounded", () => {
  const decode = consoleDecoder();
  const piece = fc.oneof(
    fc.string(),
    fc.constantFrom("caisson {", '{"at":1}', kernelSays.trim(), "[    1.000000] ".repeat(3000)),
  );
  fc.assert(fc.property(fc.array(piece), (pieces) => void decode(pieces.join(""))));
});
