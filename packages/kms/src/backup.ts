/**
 * Backup of the root secret under a passphrase: scrypt (RFC 7914), then AES-256-GCM.
 *
 * Invariants: the cost is fixed, so that a forged document cannot ask for terabytes; the identity key is bound as
 * additional data, and after decryption the secret must give that identity.
 */
import { createCipheriv, createDecipheriv, randomBytes, scryptSync } from "node:crypto";
import { deriveKmsKey } from "@caisson/protocol/derivation";
import { identityKey } from "@caisson/protocol/ed25519";
import { frame } from "@caisson/vocabulary/frame";
import * as z from "zod";
import { KmsError } from "./errors.ts";
import { ROOT_SECRET_SIZE } from "./root-secret.ts";

/** 128 MiB and about half a second: OWASP's first recommendation for scrypt (Password Storage Cheat Sheet). */
const cost = { N: 2 ** 17, r: 8, p: 1, maxmem: 256 * 1024 * 1024 };
const version = "caisson/kms-backup/v1";
const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`));

const schema = z.strictObject({
  version: z.literal(version),
  /** Whose backup it is; not secret. */
  identityKey: hex(32),
  salt: hex(32),
  nonce: hex(12),
  ciphertext: hex(ROOT_SECRET_SIZE + 16),
});

/** Shorter passphrases are refused. */
export const PASSPHRASE_LENGTH = 12;

/** The backup document (JSON text). Throws KmsError "backup/passphrase" for a short passphrase. */
export function encryptBackup(secret: Uint8Array, passphrase: string): string {
  if (passphrase.length < PASSPHRASE_LENGTH) {
    throw new KmsError("backup/passphrase", `a passphrase has at least ${PASSPHRASE_LENGTH} characters`);
  }
  const salt = randomBytes(32);
  const nonce = randomBytes(12);
  const identity = identityKey(deriveKmsKey(secret, "identity")).publicKey;
  const cipher = createCipheriv("aes-256-gcm", scryptSync(passphrase, salt, 32, cost), nonce);
  cipher.setAAD(frame(version, identity));
  const ciphertext = Buffer.concat([cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
  const document: z.infer<typeof schema> = {
    version,
    identityKey: identity.toHex(),
    salt: salt.toHex(),
    nonce: nonce.toHex(),
    ciphertext: ciphertext.toHex(),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** The root secret. Throws KmsError "backup/malformed", or "backup/passphrase" where it does not decrypt. */
export function decryptBackup(text: string, passphrase: string): Uint8Array {
  const { identityKey: identity, salt, nonce, ciphertext } = parse(text);
  const key = scryptSync(passphrase, Uint8Array.fromHex(salt), 32, cost);
  const decipher = createDecipheriv("aes-256-gcm", key, Uint8Array.fromHex(nonce), { authTagLength: 16 });
  decipher.setAAD(frame(version, Uint8Array.fromHex(identity)));
  const sealed = Uint8Array.fromHex(ciphertext);
  decipher.setAuthTag(sealed.subarray(ROOT_SECRET_SIZE));
  let secret: Uint8Array;
  try {
    secret = Buffer.concat([decipher.update(sealed.subarray(0, ROOT_SECRET_SIZE)), decipher.final()]);
  } catch {
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
