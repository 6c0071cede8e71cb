// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson logs SPEC [SERVICE]`: what services wrote. A development machine says it on its console; one whose description
 * names keys encrypts it to them, and whoever has one opens here what the host carried.
 */
import { existsSync } from "node:fs";
import type { ConsoleEvent } from "@caisson/protocol/console";
import type { SealingKey } from "@caisson/protocol/hpke";
import type { LogLine } from "@caisson/protocol/sealed-log";
import { Command } from "commander";
import { consoleOf, readConsole } from "../console-log.ts";
import { UsageError } from "../failure.ts";
import { newLogKey, readLogKey } from "../log-key.ts";
import { type Gaps, openLog } from "../sealed-console.ts";
import { jsonText } from "../views/answer.ts";
import { printable } from "../views/printable.ts";

/** A line for a person: seconds since the kernel's start, who wrote it, what. */
export function render([at, service, line]: LogLine): string {
  return `${at.toFixed(1).padStart(8)} s  ${printable(service)} | ${printable(line)}\n`;
}

async function* plainLines(events: AsyncIterable<ConsoleEvent>): AsyncGenerator<LogLine> {
  for await (const event of events) {
    if (event.kind === "app") yield [event.at, event.service ?? "app", event.line];
  }
}

interface Options {
  follow?: boolean;
  json?: boolean;
  key?: string;
  console?: string;
}

async function show(path: string, service: string | undefined, options: Options): Promise<void> {
  const interrupted = new AbortController();
  const json = options.json === true;
  const follow = options.follow === true && !json ? interrupted.signal : undefined;
  if (follow !== undefined) {
    process.once("SIGINT", () => interrupted.abort()).once("SIGTERM", () => interrupted.abort());
  }
  const key: SealingKey | undefined = options.key === undefined ? undefined : readLogKey(options.key);
  const console = options.console ?? (await consoleOf(path, key === undefined ? "development" : undefined));
  if (!existsSync(console))
    throw new UsageError(`there is no ${console}`, "name the console's log of a machine");
  const events = readConsole(console, follow);
  const gaps: Gaps = { missing: 0, foreign: 0, altered: 0, ended: false };
  const lines: { at: number; service: string; line: string }[] = [];
  for await (const line of key === undefined ? plainLines(events) : openLog(events, key, gaps)) {
    if (service !== undefined && line[1] !== service) continue;
    if (json) lines.push({ at: line[0], service: line[1], line: line[2] });
    else process.stdout.write(render(line));
  }
  if (json) process.stdout.write(jsonText({ lines, ...(key && gaps) }));
  else if (key !== undefined) process.stderr.write(gapsText(gaps));
}

function gapsText({ missing, foreign, altered, ended }: Gaps): string {
  const said = [
    missing > 0 && `${missing} parts are missing: the host left them out, or the console did not take them`,
    altered > 0 && `${altered} parts were altered, or are none`,
    foreign > 0 && `${foreign} parts are for other keys`,
    !ended && "the last part is not there: the machine runs, or did not end by itself",
  ];
  return said.flatMap((one) => (one === false ? [] : [`(${one})\n`])).join("");
}

export const command = new Command("caisson logs")
  .description(
    "Shows what the services of a spec's machine wrote since it was last started: of a development machine, or with --key of any whose spec has app.logs. Production images without it write nothing.",
  )
  .argument("[spec]", "a caisson.yaml, or the directory that has one")
  .argument("[service]", "one service alone")
  .option("-f, --follow", "go on until Ctrl-C")
  .option(
    "--key <FILE>",
    "opens what was encrypted to this key's public half: as age-keygen and --new-key write it",
  )
  .option("--console <FILE>", "the console's log of a machine on another host, copied from there")
  .option("--new-key <FILE>", "makes a key instead, and prints what app.logs.to names")
  .option("--json", "one JSON document; not with --follow")
  .action(
    async (path: string | undefined, service: string | undefined, options: Options & { newKey?: string }) => {
      if (options.newKey !== undefined) {
        process.stdout.write(`${newLogKey(options.newKey)}\n`);
        return;
      }
      if (path === undefined && options.console === undefined)
        throw new UsageError("it says no spec", "caisson logs SPEC, or --console FILE");
      await show(path ?? "", service, options);
    },
  );
