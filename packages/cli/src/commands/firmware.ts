// SPDX-License-Identifier: Apache-2.0
/** `caisson firmware compare`: what firmware images consist of, what they can boot, how much of them faces the host. */

import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { bothMrtd, readFirmware } from "@caisson/audit/firmware";
import { type Comparison, comparisonSvg, comparisonTable, describe } from "@caisson/audit/firmware-compare";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { writeFile } from "../output-file.ts";
import { jsonText } from "../views/answer.ts";

const sizeLimit = 64 * 1024 * 1024;

function read(path: string): Uint8Array {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${reasonOf(error)}`, "name a firmware image");
  }
  if (bytes.length > sizeLimit)
    throw new UsageError(`${path} has ${bytes.length} bytes`, `a firmware image has at most ${sizeLimit}`);
  return new Uint8Array(bytes);
}

const compare = new Command("compare")
  .description("firmware images side by side")
  .argument("<images...>", "firmware images, each a path or LABEL=PATH")
  .option("--json", "one JSON document")
  .option("--svg <file>", "write a picture of what takes the space")
  .action(async (paths: string[], options: { json?: boolean; svg?: string }) => {
    const rows: Comparison[] = [];
    for (const argument of paths) {
      const [, label, path = argument] = /^([^=/]+)=(.+)$/.exec(argument) ?? [];
      const bytes = read(path);
      rows.push(describe(label ?? basename(path), readFirmware(bytes), await bothMrtd(bytes)));
    }
    if (options.svg !== undefined) writeFile(options.svg, comparisonSvg(rows));
    if (options.json === true)
      process.stdout.write(jsonText({ version: "caisson/firmware-comparison/v1", images: rows }));
    else process.stdout.write(comparisonTable(rows));
  });

export const command = new Command("caisson firmware")
  .description("Compares firmware images: what they measure as, what is in them, what they can boot.")
  .addCommand(compare);
