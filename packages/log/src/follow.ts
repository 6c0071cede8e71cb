// SPDX-License-Identifier: Apache-2.0
/**
 * Who follows a log reads every entry of it, once, and believes nothing that it was not shown: the entries must have the
 * root that the log signed and a quorum of witnesses saw, and each later tree must continue the one before.
 *
 * Invariants: an entry of an application that is followed counts only with its envelope, and as its owners signed it;
 * where an envelope is withheld nothing after it counts, for it could be a revocation. A document that does not follow
 * what is there is passed over, as the log's own writer would have.
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
import { concat, equal } from "@caisson/vocabulary/bytes";
import type { LogSource } from "./client.ts";
import { LogServiceError } from "./errors.ts";
import { completeRoot, Frontier, leafOf } from "./tree.ts";
import { envelopePath, further } from "./writer.ts";

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
  /** By id (hex). */
  applications: ReadonlyMap<string, Application>;
  /** Documents that do not follow what was there, by index: a log that its writer keeps has none. */
  passedOver: readonly { index: number; code: string }[];
}

/** Which applications are followed: all, where this is undefined. */
export type Wanted = ReadonlySet<string> | undefined;

/**
 * Reads a log to its end, from where `before` ended. Throws ReleaseError for a checkpoint that the policy does not
 * believe; LogServiceError "log-service/fork" or "log-service/shrunk" where it is not what it was,
 * "log-service/envelope", "log-service/unreachable".
 */
export async function followLog(
  source: LogSource,
  policy: TrustPolicy,
  { now, wanted, before, known }: { now: number; wanted?: Wanted; before?: Following; known?: Checkpoint },
): Promise<Following> {
  const note = await readWhole(source, "checkpoint", checkpointLimit);
  const text = new TextDecoder().decode(note);
  const { checkpoint, seen } = await verifyCheckpoint(readNote(text), policy, now);
  const least = Math.max(before?.checkpoint.size ?? 0, known?.size ?? 0);
  if (checkpoint.size < least) {
    throw new LogServiceError("log-service/shrunk", `${source.name} has fewer entries than it had`, {
      facts: [
        ["expected", `at least ${least}`],
        ["found", `${checkpoint.size}`],
      ],
    });
  }
  const frontier = before?.frontier ?? new Frontier();
  const applications = new Map(before?.applications);
  const passedOver = [...(before?.passedOver ?? [])];
  // A tree that failed half way would be read twice: what is known is replaced as a whole, at the end.
  const reading = frontier.copy();
  for await (const entry of entriesOf(source, reading.size, checkpoint.size)) {
    const index = reading.size;
    reading.add(leafOf(entry));
    if (known?.size === reading.size && !equal(known.root, reading.root())) throw forked(source, known.size);
    const { kind, app, hash: documentHash } = readLogEntry(entry);
    if (wanted !== undefined && !wanted.has(app)) continue;
    const envelope = await readDocument(source, documentHash);
    try {
      applications.set(app, await further(applications.get(app), kind, app, envelope));
    } catch (error) {
      if (!(error instanceof ReleaseError)) throw error;
      passedOver.push({ index, code: error.code });
    }
  }
  if (!equal(reading.root(), checkpoint.root)) throw forked(source, checkpoint.size);
  return { checkpoint, note: text, seen, frontier: reading, applications, passedOver };
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
