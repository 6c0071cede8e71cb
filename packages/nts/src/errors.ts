// SPDX-License-Identifier: Apache-2.0
/** The one error class of this package. */
import { Failure, type FailureDetails } from "@caisson/vocabulary/failure";

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
export class NtsError extends Failure<NtsErrorCode, "rejected" | "input"> {
  override readonly name = "NtsError";
  constructor(code: NtsErrorCode, message: string, details: Omit<FailureDetails, "kind"> = {}) {
    super(code, code === "nts/configuration" ? "input" : "rejected", message, details);
  }
}
