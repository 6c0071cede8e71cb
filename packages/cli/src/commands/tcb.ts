// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson tcb EVIDENCE`: what is behind on the platform, what updates it, under Intel's standard and early sets; and
 * where the platform stands, by Google's register of hosts or a list. It explains, and decides nothing about evidence.
 * Exit code 0: accepted now; 10: not; 20: nobody can tell.
 */
import { styleText } from "node:util";
import { type AmdOptions, collateralFor, type IntelOptions } from "@caisson/client/collateral";
import { isGoogleHost, placeInList } from "@caisson/client/provenance";
import {
  type Advice,
  type AnyEvidence,
  adviceLines,
  type Collateral,
  type Evidence,
  intelRoot,
  type Policy,
  parseReport,
  VerifyError,
} from "@caisson/verify";
import { parseEndorsement } from "@caisson/verify/amd-certificates";
import { readEndorsement } from "@caisson/verify/amd-endorsement";
import { minimumAt } from "@caisson/verify/amd-minimums";
import { behind, chipIdText, productOf, readTcb, type Tcb, tcbText } from "@caisson/verify/amd-products";
import { explainTcb } from "@caisson/verify/amd-tcb-advice";
import { adviseQuote, ppidOf } from "@caisson/verify/tcb-advice";
import { Command } from "commander";
import { type SourceOptions, sayProvenance, sourceOptions, withSource } from "../collateral-source.ts";
import { exitCodes } from "../exit-codes.ts";
import { UsageError } from "../failure.ts";
import {
  evidenceOf,
  explaining,
  parseTime,
  readBounded,
  readCollateralFiles,
  readPolicyFile,
  readText,
} from "../judgement-files.ts";
import { jsonText } from "../views/answer.ts";
import { printable } from "../views/printable.ts";

interface Options extends SourceOptions {
  collateral?: string;
  policy?: string;
  places?: string;
  gcp?: boolean;
  at?: string;
  json?: boolean;
}

/** What one set says; `set` is whose: as given, standard or early. */
interface SetAdvice {
  set: string;
  /** Undefined: nobody can tell, since no minimum is known. */
  accepted: boolean | undefined;
  status: string;
  lines: string[];
  advice?: Advice;
}

interface Answer {
  platform: Record<string, string>;
  sets: SetAdvice[];
  /** Where the platform stands; absent where that was not asked. */
  place?: { list?: string | null; gcp?: boolean };
  /** "refused": accepted now, and not any more once the early set is in force. */
  next?: "refused";
}

export const command = withSource(new Command("caisson tcb"), "--collateral-source")
  .description(
    "Says what is behind on the platform of some evidence, by how much, and what updates it. It explains; what is accepted is for verify to say. Exit code 0 accepted now, 10 not, 20 cannot tell.",
  )
  .argument("<evidence>", "evidence in any form that `verify` reads; - is stdin")
  .option(
    "--collateral <file>",
    "Intel's collateral where the evidence carries none; fetch: the standard and the early set",
  )
  .option(
    "--policy <file>",
    "whose statuses and minimums count; default: UpToDate, and the minimums that are known for AMD",
  )
  .option("--places <file>", "a list of platforms of one's own: PPID or chip id, then a name, one a line")
  .option("--gcp", "ask Google's register of confidential hosts for the PPID")
  .option("--at <time>", "judge as of this time (ISO 8601); now when left out")
  .option("--json", "one JSON document")
  .action(async (path: string, options: Options) => {
    const evidence = evidenceOf(readBounded(path));
    const policy = options.policy === undefined ? undefined : readPolicyFile(options.policy);
    const now = parseTime(options.at);
    if (evidence.platform === "nitro") {
      throw new VerifyError(
        "evidence/unsupported",
        "AWS says nothing of the firmware below its machines, so nobody can tell what is behind",
        { fix: "evidence of Intel's or AMD's" },
      );
    }
    const answer = await explaining(() =>
      evidence.platform === "snp"
        ? adviseSnp(evidence, policy, now)
        : adviseIntel(evidence, policy, options, now),
    );
    const place = await placeOf(answer.identity, evidence.platform === "snp", options, now);
    const whole: Answer = { ...answer.said, ...(place && { place }) };
    process.stdout.write(options.json === true ? jsonText(whole) : render(whole));
    const { accepted } = whole.sets[0]!;
    if (accepted !== true) process.exitCode = accepted === false ? exitCodes.rejected : exitCodes.unsupported;
  });

interface Said {
  said: Answer;
  identity: string;
}

async function adviseIntel(
  evidence: Evidence,
  policy: Policy | undefined,
  options: Options,
  now: Date,
): Promise<Said> {
  const { ppid, ...platform } = ppidOf(evidence.quote);
  const accepted = policy?.tcb?.statuses ?? ["UpToDate"];
  const sets: SetAdvice[] = [];
  for (const [set, collateral] of await setsOf(evidence, options, now)) {
    const advice = await adviseQuote(evidence.quote, collateral, now, intelRoot, accepted);
    sets.push({
      set,
      accepted: advice.accepted,
      status: advice.status ?? "below every level",
      lines: adviceLines(advice),
      advice,
    });
  }
  const [first, early] = sets;
  return {
    said: {
      platform: { ...platform, ppid },
      sets,
      ...(first!.accepted && early?.accepted === false && { next: "refused" as const }),
    },
    identity: ppid,
  };
}

