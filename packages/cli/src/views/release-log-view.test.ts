// SPDX-License-Identifier: Apache-2.0
import { equal, ok } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { renderEntry, type ShownEntry } from "./release-log-view.ts";

const [app, instance, hash] = ["ab".repeat(32), "cd".repeat(20), "ef".repeat(32)];
const time = "2026-11-27T06:00:00.000Z";
const entry = (changes: Partial<ShownEntry>): ShownEntry => ({
  sequence: 1,
  time,
  outcome: "released",
  app,
  instance,
  reason: "a reference",
  registers: "",
  policy: "",
  ...changes,
});

test("an entry is one line, where nobody says how wide that may be", () => {
  equal(
    renderEntry(entry({})),
    `2026-11-27T06:00:00.000Z  released  app ${app}  instance ${instance}  a reference`,
  );
});

test("at 80 columns ids stand below, whole, and so does a reason that is long", () => {
  equal(
    renderEntry(entry({ outcome: "denied", reason: "registers/rtmr1" }), 80),
    [`${time}  denied    registers/rtmr1`, `  app       ${app}`, `  instance  ${instance}`].join("\n"),
  );
  equal(
    renderEntry(entry({ reason: `release 12 ${hash}, secrets 3 ${hash}: token` }), 80),
    [
      `${time}  released`,
      `  app       ${app}`,
      `  instance  ${instance}`,
      "  reason    release 12",
      `            ${hash},`,
      "            secrets 3",
      `            ${hash}:`,
      "            token",
    ].join("\n"),
  );
  equal(
    renderEntry(entry({ outcome: "changed", app: "", instance: "", reason: "policy/set" }), 80),
    `${time}  changed   policy/set`,
  );
});

test("no line is wider, whatever the reason", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 1000 }), fc.integer({ min: 80, max: 200 }), (reason, columns) => {
      for (const line of renderEntry(entry({ reason }), columns).split("\n"))
        ok(line.length <= columns, line);
    }),
  );
});
