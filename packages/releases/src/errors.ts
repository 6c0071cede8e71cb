// SPDX-License-Identifier: Apache-2.0
/** Why an identity, a release or a proof is refused. Closed; one code for one question. */
import { Failure } from "@caisson/vocabulary/failure";

/** What is not a document of its kind: malformed, and not judged further. */
export type InputCode =
  | "envelope/malformed"
  | "bundle/malformed"
  | "identity/malformed"
  | "release/malformed"
  | "secrets/malformed"
  | "note/malformed"
  | "log/malformed"
  | "provenance/malformed";

/** What is one, and is refused. */
export type RejectedCode =
  | "identity/hash"
  | "identity/chain"
  | "identity/threshold"
  | "release/missing"
  | "release/signature"
  | "release/app"
  | "release/generation"
  | "release/subject"
  | "release/not-yet-valid"
  | "release/expired"
  | "release/below-minimum"
  | "release/revoked"
  | "release/previous"
  | "rebuild/threshold"
  | "rebuild/differs"
  | "secrets/missing"
  | "secrets/signature"
  | "secrets/app"
  | "secrets/kms"
  | "secrets/key-version"
  | "secrets/expired"
  | "secrets/old"
  | "secrets/previous"
  | "secrets/release"
  | "secrets/names"
  | "secrets/seal"
  | "note/signature"
  | "log/origin"
  | "log/proof"
  | "log/quorum"
  | "log/age"
  | "provenance/missing"
  | "provenance/root"
  | "provenance/signature"
  | "provenance/subject"
  | "provenance/builder";

export type ReleaseCode = InputCode | RejectedCode;

const input = [
  "envelope/malformed",
  "bundle/malformed",
  "identity/malformed",
  "release/malformed",
  "secrets/malformed",
  "note/malformed",
  "log/malformed",
  "provenance/malformed",
] as const satisfies readonly InputCode[];

/** What this package throws, and nothing else. */
export class ReleaseError extends Failure<ReleaseCode, "rejected" | "input"> {
  override readonly name = "ReleaseError";

  constructor(
    code: ReleaseCode,
    message: string,
    details: { expected?: string; actual?: string; fix?: string } = {},
  ) {
    const { expected, actual, fix } = details;
    const facts = Object.entries({ expected, found: actual }).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    );
    const kind = (input as readonly string[]).includes(code) ? "input" : "rejected";
    super(code, kind, message, { facts, ...(fix !== undefined && { fix }) });
  }
}
