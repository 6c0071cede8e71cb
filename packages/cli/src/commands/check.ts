// SPDX-License-Identifier: Apache-2.0
/** `caisson check SUBJECT`: what will run, what it costs in isolation, and the line to change; without building. */
import { type CheckReport, check, type Finding } from "@caisson/image/check";
import { cacheDirectory } from "@caisson/image/fetch";
import { Command } from "commander";
import { exitCodes } from "../exit-codes.ts";
import { jsonText } from "../views/answer.ts";
import { printable } from "../views/printable.ts";

const signs: Record<Finding["kind"], string> = { fault: "✘", cost: "−", note: "·", unknown: "?" };

function line({ kind, text, line: place, change }: Finding): string[] {
  const where = place === undefined ? "" : ` (line ${place})`;
  return [
    `  ${signs[kind]} ${printable(text)}${where}`,
    ...(change === undefined ? [] : [`    → ${printable(change)}`]),
  ];
}

/** How many services have a finding of this kind. */
const having = ({ services }: CheckReport, wanted: Finding["kind"]): number =>
  services.filter(({ findings }) => findings.some(({ kind }) => kind === wanted)).length;

/** The three answers: it runs, it does not, and nobody can tell before every image was looked at. */
const verdicts = { runs: 0, fails: exitCodes.rejected, undetermined: exitCodes.unsupported } as const;

function verdictOf(report: CheckReport): keyof typeof verdicts {
  if (having(report, "fault") > 0) return "fails";
  return having(report, "unknown") > 0 ? "undetermined" : "runs";
}

function headline(report: CheckReport): string {
  const faults = having(report, "fault");
  const unknown = having(report, "unknown");
  const said = faults === 0 ? [] : [`${faults} cannot run`];
  if (unknown > 0) said.push(`${unknown} could not be looked at, so that nobody can tell`);
  return said.length === 0 ? "nothing in the way" : said.join(", ");
}

/** The report for a person. */
export function render(report: CheckReport): string {
  const { subject, services, findings } = report;
  const count = services.length === 1 ? "one service" : `${services.length} services`;
  const lines = [`${printable(subject)}: ${count}, ${headline(report)}`];
  for (const { name, image, isolation, findings: own } of services) {
    lines.push("", `${printable(name)}  ${printable(image)}  ${isolation}`, ...own.flatMap(line));
  }
  if (findings.length > 0) lines.push("", "All together", ...findings.flatMap(line));
  lines.push("", "✘ cannot run   − costs isolation   · worth knowing   ? not looked at", "");
  return lines.join("\n");
}

export const command = new Command("caisson check")
  .description(
    "Says without building what will run of a compose file, an image or a spec, what will not, what it costs in isolation, and the line to change. Exit code 10: something cannot run; 20: an image could not be looked at.",
  )
  .argument("<subject>", "a caisson.yaml, a compose file, a directory with one, or the name of an image")
  .option("--json", "one JSON document")
  .action(async (subject: string, options: { json?: boolean }) => {
    const report = await check(subject, { cache: cacheDirectory(process.env), environment: process.env });
    const verdict = verdictOf(report);
    process.stdout.write(options.json === true ? jsonText({ verdict, ...report }) : render(report));
    process.exitCode = verdicts[verdict];
  });
