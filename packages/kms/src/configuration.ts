// SPDX-License-Identifier: Apache-2.0
/**
 * What an operator changes while a KMS runs: policies and collateral.
 *
 * Invariants: both are read together and replace the old ones together, or not at all; what cannot be read, does not
 * verify or has expired replaces nothing. The old ones then go on under their own dates, which are checked at every
 * release. Whoever judges a request takes `current` once.
 */
import { CollateralCache, loadCollateral } from "./collateral-cache.ts";
import { acceptedRoots, loadPolicies, type Policies } from "./policies.ts";

export interface Configuration {
  policies: Policies;
  collateral: CollateralCache;
}

/** Where a configuration is read from, and for whom. */
export interface ConfigurationSource {
  /** Directory of policy files and manifests (policies.ts). */
  policies: string;
  /** Directory of collateral documents (collateral-cache.ts). */
  collateral?: string;
  /** The KMS's identity, hex. */
  identityKey: string;
  /** Allow policies that accept evidence of the emulated platform. */
  development: boolean;
}

/** Reads everything, as it must be at `now`. Throws KmsError `policy/…` or `collateral/…`. */
export async function loadConfiguration(source: ConfigurationSource, now: Date): Promise<Configuration> {
  const policies = loadPolicies(source.policies, source.identityKey, source.development);
  if (source.collateral === undefined) return { policies, collateral: new CollateralCache() };
  const own = await loadCollateral(source.collateral, acceptedRoots(policies), now, source.development);
  return { policies, collateral: new CollateralCache(own) };
}
