// SPDX-License-Identifier: Apache-2.0
/**
 * Who an application is: not a name, but the rules by which its releases are signed.
 *
 * Invariants: the application's id is a hash of its first generation, so nobody can have the id with other rules; each
 * next generation names the one before and is signed by the thresholds of both; stop keys and, once set, `immutable`
 * stay as they are. A claim of an id proves nothing by itself: the release does (release.ts).
 */
import { toHex } from "@caisson/vocabulary/bytes";
import { frame } from "@caisson/vocabulary/frame";
import { sha256 } from "@caisson/vocabulary/merkle";
import {
  hex,
  type Infer,
  integer,
  list,
  nullable,
  object,
  oneOf,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";
import { readCanonical } from "./canonical.ts";
import { type Envelope, payloadOf, signersOf } from "./envelope.ts";
import { ReleaseError } from "./errors.ts";
import { type PublicKey, publicKeySchema } from "./keys.ts";
import { readTrustPolicy } from "./log/policy.ts";

export const identityVersion = "caisson/identity/v1";
export const identityPayloadType = "application/vnd.caisson.identity.v1+json";

/** Bytes of a document; its keys fill a tenth of them. */
const identityLimit = 16 * 1024;

/** Keys of which some number has to sign. */
export interface KeySet {
  threshold: number;
  keys: PublicKey[];
}

const anyKeySet = object({ threshold: integer(1, 16), keys: list(publicKeySchema, 1, 16) });

const keySet: Schema<KeySet> = (value) => {
  const set = anyKeySet(value);
  if (set.threshold > set.keys.length) throw new SchemaError("threshold", "there are fewer keys");
  if (new Set(set.keys.map(({ type, key }) => `${type} ${key}`)).size < set.keys.length) {
    throw new SchemaError("keys", "a key stands here twice");
  }
  return set;
};

/** Where releases are logged, and who has to have seen it (a tlog-policy, log/policy.ts). */
const logSchema = object({
  policy: (value: unknown) => {
    const policy = text("a text without controls", /^[^\r\p{Bidi_Control}]*$/u, 8192)(value);
    try {
      readTrustPolicy(policy);
    } catch (error) {
      if (!(error instanceof ReleaseError)) throw error;
      throw new SchemaError("", error.message);
    }
    return policy;
  },
});

const schema = object({
  version: oneOf(identityVersion),
  name: text("a name", /^[a-z0-9][a-z0-9._-]*$/, 63),
  generation: integer(0, 0xffff_ffff),
  previous: nullable(hex(32)),
  owners: keySet,
  stop: keySet,
  rebuild: nullable(keySet),
  secrets: nullable(keySet),
  log: nullable(logSchema),
  immutable: nullable(hex(32)),
});

export type IdentityDocument = Infer<typeof schema>;

/** One generation, with the hash by which the next one names it; that of generation 0 is the application's id. */
export interface Identity {
  document: IdentityDocument;
  /** 32 bytes, lower-case hexadecimal. */
  hash: string;
}

/** Reads one document by itself. Throws ReleaseError "identity/malformed". */
export async function readIdentity(bytes: Uint8Array): Promise<Identity> {
  const document = readCanonical(bytes, schema, "identity/malformed", identityLimit);
  if ((document.generation === 0) !== (document.previous === null)) {
    throw new ReleaseError(
      "identity/malformed",
      "previous: generation 0 has none, and every later one has one",
    );
  }
  return { document, hash: toHex(await sha256(frame(identityVersion, bytes))) };
}

/**
 * The newest generation of the application `id` (hex): `first` is the document of generation 0, which needs no
 * signature, `later` the signed ones after it, none left out. Throws ReleaseError.
 */
export async function followIdentity(
  id: string,
  first: Uint8Array,
  later: readonly Envelope[],
): Promise<Identity> {
  let current = await readIdentity(first);
  if (current.document.generation !== 0 || current.hash !== id) {
    throw new ReleaseError(
      "identity/hash",
      "this is not the document that the application's id is the hash of",
      {
        expected: id,
        actual: current.hash,
      },
    );
  }
  for (const envelope of later) current = await nextGeneration(current, envelope);
  return current;
}

/** The generation after `current`, which owners of both signed. Throws ReleaseError. */
export async function nextGeneration(current: Identity, envelope: Envelope): Promise<Identity> {
  const next = await readIdentity(payloadOf(envelope, identityPayloadType));
  const [old, { document }] = [current.document, next];
  if (document.generation !== old.generation + 1 || document.previous !== current.hash) {
    throw new ReleaseError("identity/chain", "this generation does not follow the one before it", {
      expected: `generation ${old.generation + 1} of ${current.hash}`,
      actual: `generation ${document.generation} of ${document.previous}`,
    });
  }
  if (JSON.stringify(document.stop) !== JSON.stringify(old.stop)) {
    throw new ReleaseError("identity/chain", "the keys that may stop an application stay for ever");
  }
  if (old.immutable !== null && document.immutable !== old.immutable) {
    throw new ReleaseError("identity/chain", "what was made immutable stays so");
  }
  for (const [whose, set] of [
    ["the generation before", old.owners],
    ["this generation", document.owners],
  ] as const) {
    await requireSigners(envelope, set, "identity/threshold", `owners of ${whose}`);
  }
  return next;
}

/** Throws ReleaseError `code` where fewer of the keys signed than have to. */
export async function requireSigners(
  envelope: Envelope,
  { threshold, keys }: KeySet,
  code: "identity/threshold" | "release/signature" | "rebuild/threshold" | "secrets/signature",
  whose: string,
): Promise<void> {
  const signers = await signersOf(envelope, keys, threshold);
  if (signers.length >= threshold) return;
  throw new ReleaseError(code, `too few of the ${whose} signed`, {
    expected: `${threshold} of ${keys.length}`,
    actual: `${signers.length}`,
  });
}
