// SPDX-License-Identifier: Apache-2.0
/** `caisson collateral fetch`: what Intel or AMD publishes for the platform of some evidence, verified, in one file. */
import { collateralFor, type FetchedCollateral, fetchIntel } from "@caisson/client/collateral";
import { type AnyEvidence, isQuote } from "@caisson/verify";
import { writeEvidenceDocument, writeSnpDocument } from "@caisson/verify/evidence-document";
import { Command, Option } from "commander";
import { type SourceOptions, sayProvenance, sourceOptions, withSource } from "../collateral-source.ts";
import { UsageError } from "../failure.ts";
import { evidenceOf, readBounded } from "../judgement-files.ts";
import { writeFile } from "../output-file.ts";
import { jsonText } from "../views/answer.ts";

interface Options extends Omit<SourceOptions, "collateralSource"> {
  from: string;
  fmspc?: string;
  tee: "tdx" | "sgx";
  ca: "platform" | "processor";
  output?: string;
  staple?: boolean;
}

const fetchCommand = withSource(
  new Command("fetch")
    .description(
      "Fetches collateral for evidence, or for a kind of Intel platform, verifies it and writes it. Asking tells the source which platform it is about.",
    )
    .argument("[evidence]", "evidence in any form that `verify` reads; - is stdin")
    .option("--fmspc <hex>", "instead of evidence: the kind of platform, 12 digits")
    .addOption(new Option("--tee <tee>", "with --fmspc").choices(["tdx", "sgx"]).default("tdx"))
    .addOption(
      new Option("--ca <ca>", "with --fmspc: who issued its PCK certificate")
        .choices(["platform", "processor"])
        .default("platform"),
    )
    .option(
      "--staple",
      "write the evidence with its collateral in it, so that it needs nothing else to be judged later",
    )
    .option("-o, --output <file>", "write it there instead of to stdout"),
  "--from",
).action(async (path: string | undefined, { from, ...options }: Options) => {
  if ((path === undefined) === (options.fmspc === undefined)) {
    throw new UsageError("collateral is fetched for evidence or for an FMSPC", "EVIDENCE, or --fmspc HEX");
  }
  if (options.staple === true && path === undefined) {
    throw new UsageError("--staple puts collateral into evidence", "EVIDENCE instead of --fmspc");
  }
  const world = sourceOptions({ ...options, collateralSource: from }, new Date());
  const evidence = path === undefined ? undefined : evidenceOf(readBounded(path));
  const found: FetchedCollateral =
    evidence === undefined ? await forPlatform(options, world) : await collateralFor(evidence, world);
  sayProvenance(found.provenance);
  const document = options.staple === true ? stapled(evidence!, found) : found.document;
  const text = jsonText(document);
  if (options.output === undefined) process.stdout.write(text);
  else writeFile(options.output, text);
});

/** The evidence as one document with what was fetched in it; whoever judges it checks that as any other collateral. */
function stapled(evidence: AnyEvidence, { collateral, amdCollateral }: FetchedCollateral): object {
  try {
    if (isQuote(evidence)) return writeEvidenceDocument({ ...evidence, ...(collateral && { collateral }) });
    if (evidence.platform === "snp" && amdCollateral !== undefined) {
      return writeSnpDocument({ ...evidence, collateral: amdCollateral });
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UsageError(
      `this evidence cannot be written as one document: ${error.message}`,
      "keep both files",
    );
  }
  throw new UsageError("this evidence has no collateral", "it needs none");
}

async function forPlatform(
  { fmspc, tee, ca }: Omit<Options, "from">,
  world: Parameters<typeof fetchIntel>[1],
) {
  if (!/^[0-9a-fA-F]{12}$/.test(fmspc!))
    throw new UsageError(`'${fmspc}' is not an FMSPC`, "12 hexadecimal digits");
  const { collateral, provenance } = await fetchIntel({ tee, fmspc: fmspc!, ca }, world);
  return { document: collateral, provenance };
}

export const command = new Command("caisson collateral")
  .description("What vendors publish about platforms: fetched, verified, kept.")
  .addCommand(fetchCommand);
