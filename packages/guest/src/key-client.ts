// SPDX-License-Identifier: Apache-2.0
/**
 * The guest's side of key release: hello, evidence, answer, open.
 *
 * Invariants: nothing that the KMS says is used before its signature is checked against the identity that was
 * measured as `key-provider`; the key that opens the seal exists only here and only for one exchange; keys are
 * returned only if the KMS's clock agrees with ours. There are no retries: every exchange is a new nonce and a new
 * quote, so the caller decides how many it can afford.
 */

import { generateSealingKey, open, type SealingKey } from "@caisson/protocol/hpke";
import {
  answerLimit,
  answerSchema,
  answerTranscript,
  type Denied,
  type Exchange,
  type Hello,
  helloSchema,
  helloTranscript,
  isSigned,
  keyReleasePaths,
  keyReleaseVersion,
  type Released,
  type ReleaseRequest,
  refusalSchema,
  releasedSize,
  releasedVolumeSize,
  sealContext,
  secretsContext,
  secretValues,
} from "@caisson/protocol/key-release";
import type { Grant } from "@caisson/protocol/volumes";
import { reportData } from "@caisson/verify/report-data";
import { messageOf } from "@caisson/vocabulary/failure";
import { keepConnection, postJson } from "./http.ts";

export type KeyErrorCode =
  | "keys/unreachable"
  | "keys/malformed"
  | "keys/refused"
  | "keys/denied"
  | "keys/other-identity"
  | "keys/other-guest"
  | "keys/signature"
  | "keys/time"
  | "keys/seal";

/** Why there are no keys. `keys/denied` is the KMS's own, signed word; `denial` is its code. */
export class KeyError extends Error {
  readonly code: KeyErrorCode;
  readonly denial?: string;
  constructor(code: KeyErrorCode, message: string, denial?: string) {
    super(message);
    this.code = code;
    if (denial !== undefined) this.denial = denial;
  }
}

/** Sends JSON to a path of the KMS and returns the JSON that came back, whatever the status. */
export type Post = (path: string, body: object) => Promise<unknown>;

export interface KeyRequest {
  post: Post;
  /** The identity that was measured as `key-provider`, 32 bytes. */
  identityKey: Uint8Array;
  /** This machine's evidence document over 64 bytes of report data. */
  evidence: (reportData: Uint8Array) => Promise<unknown>;
  /** The owners' secrets as the host gave them; left out where the description declares none. */
  secrets?: unknown;
  /** The verified clock, milliseconds since 1970. */
  now: () => number;
  /** What the KMS last signed about the volumes, by the names of their disks; it gets to see it again. */
  tickets?: NonNullable<ReleaseRequest["tickets"]>;
  /** How far the KMS's clock may lie outside of the time that the request took, in milliseconds. */
  toleranceMs: number;
}

/** 32 bytes each; `app` and `instance` are the ids (hex) for which the KMS derived them. */
export interface ReleasedKeys {
  applicationKey: Uint8Array;
  instanceKey: Uint8Array;
  keyVersion: number;
  app: string;
  instance: string;
  /** The KMS's signed time, milliseconds since 1970. */
  time: number;
  /** The volumes that were measured, opened for this machine. */
  volumes: ReleasedVolume[];
  secrets?: ReleasedSecrets;
}

/** An opening of a volume: what the KMS says of it, its secret, and the key under which it is anchored (32 bytes each). */
export interface ReleasedVolume {
  name: string;
  grant: Grant;
  secret: Uint8Array;
  anchorKey: Uint8Array;
}

/** Secrets by name, and the hash (hex) of the document that the owners signed. */
export interface ReleasedSecrets {
  hash: string;
  values: ReadonlyMap<string, Uint8Array>;
}

/** One exchange. Throws KeyError; errors of `evidence` pass through. */
export async function requestKeys(request: KeyRequest): Promise<ReleasedKeys> {
  const hello = await sayHello(request);
  const sealing = generateSealingKey();
  const exchange: Exchange = {
    nonce: Uint8Array.fromHex(hello.nonce),
    identityKey: request.identityKey,
    ephemeralKey: sealing.publicKey,
  };
  const evidence = await request.evidence(await quotedData(exchange));

  const sent = request.now();
  const answer = await askForKeys(request, exchange, evidence);
  const received = request.now();

  if (answer.outcome === "denied") {
    throw new KeyError("keys/denied", `the KMS refuses: ${answer.message}   [${answer.code}]`, answer.code);
  }
  checkTime(answer.time, sent, received, request.toleranceMs);
  const keys = openSeal(sealing, exchange, answer);
  const { keyVersion, app, instance, time, volumes: grants = [] } = answer;
  const [applicationKey, instanceKey] = [keys.slice(0, 32), keys.slice(32, releasedSize)];
  const volumes = grants.map((grant, index): ReleasedVolume => {
    const at = releasedSize + index * releasedVolumeSize;
    return {
      name: grant.name,
      grant,
      secret: keys.slice(at, at + 32),
      anchorKey: keys.slice(at + 32, at + 64),
    };
  });
  const secrets = openSecrets(sealing, exchange, answer);
  keys.fill(0);
  return {
    applicationKey,
    instanceKey,
    keyVersion,
    app,
    instance,
    time,
    volumes,
    ...(secrets && { secrets }),
  };
}

/**
 * Throws unless the keys are those of this application and this instance, by their measured ids of 20 bytes. The KMS
 * takes both from our evidence: others mean that it derived somebody else's keys.
 */
