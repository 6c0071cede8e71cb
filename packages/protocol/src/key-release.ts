// SPDX-License-Identifier: Apache-2.0
/**
 * Key release, the messages: guest → KMS hello; KMS → guest nonce; guest → KMS evidence; KMS → guest sealed keys or
 * a refusal. JSON over HTTP; docs/key-release.md tells the story.
 *
 * Invariants: the transport is not trusted. Secrets are sealed to a key that the guest's quote binds, and everything
 * that the KMS says is signed over a `frame` that holds the whole exchange (nonce, KMS identity, ephemeral key), so
 * that no message of one exchange can be used in another. Sizes are fixed or bounded before anything is decoded.
 */

import { fromHex } from "@caisson/vocabulary/bytes";
import { canonicalJson } from "@caisson/vocabulary/canonical-json";
import { frame, text, u32, u64 } from "@caisson/vocabulary/frame";
import { leafHash, rootOf } from "@caisson/vocabulary/merkle";
import * as z from "zod/mini";
import { verifySignature } from "./ed25519.ts";
import { hex } from "./hex.ts";
import { grantSchema, ticketSchema, volumeLimit, volumeName } from "./volumes.ts";

export const keyReleaseVersion = "caisson/key-release/v1";

/** Paths of the two requests, both POST. */
export const keyReleasePaths = { hello: "/v1/hello", release: "/v1/release" } as const;
/** Where a KMS gives the public half of an application's sealing key: GET, `<path>/<app id, hex>`. */
export const sealingKeyPath = "/v1/sealing-key";

/** How long a nonce may be used, in milliseconds. */
export const nonceLifetimeMs = 60_000;

/** Largest request and answer, in bytes. A quote, a boot log of 64 KiB and collateral come to about 150 kB. */
export const requestLimit = 1024 * 1024;
export const answerLimit = 256 * 1024;

/** Bytes of the message inside the seal: application key ‖ instance key, then for each volume its secret ‖ anchor key. */
export const releasedSize = 64;
export const releasedVolumeSize = 64;

/** Most hellos and answers that one signature is for; a power of 2. */
export const batchLimit = 256;

const version = z.literal(keyReleaseVersion);
/** Milliseconds since 1970. */
const time = z.int().check(z.gte(0), z.lte(2 ** 48));

/**
 * What the KMS signed: these bytes, or the root of a tree (RFC 6962) of which they are entry `index`. A KMS that has many
 * answers to sign at once signs them together, as one signature costs what verifying evidence does.
 */
const signed = {
  signature: hex(64),
  batch: z.optional(
    z.strictObject({
      size: z.int().check(z.gte(2), z.lte(batchLimit)),
      index: z.int().check(z.gte(0), z.lt(batchLimit)),
      /** From the leaf to the root. */
      proof: z.array(hex(32)).check(z.maxLength(Math.log2(batchLimit))),
    }),
  ),
};

export const helloRequestSchema = z.strictObject({ version });

export const helloSchema = z.strictObject({
  version,
  nonce: hex(32),
  time,
  identityKey: hex(32),
  ...signed,
});

export const releaseRequestSchema = z.strictObject({
  version,
  nonce: hex(32),
  /** X25519 public key that the quote binds. */
  ephemeralKey: hex(32),
  /** The evidence document; its own schema is `@caisson/verify`'s. */
  evidence: z.unknown(),
  /** The newest that this KMS signed about each volume, as their disks have it. */
  tickets: z.optional(
    z.array(z.strictObject({ disk: volumeName, ticket: ticketSchema })).check(z.maxLength(volumeLimit)),
  ),
  /** The owners' secrets (`caisson/secrets/v1` in its envelope), for an application that has some. */
  secrets: z.optional(z.unknown()),
});

const releasedSchema = z.strictObject({
  version,
  outcome: z.literal("released"),
  time,
  /** The ids that the KMS read from the measured events, and the version of the keys. */
  app: z.string().check(z.regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/)),
  instance: hex(20),
  keyVersion: z.int().check(z.gte(1), z.lte(0xffff_ffff)),
  /** One for each name in the event `volumes`, in its order. */
  volumes: z.optional(z.array(grantSchema).check(z.minLength(1), z.maxLength(volumeLimit))),
  sealed: z.strictObject({
    enc: hex(32),
    ciphertext: z.string().check(z.regex(/^(?:[0-9a-f]{128}){1,9}[0-9a-f]{32}$/)),
  }),
  /** The owners' secrets, sealed again to this guest; `hash` names the document that they come from. */
  secrets: z.optional(
    z.strictObject({
      hash: hex(32),
      enc: hex(32),
      ciphertext: z.string().check(z.regex(/^(?:[0-9a-f]{2}){16,98304}$/)),
    }),
  ),
  ...signed,
});

/** What is inside the seal of secrets: values in hexadecimal, by name. */
export const secretValues = z.record(
  z.string().check(z.regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/)),
  z.string().check(z.regex(/^(?:[0-9a-f]{2})*$/)),
);

/** The public half of an application's sealing key, as its KMS signs it. */
const sealingKeySchema = z.strictObject({
  version: z.literal("caisson/sealing-key/v1"),
  app: hex(32),
  kms: hex(32),
  keyVersion: z.int().check(z.gte(1), z.lte(0xffff_ffff)),
  key: hex(32),
  signature: hex(64),
});
export type SealingKeyDocument = z.infer<typeof sealingKeySchema>;

