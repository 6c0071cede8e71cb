// SPDX-License-Identifier: Apache-2.0
import { VerifyError } from "@caisson/verify";
import { Failure, type FailureDetails } from "@caisson/vocabulary/failure";

/** Why there is no collateral. A mirror is not trusted: what it sends is judged by its signatures, as everybody's. */
export type CollateralErrorCode =
  | "collateral/source"
  | "collateral/platform"
  | "collateral/unreachable"
  | "collateral/busy"
  | "collateral/not-served"
  | "collateral/answer"
  | "collateral/older"
  | "collateral/offline"
  | "collateral/store";

type Kind = "usage" | "input" | "rejected" | "unavailable" | "unsupported";

export class CollateralError extends Failure<CollateralErrorCode, Kind> {
  override readonly name = "CollateralError";

  constructor(
    code: CollateralErrorCode,
    kind: Kind,
    message: string,
    details: Omit<FailureDetails<Kind>, "kind"> = {},
  ) {
    super(code, kind, message, details);
  }
}

/** What to throw for an answer of `source` that did not verify; other errors are returned as they are. */
export function unverified(error: unknown, source: string): unknown {
  if (!(error instanceof VerifyError)) return error;
  return new CollateralError(
    "collateral/answer",
    "input",
    `what ${source} serves does not verify: ${error.message}`,
    {
      facts: [["code", error.code], ...error.facts],
      fix: "ask another source (--from); a clock that is wrong looks the same",
      cause: error,
    },
  );
}
