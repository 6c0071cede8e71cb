import { equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { sampleCpu, seededAt } from "./entropy.ts";

const source = (...values: (bigint | undefined)[]) => ({ cpuRandom: () => values.shift() });
const alive = [3n, 1n, 4n, 15n, 9n, 2n, 6n, 5n];

test("eight different values are accepted", () => {
  equal(sampleCpu(source(...alive), "rdrand").length, 8);
});

const bad: Record<string, [(bigint | undefined)[], string]> = {
  "no instruction": [[undefined], "entropy/no-rdseed"],
  "an instruction that runs dry": [[1n, 2n, undefined], "entropy/no-rdseed"],
  "always the same value": [Array(8).fill(7n), "entropy/stuck-rdseed"],
  "one repeated value": [alive.with(5, 15n), "entropy/stuck-rdseed"],
  zeros: [alive.with(2, 0n), "entropy/stuck-rdseed"],
  ones: [alive.with(2, 2n ** 64n - 1n), "entropy/stuck-rdseed"],
};
for (const [name, [values, reason]] of Object.entries(bad)) {
  test(`refused: ${name}`, () => {
    throws(() => sampleCpu(source(...values), "rdseed"), { reason });
  });
}

const seeded = "5,120,1500,-;random: crng init done\n";
const init = "6,400,2100000,-;Run /usr/bin/node as init process\n";

test("the time of seeding is read from the kernel's log", () => {
  equal(seededAt(["6,1,0,-;Linux version 7.3\n", seeded, init]), 0.0015);
});

test("seeding after PID 1 started, or never, does not count", () => {
  equal(seededAt([init, seeded]), undefined);
  equal(seededAt([init]), undefined);
  equal(seededAt(["6,9,1,-;init says random: crng init done\n", init]), undefined);
});
