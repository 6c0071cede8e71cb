// SPDX-License-Identifier: Apache-2.0
/** Options by which a command asks who built an image (`@caisson/provenance`, loaded only where they are given). */
import { ReleaseError } from "@caisson/releases";
import {
  type Provenance,
  type ProvenanceJudge,
  type ProvenanceProfile,
  provenanceProfiles,
  provenanceRules,
} from "@caisson/releases/provenance";
import { SchemaError } from "@caisson/vocabulary/schema";
import { type Command, Option } from "commander";
import { UsageError } from "./failure.ts";
import { readText } from "./judgement-files.ts";

/** For whoever judges releases by a policy: Sigstore's packages are loaded where one asks for provenance. */
export const provenanceJudge: ProvenanceJudge = async (bundle, question) =>
  (await import("@caisson/provenance")).judgeProvenance(bundle, question);

/** The options that ask for it. */
export interface ProvenanceOptions {
  provenance?: string;
  provenanceProfile?: ProvenanceProfile;
  provenanceRoot?: string;
  provenanceWorkflow?: string;
  provenanceRepository?: string;
}

export const withProvenance = (command: Command): Command =>
  command
    .option(
      "--provenance <FILE>",
      "a Sigstore bundle over the manifest, asked for beside all of the owners' rules",
    )
    .addOption(
      new Option("--provenance-profile <NAME>", "whose: GitHub's private repositories have no log").choices(
        provenanceProfiles,
      ),
    )
    .option("--provenance-root <FILE>", "that instance's trusted_root.json, as you have pinned it")
    .option(
      "--provenance-workflow <URI>",
      "the URI of its workflow, …/.github/workflows/FILE@REF; REF may end in *",
    )
    .option(
      "--provenance-repository <URI>",
      "whose sources it built, where that is another repository than the workflow's",
    );

/** A file with a Sigstore bundle. Throws ReleaseError "provenance/malformed". */
export const readProvenanceFile = (path: string): object => readJson(path);

function readJson(path: string): object {
  try {
    return JSON.parse(readText(path)) as object;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new ReleaseError("provenance/malformed", `${path} is not JSON`);
  }
}

/** The provenance that the options ask for; undefined where they ask for none. Throws ReleaseError, UsageError. */
export async function readProvenance(
  options: ProvenanceOptions,
  manifest: string,
): Promise<Provenance | undefined> {
  const {
    provenance,
    provenanceProfile: profile,
    provenanceRoot: root,
    provenanceWorkflow: workflow,
    provenanceRepository: repository,
  } = options;
  if ((provenance ?? profile ?? root ?? workflow ?? repository) === undefined) return undefined;
  if (provenance === undefined || profile === undefined || root === undefined || workflow === undefined) {
    throw new UsageError(
      "a provenance is judged by profile, trusted root and workflow",
      "--provenance, --provenance-profile, --provenance-root and --provenance-workflow together",
    );
  }
  const rules = { profile, root: readJson(root), workflow, ...(repository !== undefined && { repository }) };
  try {
    provenanceRules(rules);
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    throw new UsageError(
      `${error.path || "the provenance"}: ${error.message}`,
      "https://github.com/OWNER/REPO/.github/workflows/FILE@refs/tags/*",
    );
  }
  return provenanceJudge(readJson(provenance), { ...rules, manifest });
}
