import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { sampleCpu, seededAt, seedSources } from "./entropy.ts";

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

const line = "random.trust_cpu=on random.trust_bootloader=off";
const firmwareSeed = "5,90,0,-;efi: seeding entropy pool\n";
const fork = "5,900,9,-;random: crng reseeded due to virtual machine fork\n";
const credited = (...args: Parameters<typeof seedSources>) =>
  seedSources(...args).map(({ name, credited }) => `${name} ${credited}`);

test("the sources of the generator's state, and what counted", () => {
  deepEqual(credited([firmwareSeed, seeded], line, true, "none"), ["processor true", "firmware false"]);
  deepEqual(credited([seeded], "random.trust_cpu=off", true, "none"), ["processor false"]);
  deepEqual(credited([seeded, fork], line, false, "virtio_rng.0"), [
    "hardware generator true",
    "machine fork true",
  ]);
});

test("without a token the kernel credits, and of several the last decides", () => {
  deepEqual(credited([firmwareSeed], "", true, "none"), ["processor true", "firmware true"]);
  deepEqual(credited([firmwareSeed], `${line} random.trust_bootloader=on`, false, "none"), ["firmware true"]);
});
