// SPDX-License-Identifier: Apache-2.0
/**
 * The root secret, on its way from a KMS to another replica that runs in a guest.
 *
 * The replicas are one application, to which this KMS releases keys as to any other: its evidence is judged by its policy
 * or its releases, the nonce is fresh, the keys are sealed to a key that its quote binds, and the log has an entry. With a
 * key that is derived from what was released there, the replica opens the root secret, which lies sealed under it at a
 * public address. Invariants: who cannot get that application's key cannot open it; what comes out must give the
 * identity that the replica measured as its key provider, so that nobody else's secret is taken for it.
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { deriveApplicationKey, deriveKmsKey, deriveReleasedKey } from "@caisson/protocol/derivation";
import { identityKey } from "@caisson/protocol/ed25519";
import { messageOf } from "@caisson/vocabulary/failure";
import { frame, u32 } from "@caisson/vocabulary/frame";
import { hex, type Infer, integer, object, oneOf, SchemaError, text } from "@caisson/vocabulary/schema";
import { get } from "./attestation.ts";
import { KmsError } from "./errors.ts";
import { ROOT_SECRET_SIZE } from "./root-secret.ts";

const version = "caisson/kms-root/v1";
const sizes = { nonce: 12, tag: 16 };

/** What the replica asks its guest for: a key of this path and purpose (`deriveApplicationKey`). */
export const rootKeyName = { path: "kms", purpose: "root" } as const;

const schema = object({
  version: oneOf(version),
  identityKey: hex(32),
  /** The application that the replicas are, and the version of its keys. */
  app: text("20 or 32 bytes in hexadecimal", /^([0-9a-f]{40}|[0-9a-f]{64})$/, 64),
  keyVersion: integer(1, 0xffff_ffff),
  nonce: hex(sizes.nonce),
  sealed: hex(ROOT_SECRET_SIZE + sizes.tag),
});
export type SealedRoot = Infer<typeof schema>;

/** Where it lies, sealed. */
export const rootPath = "/v1/root";

const bound = ({
  identityKey: identity,
  app,
  keyVersion,
}: Pick<SealedRoot, "identityKey" | "app" | "keyVersion">) =>
  frame(version, Uint8Array.fromHex(identity), Uint8Array.fromHex(app), u32(keyVersion));

/** The root secret (32 bytes) of the replica at `url`; see `openRoot`. Throws KmsError. */
export async function takeRoot(url: string, key: Uint8Array, identity: string): Promise<Uint8Array> {
  const bytes = await get(url, rootPath);
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new KmsError("root-secret/malformed", `the sealed root secret of ${url}: ${messageOf(error)}`);
  }
  return openRoot(document, key, identity);
}

/**
 * The root secret for replicas that are the application `app` (hexadecimal), whose keys follow from `root`: the secret
 * itself, or what a rotation made after it.
 */
export function sealRoot(secret: Uint8Array, app: string, keyVersion: number, root = secret): SealedRoot {
  const released = deriveReleasedKey(root, {
    app: Uint8Array.fromHex(app),
    instance: new Uint8Array(),
    purpose: "application",
    version: keyVersion,
  });
  const key = deriveApplicationKey(released, rootKeyName.path, rootKeyName.purpose);
  const identity = identityKey(deriveKmsKey(secret, "identity")).publicKey.toHex();
  const about = { identityKey: identity, app, keyVersion };
  const nonce = randomBytes(sizes.nonce);
  const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(bound(about));
  const sealed = Buffer.concat([cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
  for (const one of [released, key]) one.fill(0);
  return { version, ...about, nonce: nonce.toHex(), sealed: sealed.toHex() };
}

/**
 * The root secret (32 bytes), for a replica that got `key` (32 bytes, `rootKeyName`) and measured `identity` (hexadecimal)
 * as its key provider. `document` is parsed JSON. Throws KmsError `root-secret/…`.
 */
export function openRoot(document: unknown, key: Uint8Array, identity: string): Uint8Array {
  let root: SealedRoot;
  try {
    root = schema(document);
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    throw new KmsError("root-secret/malformed", `the sealed root secret: ${messageOf(error)}`);
  }
  const sealed = Uint8Array.fromHex(root.sealed);
  let secret: Uint8Array;
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, Uint8Array.fromHex(root.nonce), {
      authTagLength: sizes.tag,
    }).setAAD(bound(root));
    decipher.setAuthTag(sealed.subarray(ROOT_SECRET_SIZE));
    secret = new Uint8Array(
      Buffer.concat([decipher.update(sealed.subarray(0, ROOT_SECRET_SIZE)), decipher.final()]),
    );
  } catch (cause) {
    throw new KmsError(
      "root-secret/sealed",
      "the sealed root secret does not open with this application's key",
      {
        cause,
      },
    );
  }
  const own = identityKey(deriveKmsKey(secret, "identity")).publicKey.toHex();
  if (own === identity && root.identityKey === identity) return secret;
  secret.fill(0);
  throw new KmsError("root-secret/sealed", `the sealed root secret is that of the KMS ${own}`, {
    facts: [["expected", identity]],
  });
}
