// SPDX-License-Identifier: Apache-2.0
/**
 * Collateral for evidence, from those who publish it or from a mirror. Asking tells the source which platform or chip somebody
 * looks at; a mirror of one's own hides that.
 */
import { type AmdCollateral, type AnyEvidence, type Collateral, parseQuote } from "@caisson/verify";
import { pckExtension } from "@caisson/verify/pck";
import { parsePemChain } from "@caisson/verify/pem";
import { type AmdOptions, amdPlatformOf, fetchAmd } from "./amd.ts";
import { CollateralError } from "./errors.ts";
import { fetchIntel, type IntelOptions, type IntelPlatform } from "./intel.ts";
import type { Provenance } from "./kept.ts";

export { type AmdOptions, type AmdPlatform, amdPlatformOf, fetchAmd } from "./amd.ts";
export type { World } from "./ask.ts";
export { CollateralError, type CollateralErrorCode } from "./errors.ts";
export {
  checkSource,
  type Fetched,
  fetchIntel,
  type IntelOptions,
  type IntelPlatform,
  sourceBase,
} from "./intel.ts";
export { type CollateralStore, isDue, type Provenance } from "./kept.ts";

/** Either vendor's, as `verify` takes it; `document` is what a file of it holds. */
export interface FetchedCollateral {
  collateral?: Collateral;
  amdCollateral?: AmdCollateral;
  document: object;
  provenance: Provenance[];
}

/** The platform that a quote names. Throws VerifyError for what is not one, CollateralError "collateral/platform". */
export function intelPlatformOf(quote: Uint8Array): IntelPlatform {
  const { pckChain, body } = parseQuote(quote);
  const [leaf, ca] = pckChain === undefined ? [] : parsePemChain(pckChain);
  const pck = leaf && pckExtension(leaf);
  if (pck === undefined || ca === undefined) {
    throw new CollateralError(
      "collateral/platform",
      "unsupported",
      "this quote does not name its platform: it has no PCK chain",
      {
        fix: "name it: --fmspc",
      },
    );
  }
  return { tee: body.tee, fmspc: pck.fmspc, ca: /Processor/.test(ca.commonName) ? "processor" : "platform" };
}

/** Fetches what vouches for this evidence. Throws CollateralError; VerifyError for what is not a quote or a report. */
export async function collateralFor(
  evidence: AnyEvidence,
  options: Omit<IntelOptions, "trust"> & AmdOptions & Pick<IntelOptions, "trust">,
): Promise<FetchedCollateral> {
  if (evidence.platform === "snp") {
    const { collateral, document, provenance } = await fetchAmd(amdPlatformOf(evidence), options);
    return { amdCollateral: collateral, document, provenance };
  }
  if (evidence.platform === "emulated" || evidence.platform === "nitro") {
    const kind = evidence.platform === "nitro" ? "documents of AWS Nitro" : "emulated evidence";
    throw new CollateralError(
      "collateral/platform",
      "unsupported",
      `nobody publishes collateral for ${kind}`,
      {
        fix: "it carries its own",
      },
    );
  }
  const { collateral, provenance } = await fetchIntel(intelPlatformOf(evidence.quote), options);
  return { collateral, document: collateral, provenance };
}
