// SPDX-License-Identifier: Apache-2.0
/**
 * What evidence, and what it is about, is called by those who make it: who holds a report of AMD's does not look for a
 * quote.
 */
import { notJudgedHere } from "./certainty.ts";
import type { CheckCode } from "./errors.ts";
import type { Report } from "./report.ts";

export interface Terms {
  /** The evidence itself. */
  readonly evidence: string;
  /** What runs there. */
  readonly subject: string;
  /** Who vouches for it. */
  readonly vendor: "Intel" | "AMD" | "AWS";
}

/** By the first check, which every report has: that of the evidence's own form. */
export function termsOf({ checks }: Pick<Report, "checks">): Terms {
  const found = checks.find(({ id }) => id.endsWith("/format") && id !== "collateral/format");
  const actual = found?.actual ?? "";
  if (found?.id === "snp/format") return { evidence: "report", subject: "guest", vendor: "AMD" };
  if (found?.id === "nitro/format") {
    const subject = actual.includes("NitroTPM") ? "instance" : "enclave";
    return { evidence: "attestation document", subject, vendor: "AWS" };
  }
  const subject = actual.endsWith("SGX") ? "enclave" : "TD";
  return { evidence: "quote", subject, vendor: "Intel" };
}

/** Why nobody can tell, for people: by what was refused first. */
export type Doubt = "form" | "later" | "missing" | "day" | "collateral";

export function doubtOf(codes: readonly CheckCode[]): Doubt {
  if (codes.some((code) => notJudgedHere.includes(code))) return "form";
  const [first = ""] = codes;
  if (first === "nitro/future") return "later";
  if (first.endsWith("/missing")) return "missing";
  return /\/(?:expired|not-yet-valid)$/.test(first) ? "day" : "collateral";
}
