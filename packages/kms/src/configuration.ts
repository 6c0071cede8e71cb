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
import { loadPoliciesInTurns } from "./policies.ts";
import { PolicySet } from "./policy-set.ts";
import type { RowChange } from "./store/store.ts";

export interface Configuration {
  policies: PolicySet;
  /** Those of them that are files. */
  files: PolicySet;
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

/** The policies that operators signed (operators.ts). */
interface Signed {
  policies: PolicySet;
  guard?: RowChange;
}

/** Reads everything, as it must be at `now`, beside what operators signed. Throws KmsError `policy/…` or `collateral/…`. */
export async function loadConfiguration(
  source: ConfigurationSource,
  now: Date,
  signed: Signed,
): Promise<Configuration> {
  const files: PolicySet =
    source.policies === undefined
      ? new PolicySet()
      : await loadPoliciesInTurns(source.policies, source.identityKey, source.development);
  const policies = together(source, files, signed);
  return configured(files, policies, signed, await collateralFor(source, policies, now));
}

/**
 * What operators signed since `before`, beside the files as they were: those are taken when somebody says so, and may be
 * half done now. Throws KmsError as `loadConfiguration`.
 */
export async function followConfiguration(
  source: ConfigurationSource,
  now: Date,
  signed: Signed,
  before: Configuration,
): Promise<Configuration> {
  const policies = together(source, before.files, signed);
  const same = rootsOf(policies) === rootsOf(before.policies);
  if (same) source.fetched?.expect(policies.platforms());
  const collateral = same ? before.collateral : await collateralFor(source, policies, now);
  return configured(before.files, policies, signed, collateral);
}

const configured = (
  files: PolicySet,
  policies: PolicySet,
  { guard }: Signed,
  collateral: CollateralCache,
): Configuration => ({ files, policies, collateral, ...(guard !== undefined && { guard }) });

const rootsOf = (policies: PolicySet): string =>
  policies
    .roots()
    .map(({ rootKey }) => rootKey.toHex())
    .sort()
    .join();

function together(source: ConfigurationSource, files: PolicySet, { policies: signed }: Signed): PolicySet {
  if (signed.size === 0) return files;
  if (files.size === 0) return signed;
  const twice = files.common(signed);
  if (twice === undefined) return new PolicySet(files, signed);
  throw new KmsError(
    "policy/duplicate",
    `app ${twice} has a policy in ${source.policies}, and one that operators signed`,
    {
      fix: "remove the file, or have operators remove theirs",
    },
  );
}

async function collateralFor(
  { collateral, fetched, development }: ConfigurationSource,
  policies: PolicySet,
  now: Date,
): Promise<CollateralCache> {
  if (collateral === undefined) {
    fetched?.expect(policies.platforms());
    return new CollateralCache(new Map(), fetched);
  }
  return new CollateralCache(await loadCollateral(collateral, policies.roots(), now, development));
}
