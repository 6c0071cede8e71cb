// SPDX-License-Identifier: Apache-2.0
import { Failure, type FailureDetails } from "@caisson/vocabulary/failure";

/** Why an input cannot be measured: `area/reason`. The area names the format, the reason what is wrong with it. */
export type MeasureErrorCode =
  | `${"firmware" | "volume" | "pe" | "uki" | "kernel" | "gpt" | "acpi" | "smbios" | "log"}/truncated`
  | "firmware/no-metadata"
  | "firmware/metadata"
  | "firmware/section"
  | "firmware/memory"
  | "firmware/too-large"
  | "volume/malformed"
  | "volume/compression"
  | "volume/too-large"
  | "pe/malformed"
  | "uki/malformed"
  | "uki/unsupported"
  | "kernel/malformed"
  | "gpt/malformed"
  | "acpi/malformed"
  | "smbios/malformed"
  | "log/malformed"
  | "log/algorithm"
  | "log/no-sha384"
  | "log/register"
  | "register/digest-size"
  | "prediction/input"
  | "prediction/profile";

/**
 * What every function here throws on bad input, and nothing else. `offset` is the byte of the input at which the
 * reason shows, where there is one.
 */
export class MeasureError extends Failure<MeasureErrorCode, "input" | "unsupported"> {
  override readonly name = "MeasureError";
  readonly offset?: number;

  constructor(
    code: MeasureErrorCode,
    message: string,
    details: FailureDetails<"unsupported"> & { offset?: number } = {},
  ) {
    const { offset, facts = [] } = details;
    const all = offset === undefined ? facts : ([["offset", `0x${offset.toString(16)}`], ...facts] as const);
    super(code, details.kind ?? "input", message, { ...details, facts: all });
    if (offset !== undefined) this.offset = offset;
  }
}
