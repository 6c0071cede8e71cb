// SPDX-License-Identifier: Apache-2.0
/**
 * What an operator changes while a KMS runs: policies and collateral.
 *
 * Invariants: both are read together and replace the old ones together, or not at all; what cannot be read, does not
 * verify or has expired replaces nothing. The old ones then go on under their own dates, which are checked at every
 * release. Whoever judges a request takes `current` once.
 */
import { CollateralCache, loadCollateral } from "./collateral-cache.ts";
import type { CollateralSource } from "./collateral-source.ts";
import { KmsError } from "./errors.ts";
import { loadPolicies } from "./policies.ts";
import { PolicySet } from "./policy-set.ts";
import type { RowChange } from "./store/store.ts";

export interface Configuration {
  policies: PolicySet;
  collateral: CollateralCache;
  /** What must still be so when keys leave, where operators signed policies (operators.ts). */
  guard?: RowChange;
}

/** Where a configuration is read from, and for whom. */
export interface ConfigurationSource {
  /** Directory of policy files and manifests (policies.ts). */
  policies?: string;
  /** Directory of collateral documents (collateral-cache.ts). */
  collateral?: string;
  /** In place of that directory: what fetches and renews by itself. */
  fetched?: CollateralSource;
  /** The KMS's identity, hex. */
  identityKey: string;
  /** Allow policies that accept evidence of the emulated platform. */
  development: boolean;
}

/** Reads everything, as it must be at `now`, beside the policies that operators signed (operators.ts). Throws KmsError `policy/…` or `collateral/…`. */
export async function loadConfiguration(
  source: ConfigurationSource,
  now: Date,
  { policies: signed, guard }: { policies: PolicySet; guard?: RowChange } = { policies: new PolicySet() },
): Promise<Configuration> {
  const files =
    source.policies === undefined
      ? new PolicySet()
      : loadPolicies(source.policies, source.identityKey, source.development);
  const twice = (signed.size === 0 ? [] : [...files.apps()]).find((app) => signed.has(app));
  if (twice !== undefined) {
    throw new KmsError(
      "policy/duplicate",
      `app ${twice} has a policy in ${source.policies}, and one that operators signed`,
      {
        fix: "remove the file, or have operators remove theirs",
      },
    );
  }
  const policies = signed.size === 0 ? files : new PolicySet(files, signed);
  const guarded = guard === undefined ? {} : { guard };
  if (source.collateral === undefined) {
    source.fetched?.expect(policies.platforms());
    return { policies, collateral: new CollateralCache(new Map(), source.fetched), ...guarded };
  }
  const own = await loadCollateral(source.collateral, policies.roots(), now, source.development);
  return { policies, collateral: new CollateralCache(own), ...guarded };
}
