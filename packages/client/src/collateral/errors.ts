// SPDX-License-Identifier: Apache-2.0
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
