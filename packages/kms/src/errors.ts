import { Failure, type FailureDetails } from "@caisson/vocabulary/failure";

/** What the KMS's operator can get wrong, or find broken. What a guest is refused for is in release.ts. */
export type KmsErrorCode =
  | "root-secret/permissions"
  | "root-secret/malformed"
  | "root-secret/missing"
  | "root-secret/exists"
  | "backup/malformed"
  | "backup/passphrase"
  | "log/unreadable"
  | "log/chain"
  | "log/head"
  | "log/identity"
  | "policy/malformed"
  | "policy/duplicate"
  | "policy/none"
  | "policy/permissions"
  | "collateral/malformed"
  | "collateral/duplicate"
  | "kms/listen";

export class KmsError extends Failure<KmsErrorCode, "rejected" | "input"> {
  override readonly name = "KmsError";
  constructor(code: KmsErrorCode, message: string, details: Omit<FailureDetails, "kind"> = {}) {
    const broken = code.startsWith("log/") && code !== "log/unreadable";
    super(code, broken ? "rejected" : "input", message, details);
  }
}
