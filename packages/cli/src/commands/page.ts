// SPDX-License-Identifier: Apache-2.0
/** `caisson page`: the verifier as one HTML file that loads and sends nothing. */
import { writeFileSync } from "node:fs";
import { buildPage } from "@caisson/page";
import { messageOf } from "@caisson/vocabulary/failure";
import { Command } from "commander";
import { UsageError } from "../failure.ts";

export const command = new Command("caisson page")
  .description(
    "Writes the verifier as one HTML file: drop evidence and a policy onto it. It loads nothing and sends nothing.",
  )
  .option("-o, --output <file>", "write it there instead of to stdout")
  .action(async ({ output }: { output?: string }) => {
    const page = await buildPage();
    if (output === undefined) process.stdout.write(page);
    else {
      try {
        writeFileSync(output, page);
      } catch (error) {
        throw new UsageError(
          `${output} cannot be written: ${messageOf(error)}`,
          "name a file in an existing directory",
        );
      }
    }
  });
