// SPDX-License-Identifier: Apache-2.0
import { Failure, type FailureDetails } from "@caisson/vocabulary/failure";

/** Errors of starting and running machines on this host. */
export type HostErrorCode =
  | "host/missing-program"
  | "host/program-failed"
  | "host/vm-ended"
  | "host/time-limit"
  | "host/unsupported";

/** Why a machine could not be started or did not do what it was started for. */
export class HostError extends Failure<HostErrorCode, "unsupported" | "internal"> {
  override readonly name = "HostError";
  constructor(code: HostErrorCode, message: string, details: Omit<FailureDetails, "kind"> = {}) {
    const missing = code === "host/missing-program" || code === "host/unsupported";
    super(code, missing ? "unsupported" : "internal", message, details);
  }
}
