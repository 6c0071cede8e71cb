// SPDX-License-Identifier: Apache-2.0
/** `caisson collateral fetch`: what Intel or AMD publishes for the platform of some evidence, verified, in one file. */
import { writeFileSync } from "node:fs";
import { collateralFor, fetchIntel } from "@caisson/client/collateral";
import { readEvidence } from "@caisson/verify";
import { messageOf } from "@caisson/vocabulary/failure";
import { Command, Option } from "commander";
import { type SourceOptions, sayProvenance, sourceOptions, withSource } from "../collateral-source.ts";
import { UsageError } from "../failure.ts";
import { readBounded } from "../judgement-files.ts";

interface Options extends Omit<SourceOptions, "collateralSource"> {
  from: string;
  fmspc?: string;
  tee: "tdx" | "sgx";
  ca: "platform" | "processor";
  output?: string;
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
    .option("-o, --output <file>", "write it there instead of to stdout"),
  "--from",
).action(async (path: string | undefined, { from, ...options }: Options) => {
  if ((path === undefined) === (options.fmspc === undefined)) {
    throw new UsageError("collateral is fetched for evidence or for an FMSPC", "EVIDENCE, or --fmspc HEX");
  }
  const world = sourceOptions({ ...options, collateralSource: from }, new Date());
  const { document, provenance } =
    path === undefined
      ? await forPlatform(options, world)
      : await collateralFor(readEvidence(readBounded(path)), world);
  sayProvenance(provenance);
  const text = `${JSON.stringify(document, null, 2)}\n`;
  if (options.output === undefined) process.stdout.write(text);
  else write(options.output, text);
});

async function forPlatform(
  { fmspc, tee, ca }: Omit<Options, "from">,
  world: Parameters<typeof fetchIntel>[1],
) {
  if (!/^[0-9a-fA-F]{12}$/.test(fmspc!))
    throw new UsageError(`'${fmspc}' is not an FMSPC`, "12 hexadecimal digits");
  const { collateral, provenance } = await fetchIntel({ tee, fmspc: fmspc!, ca }, world);
  return { document: collateral, provenance };
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new UsageError(
      `${path} cannot be written: ${messageOf(error)}`,
      "name a file in an existing directory",
    );
  }
}

export const command = new Command("caisson collateral")
  .description("What vendors publish about platforms: fetched, verified, kept.")
  .addCommand(fetchCommand);
