// SPDX-License-Identifier: Apache-2.0
/** Intel evidence that is minted for a test: right but for what the test changes. */

import { issueCertificate } from "@caisson/simulated/certificates";
import { type Hierarchy, hierarchy, type Minted, mint } from "@caisson/simulated/pki";
import { issueQuote, type QuoteFormat, type TdSpec } from "@caisson/simulated/quotes";
import type { ErrorCode } from "../errors.ts";
import type { Collateral } from "../intel/collateral.ts";
import type { TrustAnchor } from "../pki/chain.ts";

export const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
export const now = new Date("2026-06-01T00:00:00Z");

export interface RefusalCase {
  name: string;
  code: ErrorCode;
  format?: QuoteFormat;
  /** Changes what is signed. */
  before?: (h: Hierarchy) => void;
  /** Changes what was signed. */
  chain?: (minted: Minted, h: Hierarchy) => string;
  collateral?: (collateral: Collateral, h: Hierarchy) => Partial<Collateral>;
  quote?: (quote: Uint8Array) => Uint8Array;
  td?: Partial<TdSpec>;
  now?: Date;
  trust?: TrustAnchor;
}

/** Evidence as `change` makes it, and what is needed to judge it. */
export function buildEvidence(change: Omit<RefusalCase, "name" | "code">) {
  const format = change.format ?? "td15-v5";
  const h = hierarchy("refusals", times, format === "sgx-v3" ? "sgx" : "tdx");
  const trust: TrustAnchor = { name: "test root", rootKey: h.keys.root.publicKey };
  change.before?.(h);
  const minted = mint(h);
  const quote = issueQuote(h, change.chain?.(minted, h) ?? minted.pckChain, change.td, format);
  return {
    quote: change.quote?.(quote) ?? quote,
    collateral: { ...minted.collateral, ...change.collateral?.(minted.collateral, h) } as Collateral,
    now: change.now ?? now,
    trust: change.trust ?? trust,
    root: issueCertificate(h.root),
  };
}
