// SPDX-License-Identifier: Apache-2.0
/** Writes `caisson/evidence/v1`: the opposite of reading it, for evidence that came in another form. */
import { toBase64, toHex } from "@caisson/vocabulary/bytes";
import { toPem } from "../../pki/der-writer.ts";
import type { Evidence, ReportDataClaim, SnpEvidence } from "../evidence.ts";
import type { EvidenceDocument, SnpDocument } from "./caisson.ts";

/** What the report data binds. Throws RangeError for a claim of Tinfoil's, for which a document has no place. */
function claimOf(claim: ReportDataClaim | undefined): EvidenceDocument["reportData"] {
  const scheme = claim?.scheme ?? "raw";
  if (scheme === "tinfoil/v1") throw new RangeError("a document has no place for a claim of Tinfoil's");
  const fields = Object.entries(claim?.fields ?? {}).map(([name, value]) => [name, toHex(value)] as const);
  return { scheme, fields: Object.fromEntries(fields) };
}

/**
 * The document for evidence whose boot log, if any, is in firmware's form. Throws RangeError for events that are encoded
 * otherwise than a Caisson guest does, and for a virtual TPM's quote.
 */
export function writeEvidenceDocument(evidence: Evidence): EvidenceDocument {
  const {
    platform,
    quote,
    bootLog,
    runtimeEvents = [],
    reportData,
    collateral,
    manifest,
    hcl,
    release,
  } = evidence;
  if (runtimeEvents.some(({ encoding }) => encoding === 2)) {
    throw new RangeError("a document has no place for events of dstack's second version");
  }
  if (hcl !== undefined) throw new RangeError("a document has no place for a virtual TPM's quote");
  return {
    version: "caisson/evidence/v1",
    platform,
    quote: toBase64(quote),
    ...(bootLog?.format === "tcg2" ? { bootLog: toBase64(bootLog.bytes) } : {}),
    runtimeEvents: runtimeEvents.map(({ name, payload }) => ({ name, payload: toHex(payload) })),
    reportData: claimOf(reportData),
    ...(collateral === undefined ? {} : { collateral }),
    ...(manifest === undefined ? {} : { manifest }),
    ...(release === undefined ? {} : { release }),
  };
}

/** The same for a SEV-SNP report. Throws RangeError for a virtual TPM's quote. */
export function writeSnpDocument({ report, collateral, reportData, hcl }: SnpEvidence): SnpDocument {
  if (hcl !== undefined) throw new RangeError("a document has no place for a virtual TPM's quote");
  const { endorsement, chain, crl } = collateral ?? {};
  return {
    version: "caisson/evidence/v1",
    platform: "snp",
    report: toBase64(report),
    ...(reportData && { reportData: claimOf(reportData) }),
    ...(collateral && {
      collateral: {
        version: "caisson/amd-collateral/v1",
        ...(endorsement && { endorsement: toPem(endorsement) }),
        ...(chain && { chain: toPem(...chain) }),
        ...(crl && { crl: toHex(crl) }),
      },
    }),
  };
}
