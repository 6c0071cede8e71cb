// SPDX-License-Identifier: Apache-2.0
import { Failure } from "@caisson/vocabulary/failure";

export type AcmeErrorCode =
  | "acme/account"
  | "acme/certificate"
  | "acme/challenge"
  | "acme/late"
  | "acme/protocol"
  | "acme/refused"
  | "acme/unreachable";

const kinds = {
  "acme/account": "unavailable",
  "acme/certificate": "rejected",
  "acme/challenge": "unsupported",
  "acme/late": "unavailable",
  "acme/protocol": "rejected",
  "acme/refused": "rejected",
  "acme/unreachable": "unavailable",
} as const;

/** There is no public certificate, and why; the self-signed one stays, or the one before. */
export class AcmeError extends Failure<AcmeErrorCode, "unavailable" | "rejected" | "unsupported"> {
  override readonly name = "AcmeError";
  constructor(code: AcmeErrorCode, message: string, cause?: unknown) {
    super(code, kinds[code], message, cause === undefined ? {} : { cause });
  }
}
