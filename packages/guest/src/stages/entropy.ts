/**
 * Randomness that the host cannot see or steer: RDRAND and RDSEED are there and not stuck, the kernel's generator was
 * seeded from the CPU before PID 1 started, no hardware generator of the host is in use, and a blocking read works.
 * The kernel credits RDRAND because the measured command line says so (`random.trust_cpu=on`) and credits nothing
 * that the firmware hands over (`random.trust_bootloader=off`).
 */
import { closeSync, constants, existsSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
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

/** The kernel's log so far, one record a line: reading `/dev/kmsg` without blocking ends with EAGAIN. */
function kernelLog(): string[] {
  const records: string[] = [];
  const file = openSync("/dev/kmsg", constants.O_RDONLY | constants.O_NONBLOCK);
  const buffer = Buffer.alloc(8192);
  try {
    for (;;) records.push(buffer.toString("utf8", 0, readSync(file, buffer)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
  } finally {
    closeSync(file);
  }
  return records;
}

/**
 * When the kernel's generator was seeded, in seconds since start; undefined unless its log says so before PID 1.
 * A record is `priority,sequence,microseconds,flags;text` (Documentation/ABI/testing/dev-kmsg).
 */
export function seededAt(records: readonly string[]): number | undefined {
  const text = (start: string) =>
    records.findIndex((line) => line.slice(line.indexOf(";") + 1).startsWith(start));
  const seeded = text("random: crng init done");
  if (seeded < 0 || seeded > text("Run /")) return undefined;
  return Number(records[seeded]!.split(",")[2]) / 1e6;
}

export const entropy: Stage = {
  name: "entropy",
  async run({ syscalls, config, log }) {
    const random = sampleCpu(syscalls, "rdrand");
    // QEMU's software emulation got RDSEED late, so a development image does without; a TD always has it.
    const hasSeed = config.flavour === "production" || syscalls.cpuRandom("rdseed") !== undefined;
    const seed = hasSeed ? sampleCpu(syscalls, "rdseed") : random;
    const generator = "/sys/class/misc/hw_random/rng_current";
    const current = existsSync(generator) ? readFileSync(generator, "utf8").trim() : "none";
    if (current !== "none") {
      throw new StageFailure(
        "entropy/host-generator",
        `the kernel draws from '${current}', which belongs to the host`,
      );
    }
    const at = seededAt(kernelLog());
    if (at === undefined) {
      throw new StageFailure("entropy/unseeded", "the kernel's generator was not seeded before PID 1");
    }
    // Mixed in, not credited; then one read that would block if the generator were not ready.
    writeFileSync("/dev/urandom", new Uint8Array(seed.buffer));
    const file = openSync("/dev/random", "r");
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
