// SPDX-License-Identifier: Apache-2.0
/**
 * Collateral for a guest's evidence: the operator's own where there is some for the platform, otherwise what the
 * guest brought; verified once and kept.
 *
 * Own collateral goes first because a host may bring documents that are old and yet not expired, from before a TCB
 * recovery (policies can also demand a least evaluation number). Validity in time is checked again at every use, by
 * verify, so that keeping verified collateral never makes it live longer.
 */

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type Evidence, type TrustAnchor, VerifyError } from "@caisson/verify";
import {
  type Collateral,
  parseChain,
  readCollateral,
  type VerifiedCollateral,
  verifyCollateral,
} from "@caisson/verify/collateral";
import { pckExtension } from "@caisson/verify/pck";
import { parseQuote } from "@caisson/verify/quote";
import { messageOf } from "@caisson/vocabulary/failure";
import type { CollateralSource } from "./collateral-source.ts";
import { KmsError } from "./errors.ts";
import { checkWriters, readClosed, type WritersCheck } from "./writers.ts";

/** Kept verified collateral of guests; one set is about 100 kB. */
const capacity = 64;

/** The operator's verified collateral, by root and platform (`placeOf`). */
export type OwnCollateral = ReadonlyMap<string, VerifiedCollateral>;

/** What a guest brought, under the root (hexadecimal) by which it was verified. */
interface Brought {
  by: Collateral;
  root: string;
  verified: VerifiedCollateral;
}

export class CollateralCache {
  readonly #own: OwnCollateral;
  readonly #source: CollateralSource | undefined;
  /** The newest use is last. */
  readonly #brought: Brought[] = [];

  /** Own collateral is in files, or comes from a source; `source` outlives this. */
  constructor(own: OwnCollateral = new Map(), source?: CollateralSource) {
    this.#own = own;
    this.#source = source;
  }

  /** Verified collateral for this evidence under this root; undefined where there is none. Throws VerifyError. */
  async find(evidence: Evidence, trust: TrustAnchor, now: Date): Promise<VerifiedCollateral | undefined> {
    const own = this.#own.size > 0 ? this.#own.get(placeOf(trust, platformOf(evidence))) : undefined;
    if (own !== undefined) return own;
    const fetched = await this.#source?.find(evidence, trust, now);
    if (fetched !== undefined) return fetched;
    const { collateral } = evidence;
    if (collateral === undefined) return undefined;
    const root = trust.rootKey.toHex();
    const isSame = (one: Brought) => one.root === root && equal(one.by, collateral);
    const verified = this.#brought.find(isSame)?.verified ?? (await verifyCollateral(collateral, now, trust));
    // Others may have asked meanwhile.
    const at = this.#brought.findIndex(isSame);
    if (at >= 0) this.#brought.splice(at, 1);
    this.#brought.push({ by: collateral, root, verified });
    if (this.#brought.length > capacity) this.#brought.shift();
    return verified;
  }

  /** When the first of the own documents expires, ms since 1970; undefined without own ones. */
  get validUntil(): number | undefined {
    if (this.#own.size === 0) return this.#source?.validUntil;
    return Math.min(...[...this.#own.values()].map(({ validUntil }) => validUntil));
  }
}

/** Text by text: cheaper by far than a hash of them, as nearly always all are those of the last guest. */
function equal(a: Collateral, b: Collateral): boolean {
  const fields = Object.keys(a) as (keyof Collateral)[];
  return fields.length === Object.keys(b).length && fields.every((field) => a[field] === b[field]);
}

const placeOf = (trust: TrustAnchor, fmspc: string) => `${trust.rootKey.toHex()} ${fmspc}`;

/** FMSPC of the platform that a quote's PCK certificate names; the certificate is verified later. */
function platformOf({ quote }: Evidence): string {
  const { pckChain } = parseQuote(quote);
  const [leaf] = pckChain === undefined ? [] : parseChain(pckChain, 3, "the PCK chain");
  return (leaf && pckExtension(leaf)?.fmspc) ?? "";
}

/**
 * The collateral documents (`*.json`) of a directory, each verified at `now`; `roots` are those that some policy accepts,
 * and a document under none of them is left out, because nothing could use it. Throws KmsError `collateral/…` where one
 * is not what it must be, is not valid at `now`, is for a platform that another is for, or can be written by others;
 * for a `development` KMS the directories above may be anybody's.
 */
export async function loadCollateral(
  directory: string,
  roots: readonly TrustAnchor[],
  now: Date,
  development: boolean,
): Promise<OwnCollateral> {
  const names = existsSync(directory) ? readdirSync(directory).filter((name) => name.endsWith(".json")) : [];
  if (names.length === 0) {
    throw new KmsError("collateral/malformed", `there is no collateral document (*.json) in ${directory}`);
  }
  // Who can write here can put back collateral from before a TCB recovery, or take it away.
  const writers = { code: "collateral/permissions", parents: !development } as const;
  checkWriters(directory, writers);
  const own = new Map<string, VerifiedCollateral>();
  for (const path of names.sort().map((name) => join(directory, name))) {
    const found = await verifyFile(path, writers, roots, now);
    if (found === undefined) continue;
    if (own.has(found.place)) {
      throw new KmsError("collateral/duplicate", `${path}: another file is for the same platform already`);
    }
    own.set(found.place, found.verified);
  }
  return own;
}

async function verifyFile(
  path: string,
  writers: WritersCheck,
  roots: readonly TrustAnchor[],
  now: Date,
): Promise<{ place: string; verified: VerifiedCollateral } | undefined> {
  try {
    const document = readCollateral(JSON.parse(readClosed(path, writers).toString("utf8")));
    for (const root of roots) {
      try {
        const verified = await verifyCollateral(document, now, root);
        return { place: placeOf(root, verified.at(now.getTime(), root).tcbInfo.fmspc), verified };
      } catch (error) {
        if (!(error instanceof VerifyError) || error.code !== "chain/untrusted-root") throw error;
      }
    }
    return undefined;
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const code = error instanceof VerifyError ? `   [${error.code}]` : "";
    throw new KmsError("collateral/malformed", `${path}: ${messageOf(error)}${code}`);
  }
}
