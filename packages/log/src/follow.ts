// SPDX-License-Identifier: Apache-2.0
/**
 * Who follows a log reads every entry of it, once, and believes nothing that it was not shown: the entries must have the
 * root that the log signed and a quorum of witnesses saw, and each later tree must continue the one before.
 *
 * Invariants: an entry of an application that is followed counts only with its envelope, and as its owners signed it;
 * where an envelope is withheld nothing after it counts, for it could be a revocation. A document that does not follow
 * what is there is passed over, as the log's own writer would have. Who goes on from what he kept (`writeFollowing`) reads
 * what came since, and all of it again only where he wants an application that he did not follow before.
 */

import { hash } from "node:crypto";
import {
  type Application,
  type Checkpoint,
  entryLimit,
  hashesOfTiles,
  inclusionProof,
  type LogProof,
  logEntry,
  ReleaseError,
  readEntries,
  readEnvelope,
  readHashes,
  readLogEntry,
  readNote,
  type TrustPolicy,
  tilePath,
  tileWidth,
  verifyCheckpoint,
} from "@caisson/releases";
import { readApplication, writeApplication } from "@caisson/releases/kept-application";
import { concat, equal, fromHex, toHex } from "@caisson/vocabulary/bytes";
import {
  hex,
  integer,
  list,
  nullable,
  object,
  oneOf,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";
import type { LogSource } from "./client.ts";
import { envelopePath, further } from "./documents.ts";
import { LogServiceError } from "./errors.ts";
import { completeRoot, Frontier, leafOf } from "./tree.ts";

const checkpointLimit = 64 * 1024;
const envelopeLimit = 256 * 1024;

/** How far a log was read, and what it said. */
export interface Following {
  checkpoint: Checkpoint;
  /** The note, verbatim. */
  note: string;
  /** When the newest quorum saw it, ms since 1970. */
  seen: number | undefined;
  frontier: Frontier;
  /** Which applications are followed. */
  wanted: Wanted;
  /** By id (hex). */
  applications: ReadonlyMap<string, Application>;
  /** Documents that do not follow what was there, by index, the first thousand: a log that its writer keeps has none. */
  passedOver: readonly { index: number; code: string }[];
}

/** Which applications are followed: all, where this is undefined. */
export type Wanted = ReadonlySet<string> | undefined;

const mostPassedOver = 1000;

/**
 * Reads a log to its end, from where `before` ended. Throws ReleaseError for a checkpoint that the policy does not
 * believe; LogServiceError "log-service/fork" or "log-service/shrunk" where it is not what it was,
 * "log-service/envelope", "log-service/unreachable".
 */
export async function followLog(
  source: LogSource,
  policy: TrustPolicy,
  {
    now,
    wanted,
    before: last,
    known,
  }: { now: number; wanted?: Wanted; before?: Following; known?: Checkpoint },
): Promise<Following> {
  const before = last !== undefined && covers(last.wanted, wanted) ? last : undefined;
  const note = await readWhole(source, "checkpoint", checkpointLimit);
  const signed = new TextDecoder().decode(note);
  const { checkpoint, seen } = await verifyCheckpoint(readNote(signed), policy, now);
  const trees = [known, last?.checkpoint].filter((tree) => tree !== undefined);
  const least = Math.max(0, ...trees.map(({ size }) => size));
  if (checkpoint.size < least) {
    throw new LogServiceError("log-service/shrunk", `${source.name} has fewer entries than it had`, {
      facts: [
        ["expected", `at least ${least}`],
        ["found", `${checkpoint.size}`],
      ],
    });
  }
  const frontier = before?.frontier ?? new Frontier();
  const kept = [...(before?.applications ?? [])].filter(([id]) => wanted?.has(id) !== false);
  const applications = new Map(kept);
  const passedOver = [...(before?.passedOver ?? [])];
  // A tree that failed half way would be read twice: what is known is replaced as a whole, at the end.
  const reading = frontier.copy();
  for await (const entry of entriesOf(source, reading.size, checkpoint.size)) {
    const index = reading.size;
    reading.add(leafOf(entry));
    for (const { size, root } of trees) {
      if (size === reading.size && !equal(root, reading.root())) throw forked(source, size);
    }
    const { kind, app, hash: documentHash } = readLogEntry(entry);
    if (wanted !== undefined && !wanted.has(app)) continue;
    const envelope = await readDocument(source, documentHash);
    try {
      applications.set(app, await further(applications.get(app), kind, app, envelope));
    } catch (error) {
      if (!(error instanceof ReleaseError)) throw error;
      if (passedOver.length < mostPassedOver) passedOver.push({ index, code: error.code });
    }
  }
  if (!equal(reading.root(), checkpoint.root)) throw forked(source, checkpoint.size);
  return { checkpoint, note: signed, seen, frontier: reading, wanted, applications, passedOver };
}

/** Whether who followed `before` has read all that is `wanted`. */
const covers = (before: Wanted, wanted: Wanted): boolean =>
  before === undefined || (wanted !== undefined && [...wanted].every((id) => before.has(id)));

const index = integer(0, Number.MAX_SAFE_INTEGER);
const anything: Schema<unknown> = (value) => value;
const schema = object({
  version: oneOf("caisson/following/v1"),
  note: text("a signed checkpoint", /^/, checkpointLimit),
  peaks: list(object({ leaves: index, hash: hex(32) }), 0, 64),
  wanted: nullable(list(hex(32), 0, 2 ** 32)),
  applications: list(anything, 0, 2 ** 32),
  passedOver: list(object({ index, code: text("a code", /^/, 64) }), 0, mostPassedOver),
});

/** What is kept to go on from, as JSON that `readFollowing` takes. */
export function writeFollowing({ note, frontier, wanted, applications, passedOver }: Following): object {
  return {
    version: "caisson/following/v1",
    note,
    peaks: frontier.peaks.map(({ leaves, hash }) => ({ leaves, hash: toHex(hash) })),
    wanted: wanted === undefined ? null : [...wanted],
    applications: [...applications.values()].map(writeApplication),
    passedOver,
  };
}

/**
 * Reads parsed JSON of `writeFollowing`. The log has to have signed the tree, and its quorum to have seen it; what it said
 * of applications is believed, so it comes from where nobody else writes. Throws ReleaseError; LogServiceError
 * "log-service/damaged" where it is not of the checkpoint that it says, or not its own form.
 */
export async function readFollowing(value: unknown, policy: TrustPolicy, now: number): Promise<Following> {
  const damaged = (what: string) =>
    new LogServiceError("log-service/damaged", `what was kept of a log: ${what}`);
  let found: ReturnType<typeof schema>;
  try {
    found = schema(value);
  } catch (error) {
    if (error instanceof SchemaError) throw damaged(error.message);
    throw error;
  }
  const { note, wanted, passedOver } = found;
  const { checkpoint, seen } = await verifyCheckpoint(readNote(note), policy, now);
  const { peaks } = found;
  const frontier = Frontier.of(
    peaks.map(({ leaves, hash: peak }) => ({ leaves, hashes: [fromHex(peak)!] })).toReversed(),
  );
  // Powers of two, each smaller than the one before: there is one edge of a tree.
  const isEdge = peaks.every(
    ({ leaves }, i) => Number.isInteger(Math.log2(leaves)) && leaves < (peaks[i - 1]?.leaves ?? Infinity),
  );
  if (!isEdge || frontier.size !== checkpoint.size || !equal(frontier.root(), checkpoint.root)) {
    throw damaged("its edge is not that of its checkpoint");
  }
  const applications = await Promise.all(found.applications.map(readApplication));
  return {
    checkpoint,
    note,
    seen,
    frontier,
    wanted: wanted === null ? undefined : new Set(wanted),
    applications: new Map(applications.map((one) => [one.id, one])),
    passedOver,
  };
}

const forked = (source: LogSource, size: number): LogServiceError =>
  new LogServiceError(
    "log-service/fork",
    `${source.name} shows entries that are not those of its checkpoint, or another history than before, at ${size}`,
  );

async function readWhole(source: LogSource, path: string, limit: number): Promise<Uint8Array> {
  const bytes = await source.read(path, limit);
  if (bytes !== undefined) return bytes;
  throw new LogServiceError("log-service/unreachable", `${source.name} has no ${path}`);
}

async function* entriesOf(source: LogSource, from: number, size: number): AsyncGenerator<Uint8Array> {
  for (let tile = Math.floor(from / tileWidth); tile * tileWidth < size; tile++) {
    const width = Math.min(tileWidth, size - tile * tileWidth);
    const limit = width * (entryLimit + 2);
    const bytes = await readWhole(source, tilePath("entries", tile, width), limit);
    const entries = readEntries(bytes, width);
    yield* entries.slice(Math.max(0, from - tile * tileWidth));
  }
}

async function readDocument(source: LogSource, documentHash: string) {
  const path = envelopePath(documentHash);
  const bytes = await source.read(path, envelopeLimit);
  if (bytes === undefined) {
    throw new LogServiceError("log-service/envelope", `${source.name} withholds ${path}`);
  }
  const envelope = readEnvelope(JSON.parse(new TextDecoder().decode(bytes)));
  if (hash("sha256", envelope.payload) === documentHash) return envelope;
  throw new LogServiceError("log-service/envelope", `${source.name} shows another document as ${path}`);
}

/**
 * Checks every file of a log: what `followLog` checks, and that each tile holds the hashes that follow from the entries.
 * Throws as that, and LogServiceError "log-service/damaged".
 */
export async function verifyLog(source: LogSource, policy: TrustPolicy, now: number): Promise<Following> {
  const following = await followLog(source, policy, { now });
  const { size } = following.checkpoint;
  let below: Uint8Array[] = [];
  for await (const entry of entriesOf(source, 0, size)) below.push(leafOf(entry));
  for (let level = 0; below.length > 0; level++) {
    const above: Uint8Array[] = [];
    for (let tile = 0; tile * tileWidth < below.length; tile++) {
      const hashes = below.slice(tile * tileWidth, (tile + 1) * tileWidth);
      const path = tilePath(level, tile, hashes.length);
      if (!equal(concat(...hashes), await readWhole(source, path, 32 * hashes.length))) {
        throw new LogServiceError(
          "log-service/damaged",
          `${source.name}: ${path} does not follow from the entries`,
        );
      }
      if (hashes.length === tileWidth) above.push(completeRoot(hashes));
    }
    below = above;
  }
  return following;
}

/** The proof, for a bundle, that a release is logged: in the newest checkpoint. Throws as `followLog`. */
export async function proveRelease(
  source: LogSource,
  following: Following,
  app: string,
  statementHash: string,
): Promise<LogProof> {
  const { size } = following.checkpoint;
  const wanted = logEntry("release", app, statementHash);
  let index = 0;
  let found: number | undefined;
  for await (const entry of entriesOf(source, 0, size)) {
    if (equal(entry, wanted)) {
      found = index;
      break;
    }
    index++;
  }
  if (found === undefined) throw new ReleaseError("log/proof", "this release is not in the log");
  const read = hashesOfTiles(async (level, tile, width) => {
    const bytes = await readWhole(source, tilePath(level, tile, width), 32 * width);
    return readHashes(bytes, width);
  }, size);
  return { index: found, path: await inclusionProof(read, found, size), checkpoint: following.note };
}
