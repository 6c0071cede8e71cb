// SPDX-License-Identifier: Apache-2.0
/** `caisson build SPEC`: the image of a spec, from what its lock names. */

import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { type Built, lockPath, readLock, readSpec } from "@caisson/image";
import type { Flavour } from "@caisson/vocabulary/flavours";
import { Command, Option } from "commander";
import { UsageError } from "../failure.ts";
import { interruption } from "../interruption.ts";
import { whole } from "../number-options.ts";
import { prepare } from "../prepare.ts";
import { jsonText } from "../views/answer.ts";
import { Progress } from "../views/progress.ts";

/** Paths that one line names; the manifest has them all. */
const shownPaths = 4;

/** What was built, for a person. What images lost on the way stands there, a line for each service and kind. */
export function summary({ directory, manifest }: Built): string {
  const rows = [
    ["root hash", manifest.rootfs.verity.rootHash],
    ["kernel", manifest.kernel.sha256],
  ];
  const { dropped } = manifest.contents;
  for (const changes of Map.groupBy(dropped, (change) => `${change.service} ${change.dropped}`).values()) {
    const { service, dropped: kind } = changes[0]!;
    const paths = changes.slice(0, shownPaths).map(({ path }) => path);
    const more = changes.length - paths.length;
    if (more > 0) paths.push(`and ${more} more (manifest.json, contents.dropped)`);
    const names = new Set(changes.flatMap(({ capabilities = [] }) => capabilities));
    const what = names.size === 0 ? kind : `${kind} ${[...names].join(", ")}`;
    rows.push(["dropped", `${what} of ${service}'s ${paths.join(", ")}`]);
  }
  return [directory, ...rows.map(([label, value]) => `  ${label!.padEnd(9)}  ${value}`), ""].join("\n");
}

export const command = new Command("caisson build")
  .description("Makes the image directory of a spec, from exactly what its lock names.")
  .argument("<spec>", "a caisson.yaml, or the directory that has one")
  .addOption(
    new Option("--flavour <name>", "which image")
      .choices(["production", "development"])
      .default("production"),
  )
  .option("--out <dir>", "the image directory (default: out/<name>-<flavour> beside the spec)")
  .option("--jobs <n>", "compilers at a time", whole(1, 9999), availableParallelism())
  .option("--mirror <uri>", "the Debian mirror (default: CAISSON_MIRROR, or the machine's apt configuration)")
  .option("--json", "print the manifest as one JSON document")
  .action(
    async (
      path: string,
      options: { flavour: Flavour; out?: string; jobs: number; mirror?: string; json?: boolean },
    ) => {
      const spec = await readSpec(path);
      if ((await readLock(spec)) === undefined) {
        throw new UsageError(`${lockPath(spec)} is missing: nothing is pinned yet`, `caisson lock ${path}`);
      }
      const signal = interruption("run it again: what was fetched and compiled is kept");
      const { flavour, out, jobs, mirror } = options;
      const built = await prepare(
        spec,
        flavour,
        { out: out === undefined ? undefined : resolve(out), jobs, mirror, signal },
        new Progress(),
      );
      process.stdout.write(options.json === true ? jsonText(built) : summary(built));
    },
  );
