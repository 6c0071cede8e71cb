// SPDX-License-Identifier: Apache-2.0
import type { Report } from "@caisson/verify";
import { Failure, type FailureDetails } from "@caisson/vocabulary/failure";

export type ChannelErrorCode =
  | "channel/address"
  | "channel/unreachable"
  | "channel/not-served"
  | "channel/protocol"
  | "channel/refused"
  | "channel/expired"
  | "channel/occupied";

const kinds = {
  "channel/address": "usage",
  "channel/unreachable": "unavailable",
  "channel/not-served": "input",
  "channel/protocol": "rejected",
  "channel/refused": "rejected",
  "channel/expired": "rejected",
  "channel/occupied": "unavailable",
} as const;

/** No channel into an accepted guest; `report` says why, where evidence was judged. Nothing of a request was sent. */
export class ChannelError extends Failure<ChannelErrorCode, "usage" | "unavailable" | "input" | "rejected"> {
  override readonly name = "ChannelError";
  readonly report?: Report;
  constructor(
    code: ChannelErrorCode,
    message: string,
    details: Omit<FailureDetails, "kind"> & { report?: Report } = {},
  ) {
    super(code, kinds[code], message, details);
    if (details.report !== undefined) this.report = details.report;
  }
}
