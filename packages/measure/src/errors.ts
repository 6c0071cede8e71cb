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
export class MeasureError extends Error {
  readonly code: MeasureErrorCode;
  readonly kind: "input" | "unsupported";
  readonly offset?: number;
  readonly facts: readonly (readonly [label: string, value: string])[];
  readonly fix?: string;

  constructor(
    code: MeasureErrorCode,
    message: string,
    details: {
      offset?: number;
      facts?: readonly (readonly [string, string])[];
      fix?: string;
      kind?: "unsupported";
    } = {},
  ) {
    super(message);
    this.name = "MeasureError";
    this.code = code;
    this.kind = details.kind ?? "input";
    if (details.offset !== undefined) this.offset = details.offset;
    if (details.fix !== undefined) this.fix = details.fix;
    this.facts = [
      ...(details.offset === undefined ? [] : [["offset", `0x${details.offset.toString(16)}`] as const]),
      ...(details.facts ?? []),
    ];
  }
}
