// SPDX-License-Identifier: Apache-2.0
/** What a release is decided by in tests: nothing limits it, nothing is known before, and there are no volumes. */
import { Signatures } from "@caisson/verify";
import { Applications } from "../applications.ts";
import { CollateralCache } from "../collateral-cache.ts";
import { Nonces } from "../nonces.ts";
import { Bucket } from "../rate-limit.ts";
import type { ReleaseContext } from "../release.ts";
import { Roots } from "../roots.ts";

type Given = Pick<ReleaseContext, "identity" | "policies" | "store" | "now"> & Partial<ReleaseContext>;

/** `secret` is the root secret, 32 bytes; what is given counts, the rest begins empty. */
export function releaseContext(secret: Uint8Array, given: Given): ReleaseContext {
  const nothing = { read: async (names: readonly unknown[]) => names.map(() => undefined) };
  return {
    roots: new Roots(secret, nothing),
    collateral: new CollateralCache(),
    platforms: new Signatures(),
    denials: new Bucket({ perSecond: 1, burst: 3 }, given.now()),
    nonces: new Nonces(secret),
    volumes: { open: () => Promise.reject(new Error("no volumes")) },
    applications: new Applications(nothing),
    ...given,
  };
}
