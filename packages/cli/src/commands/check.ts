/** `caisson check`: types, lint and format, as CI runs them. */
import { spawnSync } from "node:child_process";
import { Command } from "commander";

const repository = new URL("../../../../", import.meta.url).pathname;
const steps = [["tsc", "--noEmit"], ["oxlint"], ["biome", "check", "."]];

export const command = new Command("caisson check").action(() => {
  for (const [tool, ...args] of steps) {
    const run = spawnSync(`${repository}node_modules/.bin/${tool}`, args, {
      cwd: repository,
      stdio: "inherit",
    });
    if (run.status !== 0) process.exitCode = 1;
  }
});
