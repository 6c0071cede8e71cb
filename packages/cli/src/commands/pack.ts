// SPDX-License-Identifier: Apache-2.0
/** `caisson pack`: the npm packages that others import, and the commands that run anywhere. */
import { resolve } from "node:path";
import { Command } from "commander";
import { packAll } from "../npm-tarballs.ts";
import { answer } from "../views/answer.ts";

export const command = new Command("caisson pack")
  .description(
    "Makes npm tarballs: the packages that measure, verify and tell the time, as ES modules with types, and the commands that run anywhere.",
  )
  .option("--out <dir>", "where to", "out/npm")
  .option("--json", "one JSON document")
  .action(async ({ out, json }: { out: string; json?: boolean }) => {
    const tarballs = await packAll(resolve(out));
    answer(json, { tarballs }, tarballs.join("\n"));
  });
