// SPDX-License-Identifier: Apache-2.0
/** `caisson logs SPEC [SERVICE]`: what the services of a development machine wrote. */
import type { ConsoleEvent } from "@caisson/protocol/console";
import { Command } from "commander";
import { consoleOf, readConsole } from "../console-log.ts";
import { printable } from "../views/printable.ts";

type Line = Extract<ConsoleEvent, { kind: "app" }>;

const serviceOf = ({ service = "app" }: Line): string => service;

/** A line for a person: seconds since the kernel's start, who wrote it, what. */
export function render(line: Line): string {
  return `${line.at.toFixed(1).padStart(8)} s  ${printable(serviceOf(line))} | ${printable(line.line)}\n`;
}

export const command = new Command("caisson logs")
  .description(
    "Shows what the services of a spec's development machine wrote, since it was last started. Production images write nothing.",
  )
  .argument("<spec>", "a caisson.yaml, or the directory that has one")
  .argument("[service]", "one service alone")
  .option("-f, --follow", "go on until Ctrl-C")
  .option("--json", "one JSON document; not with --follow")
  .action(
    async (path: string, service: string | undefined, options: { follow?: boolean; json?: boolean }) => {
      const interrupted = new AbortController();
      const json = options.json === true;
      if (options.follow === true && !json) {
        process.once("SIGINT", () => interrupted.abort()).once("SIGTERM", () => interrupted.abort());
      }
      const lines: { at: number; service: string; line: string }[] = [];
      const follow = options.follow === true && !json ? interrupted.signal : undefined;
      for await (const event of readConsole(await consoleOf(path), follow)) {
        if (event.kind !== "app" || (service !== undefined && serviceOf(event) !== service)) continue;
        if (json) lines.push({ at: event.at, service: serviceOf(event), line: event.line });
        else process.stdout.write(render(event));
      }
      if (json) process.stdout.write(`${JSON.stringify({ lines }, null, 2)}\n`);
    },
  );
