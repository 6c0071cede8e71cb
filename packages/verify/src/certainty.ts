// SPDX-License-Identifier: Apache-2.0
/**
 * When a refusal says nothing about a quote. A forged quote is one thing; collateral that is missing, malformed, expired or
 * another platform's is another, and so are a certificate outside its days and a form that is not judged here: the same quote
 * may be found genuine with better collateral, at another time or by a newer verifier, and the answer is then that nobody can
 * tell. What is certain wins: where anything else is wrong besides, whatever vouched for the evidence, it stays refused.
 */
import type { CheckCode } from "./errors.ts";

/** Forms that are newer than this verifier, as far as it can say. */
export const notJudgedHere: readonly CheckCode[] = [
  "quote/unsupported",
  "snp/version",
  "snp/algorithm",
  "snp/reserved",
  "snp/signing-key",
];

/**
 * Codes that are about the collateral wherever they come from: its documents, that they are of another platform, that they
 * do not know this TDX module yet.
 */
const aboutCollateral: readonly CheckCode[] = [
  "collateral/missing",
  "collateral/malformed",
  "json/malformed",
  "crl/missing",
  "crl/malformed",
  "crl/issuer",
  "crl/signature",
  "crl/not-yet-valid",
  "crl/expired",
  "crl/extension",
  "tcb-info/signature",
  "tcb-info/malformed",
  "tcb-info/version",
  "tcb-info/not-yet-valid",
  "tcb-info/expired",
  "tcb-info/tee",
  "tcb-info/fmspc",
  "tcb-info/pceid",
  "qe-identity/signature",
  "qe-identity/malformed",
  "qe-identity/version",
  "qe-identity/not-yet-valid",
  "qe-identity/expired",
  "qe/tee",
  "tdx-module/unknown",
  "snp/product",
  "snp/endorsement-kind",
  "snp/reported-tcb",
  "snp/chip-id",
  // A genuine quote beside a set of Intel's that is older than the policy asks for.
  "policy/tcb-evaluation",
];

/** A certificate outside its days says nothing of what it signed; Nitro's are judged at the time that they signed. */
const ofTheDay: readonly CheckCode[] = ["chain/expired", "chain/not-yet-valid", "nitro/future"];

const undetermined: ReadonlySet<CheckCode> = new Set([...notJudgedHere, ...aboutCollateral, ...ofTheDay]);

/** What is being judged: the evidence, what vouches for it, or certificates at their own time. */
export type Judging = "quote" | "collateral" | "past";

/** Whether a refusal says nothing of the evidence. Codes of certificates may mean either side's. */
export const saysNothing = (code: CheckCode, judging: Judging): boolean =>
  judging === "collateral" || (undetermined.has(code) && !(judging === "past" && code.startsWith("chain/")));
