// SPDX-License-Identifier: Apache-2.0
import { Failure, type FailureDetails } from "@caisson/vocabulary/failure";

/** What an operator of a log, or whoever reads one, can find broken. Why an entry is refused is a ReleaseError. */
export type LogServiceErrorCode =
  | "log-service/listen"
  | "log-service/busy"
  | "log-service/damaged"
  | "log-service/unreachable"
  | "log-service/key"
  | "log-service/fork"
  | "log-service/shrunk"
  | "log-service/envelope"
  | "log-service/refused";

const rejected: ReadonlySet<LogServiceErrorCode> = new Set([
  "log-service/fork",
  "log-service/shrunk",
  "log-service/damaged",
  "log-service/envelope",
  "log-service/refused",
]);
const unavailable: ReadonlySet<LogServiceErrorCode> = new Set([
  "log-service/listen",
  "log-service/busy",
  "log-service/unreachable",
]);

export class LogServiceError extends Failure<LogServiceErrorCode, "rejected" | "input" | "unavailable"> {
  override readonly name = "LogServiceError";
  constructor(code: LogServiceErrorCode, message: string, details: Omit<FailureDetails, "kind"> = {}) {
    const kind = rejected.has(code) ? "rejected" : unavailable.has(code) ? "unavailable" : "input";
    super(code, kind, message, details);
  }
}
