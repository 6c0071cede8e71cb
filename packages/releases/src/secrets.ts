// SPDX-License-Identifier: Apache-2.0
/**
 * An application's secrets: sealed to a key of the application that its KMS holds, signed by owners, numbered.
 *
 * Invariants: a set names its KMS, its application and the key that it is sealed to, and each entry is bound to its
 * name and to the set's number, so that nothing can be moved to another place or an old set be given again. What is
 * sealed is not opened here.
 */
import { fromHex, toHex } from "@caisson/vocabulary/bytes";
import { frame, u32, text as utf8 } from "@caisson/vocabulary/frame";
import { sha256 } from "@caisson/vocabulary/merkle";
import {
  hex,
  type Infer,
  integer,
  nullable,
  object,
  oneOf,
  record,
  text,
  timestamp,
} from "@caisson/vocabulary/schema";
import { readCanonical, writeCanonical } from "./canonical.ts";
import { type Envelope, payloadOf } from "./envelope.ts";
import { ReleaseError } from "./errors.ts";
import { type Identity, requireSigners } from "./identity.ts";

export const secretsVersion = "caisson/secrets/v1";
export const secretsPayloadType = "application/vnd.caisson.secrets.v1+json";

/** A name as files and environments have it. */
const secretName = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
const secretsLimit = 48 * 1024;

const schema = object({
  version: oneOf(secretsVersion),
  app: hex(32),
  /** The identity key of the KMS that can open it. */
  kms: hex(32),
  /** Version of the application's sealing key. */
  keyVersion: integer(1, 0xffff_ffff),
  number: integer(1, 0xffff_ffff),
  /** SHA-256 of the payload of the set before; null for the first. */
  previous: nullable(hex(32)),
  /** Releases with a lower number do not get it. */
  minimumRelease: integer(1, 0xffff_ffff),
  expires: timestamp,
  /** HPKE: the sender's ephemeral key and the ciphertext, by name. */
  entries: record(
    secretName,
    object({ enc: hex(32), ciphertext: text("hexadecimal", /^(?:[0-9a-f]{2}){16,}$/, 32_768) }),
    64,
  ),
});

export type SecretsDocument = Infer<typeof schema>;

export interface Secrets {
  document: SecretsDocument;
  /** SHA-256 of the payload, hex: what a guest measures. */
  hash: string;
}

/** The set in an envelope, and nothing about who signed it. Throws ReleaseError. */
export async function readSecretsDocument(envelope: Envelope): Promise<Secrets> {
  const payload = payloadOf(envelope, secretsPayloadType);
  const document = readCanonical(payload, schema, "secrets/malformed", secretsLimit);
  return { document, hash: toHex(await sha256(payload)) };
}

/** The set in an envelope that the identity's secrets keys signed (owners where it names none). Throws ReleaseError. */
export async function readSecrets(envelope: Envelope, id: string, identity: Identity): Promise<Secrets> {
  const secrets = await readSecretsDocument(envelope);
  const { document } = secrets;
  if (document.app !== id) {
    throw new ReleaseError("secrets/app", "these are secrets of another application", {
      expected: id,
      actual: document.app,
    });
  }
  const keys = identity.document.secrets ?? identity.document.owners;
  await requireSigners(envelope, keys, "secrets/signature", "keys that give it secrets");
  return secrets;
}

/** What a set is judged by before it is opened. */
export interface SecretsJudgement {
  /** The identity key of the KMS that is to open it, and the version of its sealing key for the application; hex. */
  kms: string;
  keyVersion: number;
  /** The release that asks for it. */
  release: number;
  /** Names that its description declares, each once. */
  names: readonly string[];
  /** The newest set that is known for this KMS. */
  newest: { number: number; hash: string } | undefined;
  /** Milliseconds since 1970. */
  now: number;
}

/** Throws ReleaseError with the first reason why a guest may not have this set. */
export function judgeSecrets({ document, hash }: Secrets, judgement: SecretsJudgement): void {
  const { kms, keyVersion, release, names, newest, now } = judgement;
  const facts = (expected: string | number, actual: string | number) => ({
    expected: `${expected}`,
    actual: `${actual}`,
  });
  if (document.kms !== kms) {
    throw new ReleaseError("secrets/kms", "they are sealed to another KMS", facts(kms, document.kms));
  }
  if (document.keyVersion !== keyVersion) {
    const versions = facts(keyVersion, document.keyVersion);
    throw new ReleaseError("secrets/key-version", "they are sealed to another version of the key", versions);
  }
  if (now >= document.expires) {
    throw new ReleaseError("secrets/expired", "these secrets have expired", {
      ...facts(`before ${new Date(document.expires).toISOString()}`, new Date(now).toISOString()),
    });
  }
  if (newest !== undefined && document.number < newest.number) {
    const numbers = facts(`at least ${newest.number}`, document.number);
    throw new ReleaseError("secrets/old", "newer secrets are known", numbers);
  }
  if (newest?.number === document.number && newest.hash !== hash) {
    throw new ReleaseError(
      "secrets/previous",
      "other secrets of this number are known",
      facts(newest.hash, hash),
    );
  }
  if (release < document.minimumRelease) {
    const releases = facts(`at least release ${document.minimumRelease}`, `release ${release}`);
    throw new ReleaseError("secrets/release", "this release is too old for these secrets", releases);
  }
  const given = Object.keys(document.entries).sort();
  const declared = [...names].sort();
  if (given.join() === declared.join()) return;
  throw new ReleaseError("secrets/names", "these are not the secrets that the description declares", {
    ...facts(declared.join(", ") || "none", given.join(", ") || "none"),
  });
}

/** A new set, to be signed. */
export function writeSecrets(
  document: Omit<SecretsDocument, "version" | "expires"> & { expires: string },
): Pick<Envelope, "payload" | "payloadType"> {
  const payload = writeCanonical({ version: secretsVersion, ...document });
  return { payload, payloadType: secretsPayloadType };
}

/** What the seal of one entry is bound to. */
export function sealBinding(
  { app, kms, keyVersion, number }: Pick<SecretsDocument, "app" | "kms" | "keyVersion" | "number">,
  name: string,
): { info: Uint8Array; aad: Uint8Array } {
  return {
    info: frame(`${secretsVersion}/seal`, fromHex(app)!, fromHex(kms)!, u32(keyVersion)),
    aad: frame(`${secretsVersion}/entry`, utf8(name), u32(number)),
  };
}
