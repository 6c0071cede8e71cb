// SPDX-License-Identifier: Apache-2.0
/**
 * When a refusal says nothing about a quote. A forged quote is one thing; collateral that is missing, malformed, expired or
 * another platform's is another: the same quote may be found genuine with better collateral, and the answer is then that
 * nobody can tell.
 */
import type { CheckCode } from "./errors.ts";
import type { Answers, Check } from "./report.ts";

/** Codes that are about the collateral wherever they come from: its documents, or that they are of another platform. */
const aboutCollateral: ReadonlySet<CheckCode> = new Set<CheckCode>([
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
  "snp/product",
  "snp/endorsement-kind",
  "snp/reported-tcb",
  "snp/chip-id",
]);

/**
 * Whether the one check that stopped the question "is it genuine?" stopped it for the collateral's sake. Codes of
 * certificates may mean either side's; a revocation stands for itself in both.
 */
export function cannotTell(checks: readonly Check[], judging: Answers["judging"]): boolean {
  const failed = checks.find(({ outcome }) => outcome === "fail")?.code;
  if (failed === undefined) return false;
  return aboutCollateral.has(failed) || (judging === "collateral" && failed !== "certificate/revoked");
}
