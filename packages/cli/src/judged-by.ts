// SPDX-License-Identifier: Apache-2.0
/**
 * What a user names to judge evidence by: files, or a kit or an image directory that stands for several of them. From files
 * to values: judgement-files.ts.
 */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { collateralFor } from "@caisson/client/collateral";
import { readKit } from "@caisson/machine/kit";
import {
  emptyFloor,
  followIdentity,
  ReleaseError,
  readBundle,
  readStatement,
  revoke,
} from "@caisson/releases";
import type { AnyEvidence, Policy } from "@caisson/verify";
import { type KnownReleases, releaseJudge } from "@caisson/verify/releases";
import { type SourceOptions, sayProvenance, sourceOptions } from "./collateral-source.ts";
import { UsageError } from "./failure.ts";
import { readCollateralFiles, readPolicyFile, readReferenceFiles } from "./judgement-files.ts";
import { provenanceJudge } from "./provenance.ts";
import { readEnvelopeFile } from "./release-files.ts";

/** Files by which evidence is judged. */
export interface JudgedBy {
  image: string[];
  kit?: string;
  policy?: string;
  collateral?: string;
  revocation: string[];
}

/** Policy, references and collateral of a kit or an image directory, where one is named. */
export const filesOf = <Given extends JudgedBy>(given: Given): Given =>
  given.kit === undefined ? expandImages(given) : withKit(given, given.kit);

/** Says which files the evidence is judged by, and who wrote them: nothing is picked up silently. */
function sayJudgedBy(writer: string, { policy, image, collateral }: JudgedBy): void {
  const files = { policy, references: image.join(", "), collateral };
  const rows = Object.entries(files).flatMap(([name, path]) =>
    path === undefined || path === "" ? [] : [`  ${name.padEnd(10)}  ${path}\n`],
  );
  process.stderr.write(`judged by what ${writer} wrote:\n${rows.join("")}`);
}

/** A kit stands for its policy, references and collateral. Beside it none of them can be named. */
function withKit<Given extends JudgedBy>(given: Given, directory: string): Given {
  if (given.policy !== undefined || given.image.length > 0) {
    throw new UsageError(
      "a kit has a policy and reference values of its own",
      "leave out --policy and --image",
    );
  }
  const kit = readKit(directory);
  const collateral = given.collateral ?? kit.collateral;
  const options: Given = {
    ...given,
    policy: kit.policy,
    image: [kit.references],
    ...(collateral !== undefined && { collateral }),
  };
  sayJudgedBy("the kit's publisher", options);
  return options;
}

/** An image directory stands for what `caisson up` left beside it for a verifier, where nothing else is named. */
function expandImages<Given extends JudgedBy>(options: Given): Given {
  const [directory, ...others] = options.image.filter((path) =>
    statSync(path, { throwIfNoEntry: false })?.isDirectory(),
  );
  if (directory === undefined) return options;
  if (others.length > 0)
    throw new UsageError("--image takes one directory", "or several files of reference values");
  const state = `${directory.replace(/\/+$/, "")}.state`;
  const expanded = {
    ...options,
    image: options.image.map((path) => (path === directory ? join(state, "references.json") : path)),
    policy: options.policy ?? join(state, "policy.json"),
    collateral: options.collateral ?? join(state, "collateral", "simulated.json"),
  };
  const missing = [...expanded.image, expanded.policy].find((path) => !existsSync(path));
  if (missing !== undefined) {
    throw new UsageError(
      `${directory} has no ${missing} beside it: no machine was started from it here`,
      "--kit DIR (caisson publish), or --policy FILE with --image FILE",
    );
  }
  sayJudgedBy("caisson up, beside the image,", expanded);
  return expanded;
}

/** By what a guest is judged that is asked itself. Throws UsageError without a policy. */
export async function judgementOf(options: JudgedBy, now: Date) {
  const collateral = readCollateralFiles(options.collateral);
  if (options.policy === undefined) {
    throw new UsageError(
      "a running application is judged by a policy",
      "add --kit DIRECTORY, --policy FILE, or --image DIRECTORY",
    );
  }
  const policy = readPolicyFile(options.policy);
  const releases = releaseJudge(await knownReleases(policy, {}, options.revocation), provenanceJudge);
  return { policy, references: readReferenceFiles(options.image), now, releases, ...collateral };
}

/** What revocations that are named here say of the policy's application, whatever its evidence carries. */
export async function knownReleases(
  { app }: Policy,
  { release }: { release?: unknown },
  revocations: readonly string[],
): Promise<(id: string) => KnownReleases> {
  if (revocations.length === 0) return () => ({});
  if (app?.identity === undefined) {
    throw new UsageError("a revocation is of an application's releases", "a policy with app.identity");
  }
  const { id } = app.identity;
  let floor = emptyFloor;
  try {
    const { identity, generations } = readBundle(release);
    const known = { id, identity: await followIdentity(id, identity, generations) };
    for (const path of revocations) {
      floor = await revoke(floor, await readStatement("revocation", readEnvelopeFile(path)), known);
    }
  } catch (error) {
    // A bundle that is wrong is in the report; a revocation that is, is an error of whoever names it.
    if (!(error instanceof ReleaseError) || !/^(?:bundle|identity)\//.test(error.code)) throw error;
  }
  return () => ({ floor });
}

/** From a file, or fetched where that is asked for: who judges offline is asked nothing. */
export async function findCollateral(
  evidence: AnyEvidence,
  options: Pick<JudgedBy, "collateral"> & SourceOptions,
  now: Date,
) {
  if (options.collateral !== "fetch") return readCollateralFiles(options.collateral);
  const { provenance, document: _, ...found } = await collateralFor(evidence, sourceOptions(options, now));
  sayProvenance(provenance);
  return found;
}
