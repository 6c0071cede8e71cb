// SPDX-License-Identifier: Apache-2.0
/** Where collateral is fetched from and kept: one set of options for every command that fetches. */
import { join } from "node:path";
import type { AmdOptions, IntelOptions, Provenance } from "@caisson/client/collateral";
import { directoryStore } from "@caisson/client/collateral-store";
import { cacheDirectory } from "@caisson/image/fetch";
import { type Command, InvalidArgumentError, Option } from "commander";
import { printable } from "./views/printable.ts";

export interface SourceOptions {
  collateralSource?: string;
  update: "standard" | "early" | number;
  cache?: string;
  offline?: boolean;
}

export function parseSet(text: string): SourceOptions["update"] {
  if (text === "standard" || text === "early") return text;
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("expected standard, early or a tcbEvaluationDataNumber");
}

/** Adds the options of a source; `name` is the flag that names it. */
export function withSource(command: Command, name: "--from" | "--collateral-source"): Command {
  return command
    .addOption(
      new Option(
        `${name} <source>`,
        "whom to ask: pcs (Intel, and AMD's KDS), or the address of a PCCS or mirror",
      ).default("pcs"),
    )
    .addOption(
      new Option("--update <set>", "Intel's set: standard, early, or a tcbEvaluationDataNumber")
        .argParser(parseSet)
        .default("standard"),
    )
    .option("--cache <dir>", "where collateral is kept; default: below the cache (CAISSON_CACHE)")
    .option("--offline", "ask nobody: what is kept, as long as it is valid");
}

/** What fetching needs; waits are said on stderr. */
export function sourceOptions(
  { collateralSource, update, cache, offline }: SourceOptions,
  now: Date,
): IntelOptions & AmdOptions {
  return {
    now,
    from: collateralSource ?? "pcs",
    update,
    store: directoryStore(cache ?? join(cacheDirectory(process.env), "collateral")),
    ...(offline === true && { offline }),
    onWait: (url, ms) =>
      process.stderr.write(`${printable(url)} is busy: asking again in ${Math.ceil(ms / 1000)} s\n`),
  };
}

/** One line for each part: where it came from, how old it is, which set. Freshness is what a mirror can attack. */
export function sayProvenance(parts: readonly Provenance[]): void {
  const day = (ms: number) => new Date(ms).toISOString().slice(0, 10);
  for (const { name, url, from, dates, number, because } of parts) {
    const facts = [
      from === "cache" ? "kept" : "fetched",
      ...(number === undefined ? [] : [`number ${number}`]),
      ...(dates === undefined ? [] : [`issued ${day(dates.issued)}, valid until ${day(dates.expires)}`]),
      `from ${url}`,
      ...(because === undefined ? [] : [`because ${because}`]),
    ];
    process.stderr.write(
      `  ${name.split("/").slice(0, 2).join(" ").padEnd(14)} ${printable(facts.join("; "))}\n`,
    );
  }
}
