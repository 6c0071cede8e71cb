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

export class KmsError extends Error {
  readonly code: KmsErrorCode;
  readonly kind: "rejected" | "input";
  readonly facts: readonly (readonly [label: string, value: string])[];
  readonly fix?: string;
  constructor(
    code: KmsErrorCode,
    message: string,
    details: { facts?: readonly (readonly [string, string])[]; fix?: string } = {},
  ) {
    super(message);
    this.code = code;
    this.kind = code.startsWith("log/") && code !== "log/unreadable" ? "rejected" : "input";
    this.facts = details.facts ?? [];
    if (details.fix !== undefined) this.fix = details.fix;
  }
}