export function checkOwner(keys: ReleasedKeys, app: Uint8Array, instance: Uint8Array): void {
  for (const [what, theirs, own] of [
    ["application", keys.app, app.toHex()],
    ["instance", keys.instance, instance.toHex()],
  ] as const) {
    if (theirs === own) continue;
    throw new KeyError("keys/other-guest", `the KMS released keys of ${what} ${theirs}; this is ${own}`);
  }
}

/** Throws unless the KMS opened these volumes, in this order, and no others. */
export function checkVolumes({ volumes }: ReleasedKeys, names: readonly string[]): void {
  const opened = volumes.map(({ name }) => name).join(", ");
  if (opened === names.join(", ")) return;
  throw new KeyError(
    "keys/malformed",
    `the KMS opened the volumes '${opened}'; these are '${names.join(", ")}'`,
  );
}

async function sayHello({ post, identityKey }: KeyRequest): Promise<Hello> {
  const hello = parse(helloSchema, await reach(post, keyReleasePaths.hello, { version: keyReleaseVersion }));
  if (hello.identityKey !== identityKey.toHex()) {
    throw new KeyError(
      "keys/other-identity",
      `the KMS says that it is ${hello.identityKey}; measured was ${identityKey.toHex()}`,
    );
  }
  if (!(await isSigned(identityKey, helloTranscript(hello), hello))) {
    throw new KeyError("keys/signature", "the KMS's hello is not signed by the identity that was measured");
  }
  return hello;
}

function quotedData({ nonce, identityKey, ephemeralKey }: Exchange): Promise<Uint8Array> {
  return reportData(keyReleaseVersion, { nonce, kmsIdentityKey: identityKey, ephemeralKey });
}

async function askForKeys(
  request: KeyRequest,
  exchange: Exchange,
  evidence: unknown,
): Promise<Released | Denied> {
  const body = {
    version: keyReleaseVersion,
    nonce: exchange.nonce.toHex(),
    ephemeralKey: exchange.ephemeralKey.toHex(),
    evidence,
    ...(request.tickets !== undefined && { tickets: request.tickets }),
    ...(request.secrets !== undefined && { secrets: request.secrets }),
  };
  const answer = parse(answerSchema, await reach(request.post, keyReleasePaths.release, body));
  if (!(await isSigned(request.identityKey, answerTranscript(exchange, answer), answer))) {
    throw new KeyError(
      "keys/signature",
      "the KMS's answer is not signed, for this exchange, by the identity that was measured",
    );
  }
  return answer;
}

/** The KMS read its clock between our sending and our receiving; anything outside is a clock that is wrong. */
function checkTime(time: number, sent: number, received: number, toleranceMs: number): void {
  const difference = time < sent ? time - sent : time > received ? time - received : 0;
  if (!(Math.abs(difference) <= toleranceMs)) {
    throw new KeyError(
      "keys/time",
      `the KMS's clock is ${difference} ms from ours; at most ${toleranceMs} ms are tolerated`,
    );
  }
}

function openSeal(own: SealingKey, exchange: Exchange, answer: Released): Uint8Array {
  const { enc, ciphertext } = answer.sealed;
  const sealed = { enc: Uint8Array.fromHex(enc), ciphertext: Uint8Array.fromHex(ciphertext) };
  const size = releasedSize + (answer.volumes?.length ?? 0) * releasedVolumeSize;
  try {
    const keys = open(own, sealed, sealContext(exchange, answer));
    if (keys.length === size) return keys;
    throw new RangeError("another size");
  } catch {
    throw new KeyError("keys/seal", "the sealed keys do not open with the key that was quoted");
  }
}

function openSecrets(own: SealingKey, exchange: Exchange, answer: Released): ReleasedSecrets | undefined {
  if (answer.secrets === undefined) return undefined;
  const { hash, enc, ciphertext } = answer.secrets;
  try {
    const sealed = { enc: Uint8Array.fromHex(enc), ciphertext: Uint8Array.fromHex(ciphertext) };
    const message = open(own, sealed, secretsContext(exchange, answer, hash));
    const values = secretValues.parse(JSON.parse(new TextDecoder().decode(message)));
    return {
      hash,
      values: new Map(Object.entries(values).map(([name, value]) => [name, Uint8Array.fromHex(value)])),
    };
  } catch {
    throw new KeyError("keys/seal", "the sealed secrets do not open with the key that was quoted");
  }
}

async function reach(post: Post, path: string, body: object): Promise<unknown> {
  let answer: unknown;
  try {
    answer = await post(path, body);
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : "";
    throw new KeyError("keys/unreachable", `${path}: ${messageOf(error)}${cause}`);
  }
  const refusal = refusalSchema.safeParse(answer);
  if (refusal.success) {
    const { code, message } = refusal.data.error;
    throw new KeyError("keys/refused", `${path}: ${message}   [${code}, not signed]`);
  }
  return answer;
}

interface Parser<T> {
  safeParse(value: unknown): { success: true; data: T } | { success: false; error: { issues: Issue[] } };
}
interface Issue {
  path: PropertyKey[];
  message: string;
}

function parse<T>(schema: Parser<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new KeyError("keys/malformed", `the KMS's message: ${issue?.path.join(".")}: ${issue?.message}`);
}

/**
 * `post` over HTTP to a base URL, on one connection while the server keeps it. Bounded: 256 KiB of answer, `timeoutMs`
 * for each request, no redirects.
 */
export function httpPost(url: string, timeoutMs: number): Post {
  const kept = keepConnection(new URL(url), timeoutMs);
  return async (path, body) =>
    JSON.parse(await postJson(new URL(path, url), body, answerLimit, timeoutMs, kept)) as unknown;
}