/** A sealing key that this KMS (identity in hex) signed for this application. Throws an Error that says what is wrong. */
export function readSealingKey(value: unknown, kms: string, app: string): SealingKeyDocument {
  const { success, data } = sealingKeySchema.safeParse(value);
  if (!success) throw new Error("this is not a caisson/sealing-key/v1");
  if (data.kms !== kms || data.app !== app) {
    throw new Error(`it is the key of application ${data.app} and KMS ${data.kms}`);
  }
  if (verifySignature(bytes(kms), sealingKeyTranscript(data), bytes(data.signature))) return data;
  throw new Error("the KMS did not sign it");
}

/** What the KMS signs in it. */
export function sealingKeyTranscript({
  app,
  kms,
  keyVersion,
  key,
}: Omit<SealingKeyDocument, "signature">): Uint8Array {
  return frame("caisson/sealing-key/v1/published", bytes(app), bytes(kms), u32(keyVersion), bytes(key));
}

const deniedSchema = z.strictObject({
  version,
  outcome: z.literal("denied"),
  time,
  /** Why, as `area/reason`; docs/key-release.md lists them. */
  code: z.string().check(z.regex(/^[a-z0-9-]{1,32}\/[a-z0-9-]{1,48}$/)),
  message: z.string().check(z.maxLength(1000)),
  ...signed,
});

export const answerSchema = z.discriminatedUnion("outcome", [releasedSchema, deniedSchema]);

/** What the KMS says where it cannot sign an answer, because there is no exchange yet (HTTP 4xx, 5xx). */
export const refusalSchema = z.strictObject({
  error: z.strictObject({
    code: z.string().check(z.maxLength(64)),
    message: z.string().check(z.maxLength(1000)),
  }),
});

export type Hello = z.infer<typeof helloSchema>;
export type ReleaseRequest = z.infer<typeof releaseRequestSchema>;
export type Released = z.infer<typeof releasedSchema>;
export type Denied = z.infer<typeof deniedSchema>;
export type Answer = z.infer<typeof answerSchema>;
/** A signature in a hello or an answer. */
export type Signed = Pick<Hello, "signature" | "batch">;
export type Refusal = z.infer<typeof refusalSchema>;

/** What every signature and the seal are bound to, 32 bytes each. */
export interface Exchange {
  nonce: Uint8Array;
  identityKey: Uint8Array;
  ephemeralKey: Uint8Array;
}

const bytes = (value: string) => fromHex(value)!;

/** What the KMS signs for `size` hellos and answers together; `root` is that of the tree over what it would sign for each. */
export const batchTranscript = (size: number, root: Uint8Array): Uint8Array =>
  frame(`${keyReleaseVersion}/batch`, u32(size), root);

/** Whether the KMS with this identity (32 bytes) signed what has this transcript, alone or among others. */
export async function isSigned(
  identity: Uint8Array,
  transcript: Uint8Array,
  { signature, batch }: Signed,
): Promise<boolean> {
  if (batch === undefined) return verifySignature(identity, transcript, bytes(signature));
  const { size, index, proof } = batch;
  const root = await rootOf({ index, leaf: await leafHash(transcript) }, size, proof.map(bytes));
  return root !== undefined && verifySignature(identity, batchTranscript(size, root), bytes(signature));
}

/** What the KMS signs in its hello. */
export function helloTranscript(hello: Omit<Hello, keyof Signed>): Uint8Array {
  return frame(`${keyReleaseVersion}/hello`, bytes(hello.nonce), bytes(hello.identityKey), u64(hello.time));
}

/** What the KMS signs in its answer. */
export function answerTranscript(
  exchange: Exchange,
  answer: Omit<Released, keyof Signed> | Omit<Denied, keyof Signed>,
): Uint8Array {
  const about = [exchange.nonce, exchange.identityKey, exchange.ephemeralKey, u64(answer.time)];
  if (answer.outcome === "denied") {
    return frame(`${keyReleaseVersion}/denied`, ...about, text(answer.code), text(answer.message));
  }
  return frame(
    `${keyReleaseVersion}/released`,
    ...about,
    bytes(answer.app),
    bytes(answer.instance),
    u32(answer.keyVersion),
    bytes(answer.sealed.enc),
    bytes(answer.sealed.ciphertext),
    ...volumesField(answer),
    ...(answer.secrets === undefined
      ? []
      : [bytes(answer.secrets.hash), bytes(answer.secrets.enc), bytes(answer.secrets.ciphertext)]),
  );
}

/** One field more where there are volumes, so that an answer without them is signed as ever. */
const volumesField = ({ volumes }: Pick<Released, "volumes">): Uint8Array[] =>
  volumes === undefined ? [] : [text(canonicalJson(volumes))];

/** As `sealContext`, for the secrets of the document with this hash (hex). */
export function secretsContext(
  exchange: Exchange,
  about: Pick<Released, "time" | "app" | "instance" | "keyVersion" | "volumes">,
  hash: string,
): { info: Uint8Array; aad: Uint8Array } {
  const { info, aad } = sealContext(exchange, about);
  return { info, aad: frame(`${keyReleaseVersion}/sealed-secrets`, aad, bytes(hash)) };
}

/** HPKE's `info` (the exchange) and `aad` (whose keys these are, and when they were released). */
export function sealContext(
  exchange: Exchange,
  about: Pick<Released, "time" | "app" | "instance" | "keyVersion" | "volumes">,
): { info: Uint8Array; aad: Uint8Array } {
  const { nonce, identityKey, ephemeralKey } = exchange;
  return {
    info: frame(`${keyReleaseVersion}/seal`, nonce, identityKey, ephemeralKey),
    aad: frame(
      `${keyReleaseVersion}/sealed`,
      u64(about.time),
      bytes(about.app),
      bytes(about.instance),
      u32(about.keyVersion),
      ...volumesField(about),
    ),
  };
}
