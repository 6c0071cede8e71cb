/** The one error class of this package. A finding is no error: these say why there could be none. */

export type AuditErrorCode =
  // Something that was to be audited cannot be read.
  | "image/missing"
  | "image/manifest"
  | "image/kernel"
  | "image/rootfs"
  | "image/guest"
  | "live/schema"
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

export class AuditError extends Error {
  readonly code: AuditErrorCode;
  readonly kind: "rejected" | "input" | "usage";
  readonly facts: readonly (readonly [label: string, value: string])[];
  readonly fix?: string;
  constructor(
    code: AuditErrorCode,
    message: string,
    details: {
      kind?: "rejected" | "usage";
      facts?: readonly (readonly [label: string, value: string])[];
      fix?: string;
    } = {},
  ) {
    super(message);
    this.name = "AuditError";
    this.code = code;
    this.kind = details.kind ?? "input";
    this.facts = details.facts ?? [];
    if (details.fix !== undefined) this.fix = details.fix;
  }
}
