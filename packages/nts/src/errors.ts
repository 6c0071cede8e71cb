/** The one error class of this package. */

/** What can go wrong; stable, documented in docs/secure-time.md. */
export type NtsErrorCode =
  | "nts/configuration"
  | "siv/authentication"
  | "ke/lookup"
  | "ke/connect"
  | "ke/timeout"
  | "ke/tls"
  | "ke/alpn"
  | "ke/malformed"
  | "ke/critical"
  | "ke/refused"
  | "ke/negotiation"
  | "certificate/untrusted"
  | "certificate/name"
  | "certificate/purpose"
  | "certificate/weak"
  | "certificate/malformed"
  | "ntp/malformed"
  | "ntp/mismatch"
  | "ntp/authentication"
  | "ntp/nak"
  | "ntp/kiss"
  | "ntp/unsynchronized"
  | "ntp/no-cookie"
  | "ntp/timeout"
  | "ntp/socket"
  | "time/late"
  | "time/no-agreement";

/** A refused server, packet, certificate or configuration. `facts` and `fix` are for people, `code` for programs. */
export class NtsError extends Error {
  readonly code: NtsErrorCode;
  readonly kind: "rejected" | "input";
  readonly facts: readonly (readonly [label: string, value: string])[];
  readonly fix?: string;
  constructor(
    code: NtsErrorCode,
    message: string,
    more: { facts?: readonly (readonly [string, string])[]; fix?: string } = {},
  ) {
    super(message);
    this.code = code;
    this.kind = code === "nts/configuration" ? "input" : "rejected";
    this.facts = more.facts ?? [];
    if (more.fix !== undefined) this.fix = more.fix;
  }
}
