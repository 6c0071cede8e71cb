// SPDX-License-Identifier: Apache-2.0
/**
 * Keys that owners, stop keys and rebuilders sign with: one in a file, under a passphrase.
 *
 *     { version: caisson/owner-key/v1, type, key: <public, hex>, salt, nonce, ciphertext }
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { decryptUnder, encryptUnder, PASSPHRASE_LENGTH, passphraseSizes } from "@caisson/protocol/passphrase";
import { type KeyType, lowForm, type PublicKey, publicKeySchema } from "@caisson/releases";
import { Failure } from "@caisson/vocabulary/failure";
import { frame, text as utf8 } from "@caisson/vocabulary/frame";
import { hex, object, oneOf, SchemaError, text } from "@caisson/vocabulary/schema";
import { writeNewFile } from "./output-file.ts";
import { readTextFile } from "./passphrase-file.ts";
import { jsonText } from "./views/answer.ts";

export type OwnerKeyCode = "owner/malformed" | "owner/passphrase";

class OwnerKeyError extends Failure<OwnerKeyCode, "input"> {
  override readonly name = "OwnerKeyError";
  constructor(code: OwnerKeyCode, message: string) {
    super(code, "input", message);
  }
}

const version = "caisson/owner-key/v1";
const schema = object({
  version: oneOf(version),
  type: oneOf("ed25519", "p256"),
  key: text("a public key in hexadecimal", /^[0-9a-f]+$/, 130),
  salt: hex(passphraseSizes.salt),
  nonce: hex(passphraseSizes.nonce),
  /** PKCS #8. */
  ciphertext: hex([48, 256]),
});

export interface OwnerKey {
  publicKey: PublicKey;
  sign(message: Uint8Array): Uint8Array;
}

/** One line that names a public key. */
export const keyText = ({ type, key }: PublicKey): string => `${type}:${key}`;

const generate: Record<KeyType, () => KeyObject> = {
  ed25519: () => generateKeyPairSync("ed25519").privateKey,
  p256: () => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey,
};
/** Bytes of DER before the public key (RFC 8410, RFC 5480). */
const head: Record<KeyType, number> = { ed25519: 12, p256: 26 };

const publicHalf = (type: KeyType, key: KeyObject): PublicKey => ({
  type,
  key: createPublicKey(key).export({ format: "der", type: "spki" }).subarray(head[type]).toString("hex"),
});

const bound = ({ type, key }: PublicKey): Uint8Array => frame(version, utf8(type), Uint8Array.fromHex(key));

/** Writes a new key to a new file. Throws UsageError where it is there already, OwnerKeyError "owner/passphrase". */
export function newOwnerKey(path: string, type: KeyType, passphrase: string): PublicKey {
  if (passphrase.length < PASSPHRASE_LENGTH) {
    throw new OwnerKeyError("owner/passphrase", `a passphrase has at least ${PASSPHRASE_LENGTH} characters`);
  }
  const key = generate[type]();
  const publicKey = publicHalf(type, key);
  const secret = key.export({ format: "der", type: "pkcs8" });
  const document = { version, ...publicKey, ...encryptUnder(passphrase, secret, bound(publicKey)) };
  secret.fill(0);
  writeNewFile(path, jsonText(document), 0o600);
  return publicKey;
}

function readKeyFile(path: string): ReturnType<typeof schema> {
  try {
    return schema(JSON.parse(readTextFile(path)));
  } catch (error) {
    if (error instanceof SchemaError) {
      throw new OwnerKeyError("owner/malformed", `${path}: ${error.path || "the file"}: ${error.message}`);
    }
    if (!(error instanceof SyntaxError)) throw error;
    throw new OwnerKeyError("owner/malformed", `${path} is not JSON`);
  }
}

/** The key in a file. Throws OwnerKeyError. */
export function openOwnerKey(path: string, passphrase: string): OwnerKey {
  const { type, key, version: _, ...sealed } = readKeyFile(path);
  const publicKey = { type, key };
  const secret = decryptUnder(passphrase, sealed, bound(publicKey));
  if (secret === undefined) {
    throw new OwnerKeyError(
      "owner/passphrase",
      `${path} does not open: another passphrase, or it was changed`,
    );
  }
  const own = createPrivateKey({ key: Buffer.from(secret), format: "der", type: "pkcs8" });
  secret.fill(0);
  if (publicHalf(type, own).key !== key) {
    throw new OwnerKeyError("owner/malformed", `${path}: the key in it is not the one that it names`);
  }
  return {
    publicKey,
    sign: (message) =>
      type === "ed25519"
        ? new Uint8Array(sign(null, message, own))
        : lowForm(new Uint8Array(sign("sha256", message, { key: own, dsaEncoding: "ieee-p1363" }))),
  };
}

/** The public key that `ed25519:HEX`, `p256:HEX` or a key file names. Throws OwnerKeyError, UsageError. */
export function readPublicKey(text: string): PublicKey {
  const [type = "", key = ""] = text.split(":");
  if (type !== "ed25519" && type !== "p256") {
    const file = readKeyFile(text);
    return { type: file.type, key: file.key };
  }
  try {
    return publicKeySchema({ type, key: key.toLowerCase() });
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    throw new OwnerKeyError("owner/malformed", `${text}: ${error.message}`);
  }
}
