// SPDX-License-Identifier: Apache-2.0
/** What a release is decided by in tests. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { Signatures } from "@caisson/verify";
import { Applications } from "../applications.ts";
import { CollateralCache } from "../collateral-cache.ts";
import { Nonces } from "../nonces.ts";
import { loadPolicies } from "../policies.ts";
import type { PolicySet } from "../policy-set.ts";
import { Bucket } from "../rate-limit.ts";
import type { ReleaseContext } from "../release.ts";
import { Roots } from "../roots.ts";
import { Signer } from "../signer.ts";
import type { LogEntry } from "../store/entries.ts";
import type { Commit, Committed } from "../store/store.ts";

type Given = Pick<ReleaseContext, "identity" | "policies" | "store" | "now"> & Partial<ReleaseContext>;

/**
 * `secret` is the root secret, 32 bytes. But for what is given, nothing limits a release, nothing is known before, and there
 * are not volumes.
 */
export function releaseContext(secret: Uint8Array, given: Given): ReleaseContext {
  const nothing = { read: async (names: readonly unknown[]) => names.map(() => undefined) };
  return {
    roots: new Roots(secret, nothing),
    signer: new Signer(given.identity),
    collateral: new CollateralCache(),
    platforms: new Signatures(),
    denials: new Bucket({ perSecond: 1, burst: 3 }, 0),
    nonces: new Nonces(secret, () => 0),
    volumes: { open: () => Promise.reject(new Error("no volumes")) },
    applications: new Applications(nothing),
    elapsed: given.now,
    ...given,
  };
}

/** A KMS, and the entries that its store was given. */
export interface Recorded {
  context: ReleaseContext;
  log: LogEntry[];
}

/** A context whose store remembers the entries alone. */
export function recordedContext(secret: Uint8Array, given: Omit<Given, "store">): Recorded {
  const log: LogEntry[] = [];
  const commit = async ({ entry }: Commit): Promise<Committed> => {
    if (entry !== undefined) log.push({ ...entry });
    return "done";
  };
  return { context: releaseContext(secret, { ...given, store: { commit } }), log };
}

/** A directory that goes with the test. */
export function directoryOf(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "caisson-kms-"));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

/** The policies of a KMS with this identity key (hex) and one file. */
export function policiesOf(t: TestContext, file: object, kms: string, development = true): PolicySet {
  const directory = directoryOf(t);
  writeFileSync(join(directory, "app.json"), JSON.stringify(file));
  return loadPolicies(directory, kms, development);
}
