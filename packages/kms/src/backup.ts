// SPDX-License-Identifier: Apache-2.0
/**
 * Backup of the root secret under a passphrase. The identity key is bound as additional data, and after decryption the
 * secret must give that identity.
 */
import { deriveKmsKey } from "@caisson/protocol/derivation";
import { identityKey } from "@caisson/protocol/ed25519";
import { hex } from "@caisson/protocol/hex";
import { decryptUnder, encryptUnder, PASSPHRASE_LENGTH, passphraseSizes } from "@caisson/protocol/passphrase";
import { frame } from "@caisson/vocabulary/frame";
import * as z from "zod";
import { KmsError } from "./errors.ts";
import { ROOT_SECRET_SIZE } from "./root-secret.ts";

const version = "caisson/kms-backup/v1";

const schema = z.strictObject({
  version: z.literal(version),
  /** Whose backup it is; not secret. */
  identityKey: hex(32),
  salt: hex(passphraseSizes.salt),
  nonce: hex(passphraseSizes.nonce),
  ciphertext: hex(ROOT_SECRET_SIZE + passphraseSizes.tag),
});

/** The backup document (JSON text). Throws KmsError "backup/passphrase" for a short passphrase. */
export function encryptBackup(secret: Uint8Array, passphrase: string): string {
  if (passphrase.length < PASSPHRASE_LENGTH) {
    throw new KmsError("backup/passphrase", `a passphrase has at least ${PASSPHRASE_LENGTH} characters`);
  }
  const identity = identityKey(deriveKmsKey(secret, "identity")).publicKey;
  const document: z.infer<typeof schema> = {
    version,
    identityKey: identity.toHex(),
    ...encryptUnder(passphrase, secret, frame(version, identity)),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** The root secret. Throws KmsError "backup/malformed", or "backup/passphrase" where it does not decrypt. */
export function decryptBackup(text: string, passphrase: string): Uint8Array {
  const { identityKey: identity, version: _, ...sealed } = parse(text);
  const secret = decryptUnder(passphrase, sealed, frame(version, Uint8Array.fromHex(identity)));
  if (secret === undefined) {
    throw new KmsError(
      "backup/passphrase",
      "the backup does not open: another passphrase, or it was changed",
    );
  }
  if (identityKey(deriveKmsKey(secret, "identity")).publicKey.toHex() !== identity) {
    throw new KmsError("backup/malformed", `the secret in the backup does not give the identity ${identity}`);
  }
  return secret;
}

function parse(text: string): z.infer<typeof schema> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new KmsError("backup/malformed", "the backup is not JSON");
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new KmsError("backup/malformed", `the backup: ${issue?.path.join(".")}: ${issue?.message}`);
}
