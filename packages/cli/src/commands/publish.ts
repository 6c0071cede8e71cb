// SPDX-License-Identifier: Apache-2.0
/** `caisson publish IMAGE`: one directory with all that a stranger needs to verify what runs. */
import { dirname, join, resolve } from "node:path";
import { writeKit } from "@caisson/machine/kit";
import { Command } from "commander";
import { jsonText } from "../views/answer.ts";

export const command = new Command("caisson publish")
  .description(
    "Writes the outsider's kit: manifest, bill of materials, lock, reference values, policy, collateral if any, and how to use them.",
  )
  .argument("<image>", "an image directory that `caisson up` or `caisson instance` prepared")
  .option("--out <DIR>", "where to (default: IMAGE.kit)")
  .option("--lock <FILE>", "the lock that the image was built from (default: beside its spec)")
  .option("--collateral <FILE>", "collateral to put into the kit")
  .option("--json", "one JSON document")
  .action((path: string, options: { out?: string; lock?: string; collateral?: string; json?: boolean }) => {
    const image = resolve(path);
    const lock = options.lock ?? join(dirname(dirname(image)), "caisson.lock");
    const kit = writeKit(image, resolve(options.out ?? `${image}.kit`), lock, options.collateral);
    process.stdout.write(
      options.json === true
        ? jsonText(kit)
        : `kit       ${kit.directory}\nmanifest  ${kit.manifest}\npolicy    ${kit.policy}: read it, it is what others accept\n`,
    );
  });
