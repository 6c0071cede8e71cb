// SPDX-License-Identifier: Apache-2.0
/** `caisson test [TIER] [FILTER]`: one tier or all, in the order in which they cost time. */
import { spawnSync } from "node:child_process";
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { readSpec } from "@caisson/image/spec";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { absentVectors } from "../skips.ts";
import { Progress } from "../views/progress.ts";

const repository = new URL("../../../../", import.meta.url).pathname;
const reporter = new URL("../skips.ts", import.meta.url).href;

/** Types, lint and format. */
const checks = [["tsc", "--noEmit"], ["oxlint"], ["biome", "check", "."]];

/** Where each tier lives, how many of its files run at once (VMs share two cores), and a limit for each file. */
const tiers: Record<string, { files: string; concurrency: number; minutes: number }> = {
  unit: { files: "{packages/*/src,test/sabotage}/**/*.test.ts", concurrency: 2, minutes: 5 },
  integration: { files: "test/{integration,walk}/**/*.test.ts", concurrency: 2, minutes: 45 },
  e2e: { files: "test/e2e/**/*.test.ts", concurrency: 1, minutes: 45 },
  attacks: { files: "test/attacks/**/*.test.ts", concurrency: 2, minutes: 45 },
  nightly: { files: "test/nightly/**/*.test.ts", concurrency: 1, minutes: 240 },
};
const names = ["check", ...Object.keys(tiers)];
/** What takes hours, or needs Go, Rust and Python, is for the night. */
const daily = names.filter((name) => name !== "nightly");

function runChecks(): boolean {
  return checks
    .map(([tool, ...args]) => {
      const run = spawnSync(`${repository}node_modules/.bin/${tool}`, args, {
        cwd: repository,
        stdio: "inherit",
      });
      return run.status === 0;
    })
    .every(Boolean);
}

/** Whether every test ran; those that did not are named. */
function allRan(report: string): boolean {
  const lines = readFileSync(report, "utf8").split("\n").slice(0, -1);
  const excused = (reason: string) =>
    reason === absentVectors && !existsSync(join(repository, "../shared/vectors"));
  const skipped = lines.map((line) => line.split("\t")).filter(([, , reason]) => !excused(reason!));
  if (skipped.length === 0) return true;
  process.stdout.write(`\n${skipped.length} tests were skipped, which counts as failed:\n`);
  for (const [file, name, reason] of skipped) {
    process.stdout.write(`  ${relative(repository, file!)}: ${name}   # ${reason}\n`);
  }
  return false;
}

/** Tiers that boot both flavours: their kernels share most objects, and are compiled in one go where none is cached. */
const bootingTiers = ["integration", "e2e", "attacks", "nightly"];

async function compileKernels(): Promise<void> {
  const { prepare } = await import("../prepare.ts");
  const spec = await readSpec(join(repository, "examples/hello"));
  await prepare(spec, "development", { kernels: ["production"] }, new Progress());
}

function runTier(name: string, filter: string | undefined): boolean {
  const { files, concurrency, minutes } = tiers[name]!;
  const chosen = globSync(files, { cwd: repository })
    .filter((path) => filter === undefined || path.includes(filter))
    .sort();
  if (chosen.length === 0) return true;
  process.stdout.write(`\n== ${name}: ${chosen.length} files ==\n`);
  const scratch = mkdtempSync(join(tmpdir(), "caisson-skips-"));
  const report = join(scratch, "skips");
  const flags = [
    "--test",
    "--test-reporter=spec",
    "--test-reporter-destination=stdout",
    `--test-reporter=${reporter}`,
    `--test-reporter-destination=${report}`,
    `--test-concurrency=${concurrency}`,
    `--test-timeout=${minutes * 60_000}`,
  ];
  try {
    const run = spawnSync(process.execPath, [...process.execArgv, ...flags, ...chosen], {
      cwd: repository,
      stdio: ["ignore", "inherit", "inherit"],
    });
    return allRan(report) && run.status === 0;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

export const command = new Command("caisson test")
  .description(
    "Runs the tests, all of them or one tier: check (types, lint, format), unit, integration, e2e (VMs), attacks (a hostile host); nightly (long searches, heavy applications, SDKs of other languages) only when it is named.",
  )
  .argument("[tier]", `one of ${names.join(", ")}; all but nightly when left out`)
  .argument("[filter]", "only files whose path contains this")
  .action(async (tier: string | undefined, filter: string | undefined) => {
    if (tier !== undefined && !names.includes(tier)) {
      throw new UsageError(`there is no test tier '${tier}'`, `one of ${names.join(", ")}`);
    }
    let compiled = filter !== undefined;
    for (const name of tier === undefined ? daily : [tier]) {
      if (!compiled && bootingTiers.includes(name)) {
        await compileKernels();
        compiled = true;
      }
      if (!(name === "check" ? runChecks() : runTier(name, filter))) process.exitCode = 1;
    }
  });
