/** `caisson test [TIER] [FILTER]`: node's test runner over one tier or all, in the order in which they cost time. */
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { Command } from "commander";
import { UsageError } from "../failure.ts";

const repository = new URL("../../../../", import.meta.url).pathname;

/** Where each tier lives, and how many of its files may run at once (VMs share two cores). */
const tiers: Record<string, { files: string; concurrency: number; timeoutMs: number }> = {
  unit: { files: "packages/*/{src,test}/**/*.test.ts", concurrency: 2, timeoutMs: 120_000 },
  integration: { files: "test/integration/**/*.test.ts", concurrency: 2, timeoutMs: 1_800_000 },
  e2e: { files: "test/e2e/**/*.test.ts", concurrency: 1, timeoutMs: 1_200_000 },
  attacks: { files: "test/attacks/**/*.test.ts", concurrency: 2, timeoutMs: 1_200_000 },
};

export const command = new Command("caisson test")
  .argument("[tier]", `one of ${Object.keys(tiers).join(", ")}; all when left out`)
  .argument("[filter]", "only files whose path contains this")
  .action((tier: string | undefined, filter: string | undefined) => {
    if (tier !== undefined && !Object.hasOwn(tiers, tier)) {
      throw new UsageError(`there is no test tier '${tier}'`, `one of ${Object.keys(tiers).join(", ")}`);
    }
    let failed = false;
    for (const name of tier === undefined ? Object.keys(tiers) : [tier]) {
      const { files, concurrency, timeoutMs } = tiers[name]!;
      const chosen = globSync(files, {
        cwd: repository,
        exclude: (path) => String(path).includes("node_modules"),
      })
        .filter((path) => filter === undefined || path.includes(filter))
        .sort();
      if (chosen.length === 0) continue;
      process.stdout.write(`\n== ${name}: ${chosen.length} files ==\n`);
      const flags = ["--test", "--test-reporter=spec", `--test-concurrency=${concurrency}`];
      const limit = `--test-timeout=${timeoutMs}`;
      const run = spawnSync(process.execPath, [...process.execArgv, ...flags, limit, ...chosen], {
        cwd: repository,
        stdio: ["ignore", "inherit", "inherit"],
      });
      failed ||= run.status !== 0;
    }
    if (failed) process.exitCode = 1;
  });
