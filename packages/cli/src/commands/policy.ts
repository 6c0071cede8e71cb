// SPDX-License-Identifier: Apache-2.0
/** `caisson policy from EVIDENCE`: a policy that pins what was seen. `caisson policy explain FILE`: what one accepts. */
import { styleText } from "node:util";
import {
  type AnyEvidence,
  type Genuine,
  type GenuineSnp,
  intelRoot,
  isQuote,
  verifyQuote,
  verifyReport,
} from "@caisson/verify";
import { explainPolicy, type Rule } from "@caisson/verify/policy-explain";
import { policyFrom } from "@caisson/verify/policy-from";
import { provesHardware } from "@caisson/vocabulary/platforms";
import { Command } from "commander";
import {
  evidenceOf,
  explaining,
  parseTime,
  readBounded,
  readCollateralFiles,
  readPolicyFile,
} from "../judgement-files.ts";
import { writeNewFile } from "../output-file.ts";
import { jsonText } from "../views/answer.ts";
import { printable } from "../views/printable.ts";

interface FromOptions {
  collateral?: string;
  at?: string;
  output?: string;
}

const from = new Command("from")
  .description(
    "Writes a policy that pins what evidence shows, with a comment on each line. With collateral the quote must be genuine," +
      " and its TCB is pinned too; without, nothing is judged.",
  )
  .argument("<evidence>", "evidence in any form that `verify` reads; - is stdin")
  .option("--collateral <file>", "Intel's collateral (PCCS-style JSON), where the evidence carries none")
  .option("--at <time>", "judge as of this time (ISO 8601); now when left out")
  .option("-o, --output <file>", "write the policy there instead of to stdout")
  .action(async (path: string, options: FromOptions) => {
    const evidence = evidenceOf(readBounded(path));
    const text = await explaining(async () => policyFrom(evidence, await genuine(evidence, options)));
    if (options.output === undefined) process.stdout.write(text);
    else writeNewFile(options.output, text);
  });

/** What verification says of the quote; undefined where there is no collateral, or a root that only a policy names. */
async function genuine(
  evidence: AnyEvidence,
  { collateral: path, at }: FromOptions,
): Promise<Genuine | GenuineSnp | undefined> {
  const given = readCollateralFiles(path);
  if (evidence.platform === "snp") {
    const parts = { ...evidence.collateral, ...given.amdCollateral };
    const whole = parts.endorsement !== undefined && parts.chain !== undefined && parts.crl !== undefined;
    return whole ? verifyReport(evidence.report, parts, parseTime(at)) : undefined;
  }
  if (!isQuote(evidence) || !provesHardware[evidence.platform]) return undefined;
  const documents = given.collateral ?? evidence.collateral;
  return documents && (await verifyQuote(evidence.quote, documents, parseTime(at), intelRoot));
}

const colours = { stated: "green", default: "green", open: "yellow", missing: "red" } as const;

function renderRule({ name, state, accepted, meaning }: Rule): string {
  // A list of values is one value for each alternative; a default's text may have an "or" of its own.
  const values = state === "stated" ? printable(accepted).split(" or ") : [printable(accepted)];
  const shown = values.length > 1 ? `${values[0]} or ${values.length - 1} more` : values[0];
  return `  ${styleText(colours[state], state.padEnd(7))}  ${name.padEnd(28)} ${shown}\n  ${" ".repeat(38)}${meaning}`;
}

const explain = new Command("explain")
  .description("Says what a policy accepts, rule by rule: stated, by default, left open, or missing.")
  .argument("<policy>", "a policy (YAML or JSON); - is stdin")
  .option("--json", "one JSON document")
  .action((path: string, options: { json?: boolean }) => {
    const rules = explainPolicy(readPolicyFile(path));
    const count = (state: Rule["state"]) => rules.filter((rule) => rule.state === state).length;
    const missing = count("missing");
    const summary =
      missing === 0
        ? `${count("open")} of ${rules.length} rules are left open`
        : `this policy accepts nothing: ${missing} rules must be stated`;
    process.stdout.write(
      options.json === true ? jsonText({ rules }) : `${summary}\n\n${rules.map(renderRule).join("\n")}\n`,
    );
  });

export const command = new Command("caisson policy")
  .description("Writes policies, and says what they mean.")
  .addCommand(from)
  .addCommand(explain);