/** The sets to compare: those of a file or of the evidence, or Intel's two. */
async function setsOf(evidence: Evidence, options: Options, now: Date): Promise<[set: string, Collateral][]> {
  if (options.collateral !== "fetch") {
    const collateral = readCollateralFiles(options.collateral).collateral ?? evidence.collateral;
    if (collateral === undefined) {
      throw new VerifyError("collateral/missing", "there is no collateral to compare the platform with", {
        fix: "--collateral fetch, or --collateral FILE",
      });
    }
    return [["as given", collateral]];
  }
  const world: IntelOptions & AmdOptions = sourceOptions(options, now);
  const found: [string, Collateral][] = [];
  for (const update of ["standard", "early"] as const) {
    const { collateral, provenance } = await collateralFor(evidence, { ...world, update });
    sayProvenance(provenance);
    found.push([update, collateral!]);
  }
  return found;
}

function adviseSnp(
  { report: bytes, collateral }: Extract<AnyEvidence, { platform: "snp" }>,
  policy: Policy | undefined,
  now: Date,
): Said {
  const report = parseReport(bytes);
  const certified =
    collateral?.endorsement && readEndorsement(parseEndorsement(collateral.endorsement)).product;
  const product = (report.cpu && productOf(report.cpu)) ?? certified;
  if (product === undefined) {
    const { family, model } = report.cpu ?? {};
    throw new VerifyError("snp/product", "nobody can tell which product of AMD's this report is of", {
      actual: report.cpu === undefined ? "a report that does not say" : `family ${family}, model ${model}`,
      fix: "its certificate says it: add that to the evidence",
    });
  }
  const tcb = Object.fromEntries(
    Object.entries(report.tcb).map(([kind, value]) => {
      const read = readTcb(value, product);
      if (read === undefined)
        throw new VerifyError("snp/tcb-layout", `the ${kind} TCB version is not one of ${product}`);
      return [kind, read];
    }),
  ) as Record<keyof typeof report.tcb, Tcb>;
  const rule = policy?.snp?.minimumTcb;
  const own = typeof rule === "object" ? (rule[product] as Partial<Tcb> | undefined) : undefined;
  const listed = minimumAt(product, now.toISOString().slice(0, 10));
  const least = own ?? listed?.tcb;
  const identity = chipIdText(report.chipId, product);
  const platform = {
    product,
    chip: identity,
    ...Object.fromEntries(Object.entries(tcb).map(([kind, value]) => [kind, tcbText(value)])),
  };
  const lines =
    least === undefined
      ? [`no minimum is known for ${product}: state snp.minimumTcb in a policy`]
      : explainTcb(tcb, least);
  const kinds = ["reported", "committed", "launch"] as const;
  const accepted = least && kinds.every((kind) => behind(tcb[kind], least).length === 0);
  const set =
    own !== undefined
      ? "the policy's minimum"
      : listed === undefined
        ? "no minimum"
        : `minimum since ${listed.since}: ${listed.source}`;
  const status = accepted === undefined ? "unknown" : accepted ? "new enough" : "behind";
  return { said: { platform, sets: [{ set, accepted, status, lines }] }, identity };
}

async function placeOf(
  identity: string,
  snp: boolean,
  { places, gcp }: Options,
  now: Date,
): Promise<Answer["place"]> {
  if (places === undefined && gcp !== true) return undefined;
  if (gcp === true && snp)
    throw new UsageError("Google's register knows Intel platforms alone", "leave out --gcp");
  return {
    ...(places !== undefined && { list: placeInList(identity, readText(places)) ?? null }),
    ...(gcp === true && { gcp: await isGoogleHost(identity, { now }) }),
  };
}

function render({ platform, sets, place, next }: Answer): string {
  const lines = Object.entries(platform).map(([name, value]) => `  ${name.padEnd(12)} ${printable(value)}`);
  for (const { set, accepted, status, lines: advice, advice: full } of sets) {
    const number =
      full === undefined ? "" : ` (number ${full.evaluationDataNumber}, issued ${full.issued.slice(0, 10)})`;
    const colour = accepted === undefined ? "yellow" : accepted ? "green" : "red";
    lines.push("", `${styleText(colour, printable(status))}   ${printable(set)}${number}`);
    lines.push(
      ...(advice.length === 0 ? ["  nothing is behind"] : advice.map((line) => `  ${printable(line)}`)),
    );
  }
  if (next !== undefined)
    lines.push("", styleText("yellow", "refused once the early set is in force; Intel gives no date"));
  if (place?.list !== undefined)
    lines.push("", `place        ${place.list === null ? "NOT in the list" : printable(place.list)}`);
  if (place?.gcp !== undefined)
    lines.push(
      "",
      `place        ${place.gcp ? "a host of Google's, by its register" : "NOT in Google's register of hosts"}`,
    );
  return `${lines.join("\n")}\n`;
}
