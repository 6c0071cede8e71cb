/** Errors of starting and running machines on this host. */
export type HostErrorCode =
  | "host/missing-program"
  | "host/program-failed"
  | "host/vm-ended"
  | "host/time-limit"
  | "host/unsupported";

/** Why a machine could not be started or did not do what it was started for. */
export class HostError extends Error {
  readonly code: HostErrorCode;
  readonly kind: "unsupported" | "internal";
  readonly facts?: readonly (readonly [string, string])[];
  readonly fix?: string;
  constructor(
    code: HostErrorCode,
    message: string,
    more: { facts?: readonly (readonly [string, string])[]; fix?: string } = {},
  ) {
    super(message);
    this.code = code;
    this.kind = code === "host/missing-program" || code === "host/unsupported" ? "unsupported" : "internal";
    if (more.facts !== undefined) this.facts = more.facts;
    if (more.fix !== undefined) this.fix = more.fix;
  }
}
