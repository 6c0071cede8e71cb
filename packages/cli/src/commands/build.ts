/** `caisson build SPEC`: the image of a spec, from what its lock names. */
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import {
  build,
  cacheDirectory,
  type Flavour,
  findMirrors,
  imageDirectory,
  lockPath,
  readLock,
  readSpec,
} from "@caisson/image";
import { Command, InvalidArgumentError, Option } from "commander";
import { UsageError } from "../failure.ts";
import { showBuild } from "../prepare.ts";
import { Progress } from "../progress.ts";

function parseJobs(text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new InvalidArgumentError("a number from 1 to 9999");
  return Number(text);
}

export const command = new Command("caisson build")
  .argument("<spec>", "a caisson.yaml, or the directory that has one")
  .addOption(
    new Option("--flavour <name>", "which image")
      .choices(["production", "development"])
      .default("production"),
  )
  .option("--out <dir>", "the image directory (default: out/<name>-<flavour> beside the spec)")
  .option("--jobs <n>", "compilers at a time", parseJobs, availableParallelism())
  .option("--mirror <uri>", "the Debian mirror (default: CAISSON_MIRROR, or the machine's apt configuration)")
  .option("--json", "print the manifest as one JSON document")
  .action(
    async (
      path: string,
      options: { flavour: Flavour; out?: string; jobs: number; mirror?: string; json?: boolean },
    ) => {
      const spec = await readSpec(path);
      const lock = await readLock(spec);
      if (lock === undefined) {
        throw new UsageError(`${lockPath(spec)} is missing: nothing is pinned yet`, `caisson lock ${path}`);
      }
      const mirror = options.mirror ?? process.env.CAISSON_MIRROR;
      const stop = new AbortController();
      const onSignal = (signal: NodeJS.Signals) =>
        stop.abort(new UsageError(`stopped by ${signal}`, "run it again"));
      process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
      const progress = new Progress();
      try {
        const { directory, manifest } = await build(spec, lock, {
          flavour: options.flavour,
          out: options.out === undefined ? imageDirectory(spec, options.flavour) : resolve(options.out),
          jobs: options.jobs,
          mirrors: await findMirrors(mirror === undefined ? {} : { mirror }),
          cache: cacheDirectory(process.env),
          onProgress: (event) => showBuild(progress, event),
          signal: stop.signal,
        });
        progress.done();
        process.stdout.write(
          options.json === true
            ? `${JSON.stringify({ directory, manifest }, null, 2)}\n`
            : `${directory}\n  root hash  ${manifest.rootfs.verity.rootHash}\n  kernel     ${manifest.kernel.sha256}\n`,
        );
      } finally {
        progress.clear();
        process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
      }
    },
  );
