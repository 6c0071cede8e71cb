// SPDX-License-Identifier: Apache-2.0

import { deepEqual, equal, match, rejects, throws } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { Flavour } from "@caisson/vocabulary/flavours";
import type { Context } from "../stage.ts";
import { type Files, guestTree } from "../testing/tree.ts";
import { entropyStage, sampleCpu, seededAt, seedSources } from "./entropy.ts";

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

interface Given {
  changes?: Files;
  flavour?: Flavour;
  rdseed?: boolean;
}

/** Runs the stage on a tree; each value of the processor is another. */
async function run(t: TestContext, { changes = {}, flavour = "production", rdseed = true }: Given) {
  const root = guestTree(t, changes);
  let value = 100n;
  const log: string[] = [];
  const context = {
    config: { flavour },
    log: (text: string) => log.push(text),
    syscalls: { cpuRandom: (name: string) => (name === "rdrand" || rdseed ? ++value : undefined) },
  } as unknown as Context;
  return { root, log, note: await entropyStage(root).run(context) };
}

test("a machine in good order: RDSEED's values are mixed in, and nothing of the generator is told", async (t) => {
  const { root, log, note } = await run(t, {});
  // Eight values of RDRAND came first.
  const mixed = new BigUint64Array(new Uint8Array(readFileSync(join(root, "dev/urandom"))).buffer);
  deepEqual([...mixed], [109n, 110n, 111n, 112n, 113n, 114n, 115n, 116n]);
  match(note!, /^RDRAND and RDSEED, seeded at 0\.00 s, no host generator$/);
  deepEqual(log, []);
});

const generator = "sys/class/misc/hw_random/rng_current";
const refusedMachines: Record<string, [given: Given, reason: string]> = {
  "a generator of the host": [{ changes: { [generator]: "virtio_rng.0\n" } }, "entropy/host-generator"],
  "a TPM as the generator": [{ changes: { [generator]: "tpm-rng-0\n" } }, "entropy/host-generator"],
  "a kernel that was not seeded": [{ changes: { "dev/kmsg": init } }, "entropy/unseeded"],
  "a kernel that was seeded after PID 1": [{ changes: { "dev/kmsg": init + seeded } }, "entropy/unseeded"],
  "no RDSEED, in production": [{ rdseed: false }, "entropy/no-rdseed"],
  "too few random bytes": [{ changes: { "dev/random": new Uint8Array(63) } }, "entropy/short-read"],
};
for (const [name, [given, reason]] of Object.entries(refusedMachines)) {
  test(`refused: a machine with ${name}`, async (t) => {
    await rejects(run(t, given), { reason });
  });
}

test("no generator in use is not a generator of the host's", async (t) => {
  match((await run(t, { changes: { [generator]: "none\n" } })).note!, /no host generator/);
});

test("a development image does without RDSEED, and shows bytes of which nothing is made", async (t) => {
  const { note, log } = await run(t, { flavour: "development", rdseed: false });
  match(note!, /no RDSEED/);
  match(log.join(), /first bytes, thrown away/);
});
