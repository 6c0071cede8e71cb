// SPDX-License-Identifier: Apache-2.0
/** What judging evidence depends on by platform: which root must vouch for a quote, and how its boot log is meant. */
import type { Indexing } from "@caisson/measure";
import { fromHex } from "@caisson/vocabulary/bytes";
import type { Platform, PlatformTable } from "@caisson/vocabulary/platforms";
import { intelRoot } from "./intel/roots.ts";
import type { TrustAnchor } from "./pki/chain.ts";
import { acceptedPlatforms, type Policy } from "./policy/policy.ts";

interface PlatformRow {
  /** The root that signs for the platform; undefined where only a policy can name it and this one does not. */
  root(policy: Policy): TrustAnchor | undefined;
  /** How the register indices in a boot log are meant. */
  logIndexing: Indexing;
}

export const platformRows: PlatformTable<PlatformRow> = {
  tdx: { root: () => intelRoot, logIndexing: "cc" },
  emulated: {
    root: ({ simulatedRoot }) =>
      simulatedRoot === undefined
        ? undefined
        : { name: "the simulated root that the policy names", rootKey: fromHex(simulatedRoot)! },
    // The log is a TPM's; its registers are folded from PCRs in edk2's mapping.
    logIndexing: "pcr",
  },
};

/** The root that must vouch for a platform; undefined where the policy does not accept the platform at all. */
export function trustAnchorFor(platform: Platform, policy: Policy): TrustAnchor | undefined {
  return acceptedPlatforms(policy).includes(platform) ? platformRows[platform].root(policy) : undefined;
}
