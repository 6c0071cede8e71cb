// SPDX-License-Identifier: Apache-2.0
import { toBase64, toHex } from "@caisson/vocabulary/bytes";
import type { Evidence } from "../evidence/evidence.ts";
import type { EvidenceDocument } from "../evidence/formats/caisson.ts";

/**
 * The document for evidence whose boot log, if any, is in firmware's form. The opposite of reading. Throws RangeError for
 * events that are encoded otherwise than a Caisson guest does.
 */
export function writeEvidenceDocument(evidence: Evidence): EvidenceDocument {
  const { platform, quote, bootLog, runtimeEvents = [], reportData, collateral, manifest } = evidence;
  if (runtimeEvents.some(({ encoding }) => encoding === 2)) {
    throw new RangeError("a document has no place for events of dstack's second version");
  }
  const scheme = reportData?.scheme ?? "raw";
  if (scheme === "tinfoil/v1") throw new RangeError("a document has no place for a claim of Tinfoil's");
  const fields = Object.entries(reportData?.fields ?? {}).map(
    ([name, value]) => [name, toHex(value)] as const,
  );
  return {
    version: "caisson/evidence/v1",
    platform,
    quote: toBase64(quote),
    ...(bootLog?.format === "tcg2" ? { bootLog: toBase64(bootLog.bytes) } : {}),
    runtimeEvents: runtimeEvents.map(({ name, payload }) => ({ name, payload: toHex(payload) })),
    reportData: { scheme, fields: Object.fromEntries(fields) },
    ...(collateral === undefined ? {} : { collateral }),
    ...(manifest === undefined ? {} : { manifest }),
  };
}
