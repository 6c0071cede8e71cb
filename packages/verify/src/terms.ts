// SPDX-License-Identifier: Apache-2.0
/** What evidence, and what it is about, is called by those who make it: who holds a report of AMD's does not look for a quote. */
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
    const subject = /NitroTPM/.test(actual) ? "instance" : "enclave";
    return { evidence: "attestation document", subject, vendor: "AWS" };
  }
  const subject = /SGX$/.test(actual) ? "enclave" : "TD";
  return { evidence: "quote", subject, vendor: "Intel" };
}
