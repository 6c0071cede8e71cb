// SPDX-License-Identifier: Apache-2.0
/** The host's clocks and time servers: without agreement of several operators there are no keys. */
import { equal, match, ok } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { attack } from "../support/hostile.ts";
import { shape, variant } from "../support/image.ts";

const operators = ["alpha", "beta", "gamma", "delta", "epsilon"];
const hour = 3_600_000;

const clocks: Record<string, string> = {
  "1970": "1970-01-01T00:00:00",
  "2001": "2001-09-09",
  "2099": "2099-01-01",
};
for (const [year, base] of Object.entries(clocks)) {
  test(`the RTC says ${year}: the time is right all the same`, async () => {
    const ending = await attack({
      machine: (options) => ({ ...options, extraArguments: ["-rtc", `base=${base}`] }),
    });
    equal(ending.reason, "ready", ending.message);
    const agreed = /agree on (\S+Z)/.exec(ending.console)?.[1];
    ok(
      agreed !== undefined && Math.abs(Date.parse(agreed) - Date.now()) < 10 * 60_000,
      `agreed on ${agreed}`,
    );
  });
}

test("one liar of five is named and outvoted", async () => {
  const timeServers = operators.map((operator, i) => ({ operator, offsetMs: i === 2 ? hour : 0 }));
  const ending = await attack({ timeServers });
  equal(ending.reason, "ready", ending.message);
  match(ending.console, /gamma[^\n]*falseticker/);
});

test("no majority: three different times, no keys", async () => {
  const timeServers = operators.map((operator, i) => ({ operator, offsetMs: (i % 3) * hour }));
  const ending = await attack({ timeServers });
  match(ending.reason, /^time\//, ending.message);
  equal(ending.keyInMemory, false);
  ok(!ending.measured.includes("boot-mr-done"));
});

test("servers that are silent: each is named with its reason, and there are no keys", async () => {
  const ending = await attack({
    instance: (instance) => {
      const { sources } = instance.time as { sources: Record<string, unknown>[] };
      return { ...instance, time: { sources: sources.map((source) => ({ ...source, kePort: 1 })) } };
    },
  });
  match(ending.reason, /^time\//, ending.message);
  for (const operator of operators) match(ending.console, new RegExp(`${operator}[^\n]*`));
  equal(ending.keyInMemory, false);
});

test("an image that does not ask for the time, under a policy that demands it", async () => {
  const place = mkdtempSync(join(tmpdir(), "caisson-no-time-"));
  try {
    const built = await variant(place, "\ntime:\n  secure_time: false\n");
    const policy = (given: object): object => ({ ...given, secureTime: { origins: ["instance"] } });
    const ending = await attack({ policy }, shape, built);
    equal(ending.reason, "keys/denied/time/method", ending.message);
    equal(ending.keyInMemory, false);
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
});
