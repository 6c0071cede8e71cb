// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type ConsoleEvent, decodeConsole, encodeConsole } from "./console.ts";

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
