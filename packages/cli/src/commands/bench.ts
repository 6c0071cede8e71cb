// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson bench [NAME] [--json]`: runs what is under `bench/` and prints one table.
 *
 * A benchmark is a file `bench/NAME.ts` that exports `run(): AsyncIterable<Row>`. A row's `peer` or `limit` is
 * measured in the same run as `ours`, so that `ratio` (ours / peer, or ours / limit) means something on any machine.
 */
import { existsSync, readdirSync } from "node:fs";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { jsonText } from "../views/answer.ts";

/** One line of a benchmark. `ours`, `peer` and `limit` are in `unit`; `note` says what peer or limit is. */
export interface Row {
  name: string;
  unit: string;
  ours: number;
  peer?: number;
  limit?: number;
  ratio?: number;
  note?: string;
}

const directory = new URL("../../../../bench/", import.meta.url);
const number = (value: number | undefined): string =>
  value === undefined ? "" : Number(value.toPrecision(4)).toString();

function withRatio(row: Row): Row {
  const other = row.peer ?? row.limit;
  return row.ratio !== undefined || other === undefined
    ? row
    : { ...row, ratio: Number((row.ours / other).toPrecision(4)) };
}

export const command = new Command("caisson bench")
  .description(
    "Runs what is under bench/ and prints each figure beside a peer or a limit of the same run (docs/benchmarks.md).",
  )
  .argument("[name]", "one file under bench/, without its ending; all when left out")
  .option("--json", "one JSON document")
  .action(async (name: string | undefined, options: { json?: boolean }) => {
    const all = existsSync(directory)
      ? readdirSync(directory)
          .filter((f) => f.endsWith(".ts"))
          .map((f) => f.slice(0, -3))
          .sort()
      : [];
    if (name !== undefined && !all.includes(name)) {
      throw new UsageError(`there is no benchmark '${name}'`, `one of ${all.join(", ")}`);
    }
    const rows: Row[] = [];
    for (const bench of name === undefined ? all : [name]) {
      const { run } = (await import(new URL(`${bench}.ts`, directory).href)) as {
        run: () => AsyncIterable<Row>;
      };
      for await (const row of run()) {
        rows.push(withRatio(row));
        if (options.json !== true) {
          const { ours, peer, limit, ratio, unit, note } = rows.at(-1)!;
          const against =
            peer !== undefined ? `peer ${number(peer)}` : limit !== undefined ? `limit ${number(limit)}` : "";
          const cells = [
            row.name.padEnd(48),
            `${number(ours)} ${unit}`.padEnd(18),
            against.padEnd(18),
            ratio === undefined ? "" : `×${number(ratio)}`,
          ];
          process.stdout.write(`${cells.join(" ").trimEnd()}${note === undefined ? "" : `   ${note}`}\n`);
        }
      }
    }
    if (options.json === true) process.stdout.write(jsonText({ rows }));
  });
