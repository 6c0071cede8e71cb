// SPDX-License-Identifier: Apache-2.0
/** `caisson time [--servers FILE] [--json] [--set]`: asks NTS servers for the time and shows who agrees. */

import { readFileSync } from "node:fs";
import { NtsError, parseTimeConfiguration, publicConfiguration, synchronize, whyNot } from "@caisson/nts";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { Command } from "commander";
import { setClock } from "../set-clock.ts";
import { jsonText } from "../views/answer.ts";
import { Progress } from "../views/progress.ts";
import { describe, render } from "../views/time-report.ts";

/** No earlier time is believed: this program did not exist then. */
const floor = Date.UTC(2026, 0, 1);

export const command = new Command("caisson time")
  .description(
    "Asks NTS servers of several operators for the time and shows who agrees. Exit code 10: no agreement.",
  )
  .option(
    "--servers <file>",
    "time sources as JSON (docs/secure-time.md); the built-in public ones when left out",
  )
  .option("--json", "one JSON document")
  .option("--set", "set this machine's clock to the agreed time (needs the right to)")
  .action(async (options: { servers?: string; json?: boolean; set?: boolean }) => {
    const configuration =
      options.servers === undefined
        ? publicConfiguration()
        : parseTimeConfiguration(readJson(options.servers));
    const progress = new Progress();
    progress.show(`asking ${configuration.sources.length} servers for the time`);
    const result = await synchronize(configuration, { floor });
    progress.clear();
    const clock = Date.now() - (performance.now() - result.at);
    const report = describe(result, clock);
    const columns = process.stdout.columns ?? Number.POSITIVE_INFINITY;
    process.stdout.write(options.json === true ? jsonText(report) : render(report, columns));
    const { agreement, at } = result;
    if (!agreement.agreed) {
      const seconds = (result.elapsed / 1000).toFixed(1);
      throw new NtsError(
        "time/no-agreement",
        `no agreement on the time after ${seconds} s: ${whyNot(agreement)}`,
      );
    }
    if (options.set === true) {
      const time = setClock({ earliest: agreement.earliest, latest: agreement.latest, at });
      process.stderr.write(`the clock was set to ${new Date(time).toISOString()}\n`);
    }
  });

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new NtsError("nts/configuration", `cannot read ${file}: ${reasonOf(error)}`, {
      fix: "docs/secure-time.md shows the format",
    });
  }
}
