// SPDX-License-Identifier: Apache-2.0
/** A running guest's report about itself, checked: it comes from a machine that may be anybody's. */
import { type LiveReport, liveReportSchema } from "@caisson/protocol/live-report";
import { AuditError } from "./errors.ts";

/** Checks a parsed report. Throws AuditError `live/schema` with the field. */
export function parseLiveReport(value: unknown): LiveReport {
  const result = liveReportSchema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new AuditError(
    "live/schema",
    `this is not a live report: ${issue?.path.join(".") || "the document"}: ${issue?.message}`,
    { fix: "a development guest serves it: GET /live on its application socket" },
  );
}
