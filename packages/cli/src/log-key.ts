// SPDX-License-Identifier: Apache-2.0
/** The owner's key for logs, in a file as age-keygen writes it: comments, and one line with the private key. */
import { randomBytes } from "node:crypto";
import { identityText, readIdentity, recipientText } from "@caisson/image/log-keys";
import { type SealingKey, sealingKey } from "@caisson/protocol/hpke";
import { UsageError } from "./failure.ts";
import { writeNewFile } from "./output-file.ts";
import { readTextFile } from "./passphrase-file.ts";

/** Writes a new key to a new file; its public half. Throws UsageError where the file is there already. */
export function newLogKey(path: string): string {
  const secret = randomBytes(32);
  const recipient = recipientText(sealingKey(secret).publicKey);
  writeNewFile(path, `# public key: ${recipient}\n${identityText(secret)}\n`, 0o600);
  secret.fill(0);
  return recipient;
}

/** Throws UsageError when the file has no such key, or several. */
export function readLogKey(path: string): SealingKey {
  const lines = readTextFile(path)
    .split(/\r?\n/)
    .filter((line) => line.trim() !== "" && !line.startsWith("#"));
  const secret = lines.length === 1 ? readIdentity(lines[0]!.trim()) : undefined;
  if (secret !== undefined) return sealingKey(secret);
  throw new UsageError(
    `${path} has no private key of age's for X25519`,
    "caisson logs --new-key FILE, or age-keygen",
  );
}
