// SPDX-License-Identifier: Apache-2.0
/** `caisson page`: the verifier as one HTML file that loads and sends nothing. */
import { buildPage, readExamples } from "@caisson/page";
import { messageOf } from "@caisson/vocabulary/failure";
import { SchemaError } from "@caisson/vocabulary/schema";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { writeFile } from "../output-file.ts";

function ownExamples(directory: string): ReturnType<typeof readExamples> {
  try {
    return readExamples(directory);
  } catch (error) {
    throw new UsageError(
      `no examples from ${directory}: ${error instanceof SchemaError ? `${error.path}: ` : ""}${messageOf(error)}`,
      'each directory in it has example.json, as {"name": "…", "about": "…", "at": "2026-01-01T00:00:00Z"}, and files',
    );
  }
}

export const command = new Command("caisson page")
  .description(
    "Writes the verifier as one HTML file: drop evidence and a policy onto it. It loads nothing and sends nothing.",
  )
  .option("-o, --output <file>", "write it there instead of to stdout")
  .option(
    "--examples <dir>",
    "real evidence to show first: a directory for each, with example.json (docs/verification.md)",
  )
  .action(async ({ output, examples }: { output?: string; examples?: string }) => {
    const page = await buildPage(examples === undefined ? [] : ownExamples(examples));
    if (output === undefined) process.stdout.write(page);
    else writeFile(output, page);
  });
