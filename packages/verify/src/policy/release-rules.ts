// SPDX-License-Identifier: Apache-2.0
/**
 * Whether the application's owners released the image that was measured: the judgement of `@caisson/releases` over the
 * bundle that evidence carries. An entry of its own (`@caisson/verify/releases`), so that a verifier of images without an
 * identity does not carry it.
 */

import {
  type AcceptedRelease,
  emptyFloor,
  type Floor,
  type Followed,
  judgeBundle,
  ReleaseError,
  readBundle,
  type Statement,
} from "@caisson/releases";
import type { ProvenanceJudge } from "@caisson/releases/provenance";
import { toHex } from "@caisson/vocabulary/bytes";
import { sha256 } from "@caisson/vocabulary/merkle";
import { VerifyError } from "../errors.ts";
import type { ReleaseJudge, ReleaseQuestion } from "./acceptable.ts";
import { imageRegisters, readReferences } from "./reference.ts";

/** What is known of an application beside what its evidence carries. */
export interface KnownReleases {
  floor?: Floor;
  followed?: Followed;
  rebuilds?: readonly Statement<"rebuild">[];
}

/** Default of `maximumAge`: how old a quorum's view of the log may be. */
const dayMs = 24 * 3600 * 1000;

/**
 * Judges releases by the bundle in evidence and by what `known` says of the application (id in hex). `provenance` judges
 * who built them (`@caisson/provenance`); without it, what a policy demands of that is missed.
 */
export function releaseJudge(
  known: (id: string) => KnownReleases = () => ({}),
  provenance?: ProvenanceJudge,
): ReleaseJudge {
  return async (question): Promise<AcceptedRelease> => {
    const { rules, now, description } = question;
    const bundle = readBundle(question.bundle);
    const { floor = emptyFloor, followed, rebuilds = [] } = known(rules.id);
    const accepted = await judgeBundle(bundle, {
      id: rules.id,
      measured: { manifest: await measuredManifest(bundle.manifest, question), description },
      now,
      floor,
      maximumLogAgeMs: rules.maximumAge === undefined ? dayMs : rules.maximumAge * 1000,
      rebuilds,
      demands: rules,
      ...(followed !== undefined && { followed }),
    });
    if (rules.provenance !== undefined) {
      if (bundle.provenance === undefined || provenance === undefined) {
        throw new ReleaseError(
          "provenance/missing",
          provenance === undefined
            ? "this verifier judges no provenance"
            : "the evidence carries no provenance",
          { expected: rules.provenance.workflow },
        );
      }
      // What owners signed is the manifest that was measured.
      const [manifest] = accepted.release.subjects as [string];
      await provenance(bundle.provenance, { ...rules.provenance, manifest });
    }
    return accepted;
  };
}

/** SHA-256 of the manifest, if its measurements are the registers of the quote; what is wrong with it otherwise. */
async function measuredManifest(
  manifest: Uint8Array | undefined,
  { registers, platform }: ReleaseQuestion,
): Promise<string> {
  if (manifest === undefined) return "unknown: the bundle carries no manifest";
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(manifest));
  } catch {
    throw new ReleaseError("bundle/malformed", "the manifest in the bundle is not JSON");
  }
  let known: boolean;
  try {
    known = readReferences(document, "manifest")
      .filter((reference) => reference.platform === platform)
      .some((reference) => imageRegisters.every((name) => reference.registers[name] === registers[name]));
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    throw new ReleaseError("bundle/malformed", error.message);
  }
  if (!known) return "of another image: its registers are not those of the quote";
  return toHex(await sha256(manifest));
}
