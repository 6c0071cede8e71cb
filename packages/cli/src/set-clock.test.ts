// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, throws } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { dateArgument, setClock } from "./set-clock.ts";

test("the middle of the interval, and what has passed since", () => {
  const set: number[] = [];
  const returned = setClock(
    { earliest: 1_800_000_000_000, latest: 1_800_000_000_030, at: 500 },
    () => 712.25,
    (time) => set.push(time),
  );
  deepEqual([set, returned], [[1_800_000_000_227.25], 1_800_000_000_227.25]);
});

test("what the setter throws is not swallowed", () => {
  const refuse = () => {
    throw new Error("no");
  };
  throws(() => setClock({ earliest: 0, latest: 0, at: 0 }, () => 0, refuse), /^Error: no$/);
});

test("date(1) understands the argument as the same microsecond", () => {
  for (const time of [1_800_000_000_227.25, 0, 999.999, 4_102_444_800_000.5]) {
    const argument = dateArgument(time);
    match(argument, /^@\d+\.\d{6}$/);
    const read = execFileSync("date", ["--utc", `--date=${argument}`, "+%s.%6N"], { encoding: "utf8" });
    equal(read.trim(), argument.slice(1));
  }
});
