// SPDX-License-Identifier: Apache-2.0
/** The lists keep up with the product: a line that has changed is a sabotage that nobody makes any more. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { globSync } from "node:fs";
import { test } from "node:test";
import { sabotages } from "./list.ts";
import { obstacle, tierOf } from "./sabotage.ts";

const repository = new URL("../../", import.meta.url).pathname;

test("every listed line is in its file exactly once, and its test is there", () => {
  const gone = sabotages.map((sabotage) => obstacle(repository, sabotage));
  deepEqual(
    gone.filter((reason) => reason !== undefined),
    [],
    "mend test/sabotage/list/: name the line as it is now, or another that does the same",
  );
});

test("every package, the kernel's configuration and the driver have some, each once", () => {
  const packages = globSync("packages/*", { cwd: repository });
  for (const place of [...packages, "kernel/driver", "kernel/containers.config", "kernel/guest.config"])
    ok(
      sabotages.some(({ file }) => file.startsWith(place)),
      place,
    );
  const keys = sabotages.map(({ file, line }) => `${file}\n${line}`);
  equal(new Set(keys).size, keys.length);
});

test("tests that take a machine are asked only where no other can notice", () => {
  const machines = sabotages.filter(({ test: path }) => ["e2e", "attacks"].includes(tierOf(path)));
  deepEqual(
    machines.map(({ what }) => what),
    ["pids.max is not written", "memory.max is not written"],
  );
});

test("what cannot be a sabotage is told as that", () => {
  const one = {
    ...sabotages[0]!,
    file: "packages/guest/src/init.ts",
    test: "packages/guest/src/init.test.ts",
  };
  const why = (change: object) =>
    obstacle(repository, { ...one, line: "syscalls.forbidNewCode();", ...change });
  equal(why({}), undefined);
  ok(why({ line: "nothing of this kind" })?.endsWith("is there no more"));
  ok(why({ line: "syscalls" })?.includes("times"));
  ok(why({ line: "a\nb" })?.includes("within one line"));
  ok(why({ instead: "syscalls.forbidNewCode();" })?.includes("nothing changes"));
  ok(why({ test: "packages/guest/src/nothing.test.ts" })?.includes("ENOENT"));
});
