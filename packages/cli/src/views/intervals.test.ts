// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { drawIntervals } from "./intervals.ts";

const scale = { from: -10, to: 10, unit: "ms", caption: "zero", columns: 28 };

test("ends, points, and arrows for what is out of view", () => {
  deepEqual(
    drawIntervals(
      [
        { label: "all", from: -10, to: 10 },
        { label: "half", from: 0.5, to: 10 },
        { label: "point", from: 0.5, to: 0.5 },
        { label: "late", from: 99, to: 100 },
        { label: "early", from: -100, to: -99 },
        { label: "wide", from: -100, to: 100 },
      ],
      scale,
    ),
    [
      "       -10 ms  zero   +10 ms",
      "all    ├───────────────────┤",
      "half              ├────────┤",
      "point             ┼",
      "late                       ▶",
      "early  ◀",
      "wide   ─────────────────────",
    ],
  );
});

test("every line fits, from the narrowest terminal that has room for a picture", () => {
  for (const [columns, room] of [
    [35, false],
    [80, true],
    [120, true],
  ] as const) {
    const lines = drawIntervals([{ label: "time.example.org", from: -3, to: 3.3 }], { ...scale, columns });
    ok(lines.every((line) => line.length <= columns));
    equal(lines[0]!.length, columns);
    equal(lines[0]!.includes("zero"), room);
  }
});

test("one instant in view does not divide by zero", () => {
  const [, line] = drawIntervals([{ label: "a", from: 0, to: 0 }], { ...scale, from: 0, to: 0 });
  equal(line, "a  ┼");
});
