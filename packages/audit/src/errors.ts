// SPDX-License-Identifier: Apache-2.0
/** The one error class of this package. A finding is not an error: these say why there could be none. */
import { Failure, type FailureDetails } from "@caisson/vocabulary/failure";

export type AuditErrorCode =
  // Something that was to be audited cannot be read.
  | "image/missing"
  | "image/manifest"
  | "image/kernel"
  | "image/rootfs"
  | "image/guest"
  | "live/schema"
  | "live/unreachable"
  | "evidence/report"
  | "kernel/config"
  | "firmware/input"
  // The audit's own inputs.
  | "baseline/schema"
  | "baseline/unknown-control"
  | "audit/unknown-control"
  | "audit/subject"
  // A required control failed, or a kernel was refused.
  | "audit/failed"
  | "kernel/refused";

export class AuditError extends Failure<AuditErrorCode, "rejected" | "input" | "usage" | "unavailable"> {
  override readonly name = "AuditError";
  constructor(
    code: AuditErrorCode,
    message: string,
    details: FailureDetails<"rejected" | "usage" | "unavailable"> = {},
  ) {
    super(code, details.kind ?? "input", message, details);
  }
}
