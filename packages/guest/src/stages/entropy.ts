// SPDX-License-Identifier: Apache-2.0
/**
 * Randomness that the host cannot see or steer: RDRAND and RDSEED are there and not stuck, the kernel's generator was
 * seeded from the CPU before PID 1 started, no hardware generator of the host is in use, and a blocking read works.
 * The kernel credits RDRAND because the measured command line says so (`random.trust_cpu=on`) and credits nothing
 * that the firmware hands over (`random.trust_bootloader=off`).
 */
import { closeSync, existsSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { kernelLog, textOf } from "../kernel-log.ts";
import { type Stage, StageFailure } from "../stage.ts";
import type { Syscalls } from "../syscalls.ts";

const samples = 8;

/** Throws unless `instruction` gives `samples` values that are neither constant nor all zeros or ones. */
export function sampleCpu(
  syscalls: Pick<Syscalls, "cpuRandom">,
  instruction: "rdrand" | "rdseed",
): BigUint64Array {
  const values = new BigUint64Array(samples);
  for (let i = 0; i < samples; i++) {
    const value = syscalls.cpuRandom(instruction);
    if (value === undefined) {
      throw new StageFailure(
        `entropy/no-${instruction}`,
        `${instruction} is missing or gives nothing: no entropy without it`,
      );
    }
    values[i] = value;
  }
  const stuck = values.some((value) => value === 0n || value === 2n ** 64n - 1n);
  if (stuck || new Set(values).size !== samples) {
    throw new StageFailure(`entropy/stuck-${instruction}`, `${instruction} repeats itself`);
  }
  return values;
}

/**
 * When the kernel's generator was seeded, in seconds since start; undefined unless its log says so before PID 1.
 */
export function seededAt(records: readonly string[]): number | undefined {
  const first = (start: string) => records.findIndex((record) => textOf(record).startsWith(start));
  const seeded = first("random: crng init done");
  if (seeded < 0 || seeded > first("Run /")) return undefined;
  return Number(records[seeded]!.split(",")[2]) / 1e6;
}

/** Where the kernel's generator got its state from, and whether that counted towards "seeded". */
export interface SeedSource {
  name: "processor" | "firmware" | "hardware generator" | "machine fork";
  credited: boolean;
}

/**
 * The sources that the kernel's log, its command line and sysfs tell of (Linux drivers/char/random.c). The kernel
 * credits processor and firmware unless `random.trust_…=off` says otherwise; the last of several tokens decides.
 */
export function seedSources(
  records: readonly string[],
  commandLine: string,
  processor: boolean,
  generator: string,
): SeedSource[] {
  const trusted = (name: string) =>
    /^(on|1|y|t)/i.test(
      commandLine
        .split(/\s+/)
        .findLast((token) => token.startsWith(`${name}=`))
        ?.slice(name.length + 1) ?? "on",
    );
  const logged = (start: string) => records.some((record) => textOf(record).startsWith(start));
  const sources: (SeedSource | false)[] = [
    processor && { name: "processor", credited: trusted("random.trust_cpu") },
    logged("efi: seeding entropy pool") && { name: "firmware", credited: trusted("random.trust_bootloader") },
    // Its quality may be zero, but nothing here may depend on that: a guest has none.
    generator !== "none" && { name: "hardware generator", credited: true },
    logged("random: crng reseeded due to virtual machine fork") && { name: "machine fork", credited: true },
  ];
  return sources.filter((source) => source !== false);
}

/** `root`: where the kernel's file systems lie, "/" but in a test. */
export function entropyStage(root: string): Stage {
  return {
    name: "entropy",
    limitMs: 60_000,
    async run({ syscalls, config, log }) {
      const random = sampleCpu(syscalls, "rdrand");
      // QEMU's software emulation got RDSEED late, so a development image does without; a TD always has it.
      const hasSeed = config.flavour === "production" || syscalls.cpuRandom("rdseed") !== undefined;
      const seed = hasSeed ? sampleCpu(syscalls, "rdseed") : random;
      const generator = join(root, "sys/class/misc/hw_random/rng_current");
      const current = existsSync(generator) ? readFileSync(generator, "utf8").trim() : "none";
      if (current !== "none") {
        throw new StageFailure(
          "entropy/host-generator",
          `the kernel draws from '${current}', which belongs to the host`,
        );
      }
      const at = seededAt(kernelLog(root));
      if (at === undefined) {
        throw new StageFailure("entropy/unseeded", "the kernel's generator was not seeded before PID 1");
      }
      // Mixed in, not credited; then one read that would block if the generator were not ready.
      writeFileSync(join(root, "dev/urandom"), new Uint8Array(seed.buffer));
      const file = openSync(join(root, "dev/random"), "r");
      try {
        const block = Buffer.alloc(64);
        if (readSync(file, block) !== block.length)
          throw new StageFailure("entropy/short-read", "/dev/random gave too little");
        // For the record of bench/entropy.ts. Nothing is made of these bytes, and no key exists yet.
        if (config.flavour === "development")
          log(`entropy: first bytes, thrown away: ${block.toString("base64")}`);
      } finally {
        closeSync(file);
      }
      return `RDRAND ${hasSeed ? "and RDSEED" : "(no RDSEED)"}, seeded at ${at.toFixed(2)} s, no host generator`;
    },
  };
}
