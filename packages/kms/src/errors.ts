// SPDX-License-Identifier: Apache-2.0
import { Failure, type FailureDetails } from "@caisson/vocabulary/failure";

/** What the KMS's operator can get wrong, or find broken. What a guest is refused for is in release.ts. */
export type KmsErrorCode =
  | "root-secret/permissions"
  | "root-secret/malformed"
  | "root-secret/missing"
  | "root-secret/exists"
  | "root-secret/sealed"
  | "backup/malformed"
  | "backup/passphrase"
  | "log/unreadable"
  | "log/unavailable"
  | "log/not-durable"
  | "log/chain"
  | "log/rows"
  | "log/rolled-back"
  | "log/split"
  | "log/head"
  | "log/identity"
  | "policy/malformed"
  | "policy/duplicate"
  | "policy/none"
  | "policy/permissions"
  | "collateral/permissions"
  | "collateral/malformed"
  | "collateral/duplicate"
  | "volumes/unreadable"
  | "volumes/unknown"
  | "operators/malformed"
  | "operators/none"
  | "operators/other-kms"
  | "operators/expired"
  | "operators/signatures"
  | "operators/conflict"
  | "kms/unreachable"
  | "kms/refused"
  | "kms/attestation"
  | "kms/giver"
  | "kms/guest"
  | "shares/malformed"
  | "shares/signature"
  | "shares/unknown"
  | "shares/wrong"
  | "shares/few"
  | "root/dates"
  | "kms/listen";

/** What says that a log was altered; everything else is something that the operator gave. */
const rejected: ReadonlySet<KmsErrorCode> = new Set([
  "log/chain",
  "log/head",
  "log/identity",
  "log/rows",
  "log/rolled-back",
  "log/split",
  "kms/refused",
  "kms/attestation",
  "kms/giver",
  "root-secret/sealed",
  "shares/signature",
  "shares/wrong",
]);

/** What may work later. */
const unavailable: ReadonlySet<KmsErrorCode> = new Set(["kms/listen", "kms/unreachable", "log/unavailable"]);

export class KmsError extends Failure<KmsErrorCode, "rejected" | "input" | "unavailable"> {
  override readonly name = "KmsError";
  constructor(code: KmsErrorCode, message: string, details: Omit<FailureDetails, "kind"> = {}) {
    const kind = unavailable.has(code) ? "unavailable" : rejected.has(code) ? "rejected" : "input";
    super(code, kind, message, details);
  }
}
