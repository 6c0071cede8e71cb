// SPDX-License-Identifier: Apache-2.0
/**
 * The root secret in n shares, any k of which give it again: recovery that no single person can do, or prevent.
 *
 * The shares are Shamir's, over GF(2^8). Each is sealed (HPKE) to one operator's X25519 key, and a commitment to it
 * stands beside it in a document that the KMS's identity signs and its log names. Invariants: a share is opened only to be
 * sealed again, to the key of the machine that recovers; a share that is not the committed one is refused by its
 * operator's name before anything is combined; what is combined must give the identity of the document.
 */
import { createHash } from "node:crypto";
import { deriveKmsKey } from "@caisson/protocol/derivation";
import { identityKey, verifySignature } from "@caisson/protocol/ed25519";
import {
  HPKE_KEY_SIZE,
  open,
  type SealBinding,
  type Sealed,
  type SealingKey,
  seal,
} from "@caisson/protocol/hpke";
import { messageOf } from "@caisson/vocabulary/failure";
import { frame, u32, u64, text as utf8 } from "@caisson/vocabulary/frame";
import {
  hex,
  type Infer,
  integer,
  list,
  object,
  oneOf,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";
import { combine, split } from "shamir-secret-sharing";
import { KmsError } from "./errors.ts";
import { ROOT_SECRET_SIZE } from "./root-secret.ts";
import { change, update } from "./store/change.ts";
import { changedEntry } from "./store/entries.ts";
import { textOf } from "./store/rows.ts";
import type { Store } from "./store/store.ts";

/** Who keeps a share. */
export interface ShareKeeper {
  name: string;
  /** X25519, hexadecimal. */
  key: string;
}

const documentVersion = "caisson/kms-shares/v1";
const sealedVersion = "caisson/kms-sealed-share/v1";
/** A share is a point: 32 bytes of values, one byte where. */
const SHARE_SIZE = ROOT_SECRET_SIZE + 1;
const sealedFields = { enc: hex(HPKE_KEY_SIZE), ciphertext: hex(SHARE_SIZE + 16) };
const name = text("a name of letters, digits, points and dashes", /^[\w.@-]+$/, 64);

const documentSchema = object({
  version: oneOf(documentVersion),
  identityKey: hex(32),
  threshold: integer(2, 255),
  /** Milliseconds since 1970. */
  made: integer(0, Number.MAX_SAFE_INTEGER),
  shares: list(object({ name, key: hex(HPKE_KEY_SIZE), commitment: hex(32), ...sealedFields }), 2, 255),
  signature: hex(64),
});

/** All shares of one making. */
export type SharesDocument = ReturnType<typeof documentSchema>;

const sealedSchema = object({
  version: oneOf(sealedVersion),
  identityKey: hex(32),
  name,
  /** The recovering machine's. */
  to: hex(HPKE_KEY_SIZE),
  ...sealedFields,
});

/** One share on its way to the machine that recovers. */
export type SealedShare = ReturnType<typeof sealedSchema>;

function read<T>(what: string, schema: Schema<T>, content: string): T {
  try {
    return schema(JSON.parse(content));
  } catch (error) {
    if (!(error instanceof SchemaError || error instanceof SyntaxError)) throw error;
    const where = error instanceof SchemaError && error.path !== "" ? `${error.path}: ` : "";
    throw new KmsError("shares/malformed", `${what}: ${where}${messageOf(error)}`);
  }
}

const bytes = (value: string) => Uint8Array.fromHex(value);

/** What a share is bound to: whose it is, of which KMS, and to whom it goes. */
function binding(identity: string, keeper: string, to: string): SealBinding {
  const fields = [bytes(identity), utf8(keeper), bytes(to)];
  return { info: frame("caisson/kms-share/v1/seal", ...fields), aad: new Uint8Array() };
}

/** A share has 256 bits of randomness or more, so that its hash says nothing of it. */
function commitment(identity: string, keeper: string, share: Uint8Array): string {
  return createHash("sha256")
    .update(frame("caisson/kms-share/v1/commitment", bytes(identity), utf8(keeper), share))
    .digest("hex");
}

function signedPart({ identityKey: identity, threshold, made, shares }: Omit<SharesDocument, "signature">) {
  const fields = shares.map((one) =>
    frame(
      "caisson/kms-share/v1",
      utf8(one.name),
      bytes(one.key),
      bytes(one.commitment),
      bytes(one.enc),
      bytes(one.ciphertext),
    ),
  );
  return frame(documentVersion, bytes(identity), u32(threshold), u64(made), ...fields);
}

/** A share, sealed to a key of `whom`. Throws KmsError "shares/malformed". */
function sealShare(key: string, whom: string, share: Uint8Array, bound: SealBinding) {
  try {
    const { enc, ciphertext } = seal(bytes(key), share, bound);
    return { enc: enc.toHex(), ciphertext: ciphertext.toHex() };
  } catch {
    throw new KmsError("shares/malformed", `the key of ${whom} is not a usable X25519 key`, {
      facts: [["key", key]],
    });
  }
}

const unsealedHex = ({ enc, ciphertext }: { enc: string; ciphertext: string }): Sealed => ({
  enc: bytes(enc),
  ciphertext: bytes(ciphertext),
});

/** New shares of a root secret (32 bytes). Throws KmsError "shares/malformed". */
export async function makeShares(
  secret: Uint8Array,
  threshold: number,
  keepers: readonly ShareKeeper[],
  made: number,
): Promise<SharesDocument> {
  const identity = identityKey(deriveKmsKey(secret, "identity"));
  const own = identity.publicKey.toHex();
  const distinct = (key: "name" | "key") => new Set(keepers.map((one) => one[key])).size === keepers.length;
  if (
    !Number.isInteger(threshold) ||
    threshold < 2 ||
    threshold > keepers.length ||
    keepers.length > 255 ||
    !distinct("name") ||
    !distinct("key")
  ) {
    throw new KmsError(
      "shares/malformed",
      `${threshold} of ${keepers.length}: at least two are needed, of as many keepers or more, with different names and keys`,
    );
  }
  const shares = await split(Uint8Array.from(secret), keepers.length, threshold);
  try {
    const document = {
      version: documentVersion,
      identityKey: own,
      threshold,
      made,
      shares: keepers.map((keeper, i) => {
        const share = shares[i]!;
        const sealed = sealShare(keeper.key, keeper.name, share, binding(own, keeper.name, keeper.key));
        return { ...keeper, commitment: commitment(own, keeper.name, share), ...sealed };
      }),
    } as const;
    const signature = identity.sign(signedPart(document)).toHex();
    return readShares(JSON.stringify({ ...document, signature }));
  } finally {
    for (const share of shares) share.fill(0);
  }
}

/** A document of shares, signed by the KMS that it names. Throws KmsError `shares/…`. */
export function readShares(content: string): SharesDocument {
  const document = read("the shares", documentSchema, content);
  const { identityKey: identity, signature } = document;
  if (!verifySignature(bytes(identity), signedPart(document), bytes(signature))) {
    throw new KmsError("shares/signature", `the shares are not signed by ${identity}`);
  }
  return document;
}

/** SHA-256 of what was signed: what the log names. */
const sharesDigest = (document: SharesDocument): Uint8Array =>
  createHash("sha256").update(signedPart(document)).digest();

const keeperOf = ({ shares, identityKey: identity }: SharesDocument, keeper: string) => {
  const found = shares.find((one) => one.name === keeper);
  if (found !== undefined) return found;
  throw new KmsError("shares/unknown", `${keeper} keeps no share of ${identity}`, {
    facts: [["keepers", shares.map((one) => one.name).join(", ")]],
  });
};

function openShare(own: SealingKey, sealed: Sealed, bound: SealBinding, keeper: string): Uint8Array {
  try {
    return open(own, sealed, bound);
  } catch {
    throw new KmsError("shares/wrong", `the share of ${keeper} does not open with this key`);
  }
}

/** Where a KMS publishes its shares, and where one that recovers takes them. */
export const sharesPath = "/v1/shares";
const sharesRow = { table: "shares", key: "newest" } as const;

/** Names the shares in the log, and keeps them as a row, which every replica shows. Throws KmsError. */
export async function publishShares(store: Store, document: SharesDocument): Promise<void> {
  const reason = `shares/made ${document.threshold} of ${document.shares.length}`;
  const policy = sharesDigest(document);
  await change(store, [sharesRow], ([row]) => ({
    entry: changedEntry(document.made, reason, { policy }),
    rows: [update(sharesRow, row, utf8(JSON.stringify(document)))],
  }));
}

const keepersOf = ({ threshold, shares }: SharesDocument) =>
  JSON.stringify([threshold, shares.map(({ name: keeper, key }) => [keeper, key])]);

/** Publishes shares that were made at a start, unless those that were made last are for the same keepers. Throws KmsError. */
export async function publishSharesOnce(store: Store, document: SharesDocument): Promise<void> {
  const last = await publishedShares(store);
  if (last === undefined || keepersOf(last) !== keepersOf(document)) await publishShares(store, document);
}

/** The shares that were made last; undefined where none were. Throws KmsError. */
export async function publishedShares(store: Pick<Store, "read">): Promise<SharesDocument | undefined> {
  const [row] = await store.read([sharesRow]);
  return row && readShares(textOf(row));
}

const keepersSchema = object({
  threshold: integer(2, 255),
  keepers: list(object({ name, key: hex(HPKE_KEY_SIZE) }), 2, 255),
});

/** Who gets shares: { threshold, keepers: [{ name, key }, …] }. Throws KmsError "shares/malformed". */
export const readKeepers = (content: string): Infer<typeof keepersSchema> =>
  read("the keepers", keepersSchema, content);

/** The share of `keeper`, sealed to the machine whose key is `to` (X25519, hexadecimal). Throws KmsError `shares/…`. */
export function passShare(
  document: SharesDocument,
  keeper: string,
  own: SealingKey,
  to: string,
): SealedShare {
  const { identityKey: identity } = document;
  const kept = keeperOf(document, keeper);
  const share = openShare(own, unsealedHex(kept), binding(identity, keeper, kept.key), keeper);
  try {
    if (commitment(identity, keeper, share) !== kept.commitment) throw wrong(keeper);
    const sealed = sealShare(to, "the machine that recovers", share, binding(identity, keeper, to));
    return { version: sealedVersion, identityKey: identity, name: keeper, to, ...sealed };
  } finally {
    share.fill(0);
  }
}

const wrong = (keeper: string) =>
  new KmsError("shares/wrong", `the share of ${keeper} is not the one that the KMS made for them`, {
    fix: `ask ${keeper}, or use the share of another keeper`,
  });

/** A sealed share (JSON text), opened and compared with its commitment. */
function openSealed(
  document: SharesDocument,
  own: SealingKey,
  content: string,
): { keeper: string; share: Uint8Array } {
  const { identityKey: identity } = document;
  const to = own.publicKey.toHex();
  const one = read("a sealed share", sealedSchema, content);
  if (one.identityKey !== identity || one.to !== to) {
    throw new KmsError("shares/wrong", `the share of ${one.name} is of another KMS, or for another machine`);
  }
  const kept = keeperOf(document, one.name);
  const share = openShare(own, unsealedHex(one), binding(identity, one.name, to), one.name);
  if (commitment(identity, one.name, share) !== kept.commitment) throw wrong(one.name);
  return { keeper: one.name, share };
}

/** Whose share this is, which is the one that the KMS made. Throws KmsError `shares/…`. */
export function checkSealed(document: SharesDocument, own: SealingKey, content: string): string {
  const { keeper, share } = openSealed(document, own, content);
  share.fill(0);
  return keeper;
}

/** The root secret from sealed shares (JSON texts). Throws KmsError `shares/…`, which names the keeper of a wrong one. */
export async function recoverSecret(
  document: SharesDocument,
  own: SealingKey,
  sealed: readonly string[],
): Promise<Uint8Array> {
  const { identityKey: identity, threshold } = document;
  const shares = new Map<string, Uint8Array>();
  try {
    for (const content of sealed) {
      const { keeper, share } = openSealed(document, own, content);
      shares.set(keeper, share);
    }
    if (shares.size < threshold) {
      throw new KmsError("shares/few", `${shares.size} shares; ${threshold} are needed`, {
        facts: [["given", [...shares.keys()].join(", ")]],
      });
    }
    const secret = await combine([...shares.values()]);
    if (identityKey(deriveKmsKey(secret, "identity")).publicKey.toHex() !== identity) {
      throw new KmsError("shares/wrong", `what the shares give is not the secret of ${identity}`);
    }
    return secret;
  } finally {
    for (const share of shares.values()) share.fill(0);
  }
}
