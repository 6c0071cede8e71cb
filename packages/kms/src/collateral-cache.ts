/**
 * Collateral for a guest's evidence: the operator's own where there is some for the platform, otherwise what the
 * guest brought; verified once and kept.
 *
 * Own collateral goes first because a host may bring documents that are old and yet not expired, from before a TCB
 * recovery (policies can also demand a least evaluation number). Validity in time is checked again at every use, by
 * verify, so that keeping verified collateral never makes it live longer.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Collateral, Evidence, TrustAnchor } from "@caisson/verify";
import {
  parseChain,
  readCollateral,
  type VerifiedCollateral,
  verifyCollateral,
} from "@caisson/verify/collateral";
import { parsePckExtension } from "@caisson/verify/pck";
import { parseQuote } from "@caisson/verify/quote";
import { KmsError } from "./errors.ts";

/** Kept verified collateral; one set is about 100 kB. */
const capacity = 64;

export class CollateralCache {
  readonly #own: ReadonlyMap<string, Collateral>;
  readonly #verified = new Map<string, VerifiedCollateral>();

  /** `own` by FMSPC (`loadCollateral`). */
  constructor(own: ReadonlyMap<string, Collateral> = new Map()) {
    this.#own = own;
  }

  /** Verified collateral for this evidence under this root; undefined where there is none. Throws VerifyError. */
  async find(evidence: Evidence, trust: TrustAnchor, now: Date): Promise<VerifiedCollateral | undefined> {
    const collateral = (this.#own.size > 0 && this.#own.get(platformOf(evidence))) || evidence.collateral;
    if (collateral === undefined) return undefined;
    const key = createHash("sha256").update(trust.rootKey).update(JSON.stringify(collateral)).digest("hex");
    const known = this.#verified.get(key);
    if (known !== undefined) return known;
    const verified = await verifyCollateral(collateral, now, trust);
    if (this.#verified.size >= capacity) this.#verified.delete(this.#verified.keys().next().value!);
    this.#verified.set(key, verified);
    return verified;
  }
}

/** FMSPC of the platform that a quote's PCK certificate names; the certificate is verified later. */
function platformOf({ quote }: Evidence): string {
  const { pckChain } = parseQuote(quote);
  const [leaf] = pckChain === undefined ? [] : parseChain(pckChain, 3, "the PCK chain");
  return leaf?.sgxExtension === undefined ? "" : parsePckExtension(leaf.sgxExtension).fmspc;
}

/** Collateral documents (`*.json`) of a directory, by FMSPC. Throws KmsError "collateral/malformed". */
export function loadCollateral(directory: string): Map<string, Collateral> {
  if (!existsSync(directory)) {
    throw new KmsError("collateral/malformed", `there is no directory ${directory}`);
  }
  const own = new Map<string, Collateral>();
  for (const name of readdirSync(directory)
    .filter((name) => name.endsWith(".json"))
    .sort()) {
    const path = join(directory, name);
    try {
      const collateral = readCollateral(JSON.parse(readFileSync(path, "utf8")));
      const { fmspc } = JSON.parse(collateral.tcb_info) as { fmspc: unknown };
      own.set(String(fmspc).toLowerCase(), collateral);
    } catch (error) {
      throw new KmsError("collateral/malformed", `${path}: ${(error as Error).message}`);
    }
  }
  return own;
}
