// SPDX-License-Identifier: Apache-2.0
/**
 * Owners' secrets: judged, opened with the application's sealing key, and sealed again to one guest. The KMS has the root
 * secret and so could read them in any case; a guest never gets the sealing key, for then each release that ever ran could
 * read what later ones are given.
 */
import { deriveSealingSeed } from "@caisson/protocol/derivation";
import type { IdentityKey } from "@caisson/protocol/ed25519";
import { open, type Sealed, seal, sealingKey } from "@caisson/protocol/hpke";
import {
  type Exchange,
  type Released,
  type SealingKeyDocument,
  sealingKeyTranscript,
  secretsContext,
} from "@caisson/protocol/key-release";
import {
  type AcceptedRelease,
  judgeSecrets,
  ReleaseError,
  readEnvelope,
  readSecrets,
  type Secrets,
  sealBinding,
  writeCanonical,
} from "@caisson/releases";
import { toHex } from "@caisson/vocabulary/bytes";
import type { Known } from "./applications.ts";

/** An application's sealing key of a version; `app` is 32 bytes. */
export const applicationSealingKey = (root: Uint8Array, app: Uint8Array, version: number) => {
  const seed = deriveSealingSeed(root, app, version);
  try {
    return sealingKey(seed);
  } finally {
    seed.fill(0);
  }
};

/** Its public half, signed: what owners seal to. */
export function publishSealingKey(
  root: Uint8Array,
  identity: IdentityKey,
  app: Uint8Array,
  keyVersion: number,
): SealingKeyDocument {
  const { publicKey } = applicationSealingKey(root, app, keyVersion);
  const document = {
    version: "caisson/sealing-key/v1",
    app: toHex(app),
    kms: toHex(identity.publicKey),
    keyVersion,
    key: toHex(publicKey),
  } as const;
  return { ...document, signature: toHex(identity.sign(sealingKeyTranscript(document))) };
}

/** What the set is judged by, beside itself. */
export interface SecretsRequest {
  accepted: AcceptedRelease;
  known: Pick<Known, "secrets">;
  /** Names that the measured description declares. */
  names: readonly string[];
  kms: string;
  keyVersion: number;
  now: number;
}

/** The set in a request. Throws ReleaseError `secrets/…`, "envelope/malformed". */
export async function acceptSecrets(envelope: unknown, request: SecretsRequest): Promise<Secrets> {
  const { accepted, known, names, kms, keyVersion, now } = request;
  if (envelope === undefined) {
    throw new ReleaseError(
      "secrets/missing",
      `the description declares ${names.join(", ")}, and no set was brought`,
    );
  }
  const { app, release } = accepted.release.predicate;
  const secrets = await readSecrets(readEnvelope(envelope), app, accepted.identity);
  judgeSecrets(secrets, { kms, keyVersion, release, names, newest: known.secrets, now });
  return secrets;
}

/** Opens every entry, and seals all of them to the guest. Throws ReleaseError "secrets/seal". */
export function resealSecrets(
  { document, hash }: Secrets,
  root: Uint8Array,
  exchange: Exchange,
  about: Pick<Released, "time" | "app" | "instance" | "keyVersion" | "volumes">,
): NonNullable<Released["secrets"]> {
  const own = applicationSealingKey(root, Uint8Array.fromHex(document.app), document.keyVersion);
  const values = Object.entries(document.entries).map(([name, { enc, ciphertext }]) => {
    const sealed: Sealed = { enc: Uint8Array.fromHex(enc), ciphertext: Uint8Array.fromHex(ciphertext) };
    try {
      return [name, open(own, sealed, sealBinding(document, name))] as const;
    } catch {
      throw new ReleaseError("secrets/seal", `${name} does not open with the application's sealing key`);
    }
  });
  const message = writeCanonical(Object.fromEntries(values.map(([name, value]) => [name, toHex(value)])));
  try {
    const { enc, ciphertext } = seal(exchange.ephemeralKey, message, secretsContext(exchange, about, hash));
    return { hash, enc: toHex(enc), ciphertext: toHex(ciphertext) };
  } finally {
    message.fill(0);
    for (const [, value] of values) value.fill(0);
  }
}
