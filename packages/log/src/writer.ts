// SPDX-License-Identifier: Apache-2.0
/**
 * The writer of one log: lets documents in that follow what is there, and keeps the log as the static files of
 * https://c2sp.org/tlog-tiles, envelopes beside them.
 *
 *     checkpoint            what everybody reads: the newest tree that was witnessed
 *     committed             the newest tree of the writer, which the next entry continues
 *     tile/…, envelope/<hash>
 *
 * Invariants: tiles and envelopes are on disk before the checkpoint that covers them is signed, and that is before
 * anybody hears of it, so a crash loses nothing that was answered; a checkpoint never goes back; entries that come at the
 * same time share one commit. A document that is there already is answered with its old place.
 */

import { hash } from "node:crypto";
import { join } from "node:path";
import {
  type Application,
  advance,
  beginApplication,
  type Checkpoint,
  consistencyProof,
  type EntryKind,
  type Envelope,
  hashesOfTiles,
  logEntry,
  ReleaseError,
  readCheckpoint,
  readEntries,
  readEnvelope,
  readHashes,
  readLogEntry,
  readNote,
  signersOfNote,
  tilePath,
  tileWidth,
  writeCheckpoint,
  writeEntries,
  writeEnvelope,
} from "@caisson/releases";
import { concat, equal, toHex } from "@caisson/vocabulary/bytes";
import { LogServiceError } from "./errors.ts";
import { Durable, readIfThere } from "./files.ts";
import type { NoteSigningKey } from "./keys.ts";
import { completeRoot, Frontier, leafOf } from "./tree.ts";
import { askWitnesses, type WitnessAddress } from "./witness.ts";

interface Pending {
  kind: EntryKind;
  app: string;
  envelope: Envelope;
  done: (index: number) => void;
  failed: (error: unknown) => void;
}

/** Where a document's envelope lies; of a first identity document the payload has no signature. */
export const envelopePath = (documentHash: string): string => `envelope/${documentHash}`;

export class LogWriter {
  readonly #directory: string;
  readonly #key: NoteSigningKey;
  readonly #witnesses: readonly WitnessAddress[];
  readonly #frontier = new Frontier();
  /** Of each level, the hashes of its last tile, which is not full. */
  readonly #edges: Uint8Array[][] = [];
  #entries: Uint8Array[] = [];
  readonly #places = new Map<string, number>();
  readonly #applications = new Map<string, Application>();
  #pending: Pending[] = [];
  #flushing: Promise<void> | undefined;
  /** Why nothing more is taken: the disk refused a commit, and what is in memory is not what is there. */
  #fault: unknown;

  private constructor(directory: string, key: NoteSigningKey, witnesses: readonly WitnessAddress[]) {
    this.#directory = directory;
    this.#key = key;
    this.#witnesses = witnesses;
  }

  /** Opens the log in a directory, or begins one there. Throws LogServiceError "log-service/damaged". */
  static async open(
    directory: string,
    key: NoteSigningKey,
    witnesses: readonly WitnessAddress[] = [],
  ): Promise<LogWriter> {
    const writer = new LogWriter(directory, key, witnesses);
    await writer.#read();
    return writer;
  }

  get checkpoint(): Checkpoint {
    return { origin: this.#key.key.name, size: this.#frontier.size, root: this.#frontier.root() };
  }

  get applications(): ReadonlyMap<string, Application> {
    return this.#applications;
  }

  /**
   * Adds a document of an application (id in hex); its index once it is on disk. Throws ReleaseError where it does not
   * follow what is there.
   */
  add(kind: EntryKind, app: string, envelope: Envelope): Promise<number> {
    if (this.#fault !== undefined) return Promise.reject(this.#fault);
    return new Promise((done, failed) => {
      this.#pending.push({ kind, app, envelope, done, failed });
      this.#flushing ??= this.#flush();
    });
  }

  /** Asks the witnesses again, so that readers see that nothing newer was hidden. */
  async refresh(): Promise<void> {
    await this.#flushing;
    this.#flushing ??= this.#publish().finally(() => {
      this.#flushing = undefined;
    });
    await this.#flushing;
  }

  async #flush(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        // Whoever asks in the same moment shares the commit.
        await new Promise((resolve) => setImmediate(resolve));
        await this.#commit(this.#pending.splice(0, tileWidth));
      }
    } catch (error) {
      this.#fault = error;
      for (const { failed } of this.#pending.splice(0)) failed(error);
    } finally {
      this.#flushing = undefined;
    }
  }

  async #commit(batch: readonly Pending[]): Promise<void> {
    const durable = new Durable();
    const answers: (() => void)[] = [];
    const changed = new Set<number>();
    try {
      for (const one of batch) {
        try {
          const { entry, documentHash } = await this.#judge(one);
          const key = toHex(entry);
          const known = this.#places.get(key);
          if (known !== undefined) {
            answers.push(() => one.done(known));
            continue;
          }
          const index = this.#frontier.size;
          const document = JSON.stringify(writeEnvelope(one.envelope));
          durable.write(join(this.#directory, envelopePath(documentHash)), document);
          this.#places.set(key, index);
          this.#append(entry, durable, changed);
          answers.push(() => one.done(index));
        } catch (error) {
          if (!(error instanceof ReleaseError)) throw error;
          answers.push(() => one.failed(error));
        }
      }
      this.#writePartial(durable, changed);
      durable.sync();
      await this.#sign(durable);
    } catch (error) {
      for (const { failed } of batch) failed(error);
      throw error;
    }
    await this.#publish();
    for (const answer of answers) answer();
  }

  /** The entry of a document that may be added, or is there; the application is then further. */
  async #judge({ kind, app, envelope }: Pending): Promise<{ entry: Uint8Array; documentHash: string }> {
    const documentHash = hash("sha256", envelope.payload);
    const entry = logEntry(kind, app, documentHash);
    if (this.#places.has(toHex(entry))) return { entry, documentHash };
    this.#applications.set(app, await further(this.#applications.get(app), kind, app, envelope));
    return { entry, documentHash };
  }

  /** Adds an entry to the tree; tiles that are full by it are written. */
  #append(entry: Uint8Array, durable: Durable | undefined, changed: Set<number>): void {
    const leaf = leafOf(entry);
    this.#frontier.add(leaf);
    this.#entries.push(entry);
    let hashes = leaf;
    for (let level = 0; ; level++) {
      const edge = (this.#edges[level] ??= []);
      edge.push(hashes);
      changed.add(level);
      if (edge.length < tileWidth) return;
      const tile = Math.floor(this.#frontier.size / tileWidth ** (level + 1)) - 1;
      durable?.write(join(this.#directory, tilePath(level, tile)), concat(...edge));
      if (level === 0) {
        durable?.write(join(this.#directory, tilePath("entries", tile)), writeEntries(this.#entries));
        this.#entries = [];
      }
      hashes = completeRoot(edge);
      this.#edges[level] = [];
    }
  }

  #writePartial(durable: Durable, changed: ReadonlySet<number>): void {
    for (const level of changed) {
      const edge = this.#edges[level]!;
      if (edge.length === 0) continue;
      const tile = Math.floor(this.#frontier.size / tileWidth ** (level + 1));
      durable.write(join(this.#directory, tilePath(level, tile, edge.length)), concat(...edge));
      if (level > 0) continue;
      const entries = writeEntries(this.#entries);
      durable.write(join(this.#directory, tilePath("entries", tile, edge.length)), entries);
    }
  }

  async #sign(durable: Durable): Promise<void> {
    const text = writeCheckpoint(this.checkpoint);
    durable.write(join(this.#directory, "committed"), `${text}\n${await this.#key.line(text)}`);
    durable.sync();
  }

  /** What the witnesses have seen becomes what everybody reads. */
  async #publish(): Promise<void> {
    const committed = readIfThere(join(this.#directory, "committed"));
    if (committed === undefined) return;
    const note = new TextDecoder().decode(committed);
    const lines = await askWitnesses(this.#witnesses, note, (first, second) =>
      this.consistency(first, second),
    );
    const durable = new Durable();
    durable.write(join(this.#directory, "checkpoint"), note + lines.join(""));
    durable.sync();
  }

  /** The proof that the tree of `first` entries is the beginning of that of `second`. */
  async consistency(first: number, second: number): Promise<Uint8Array[]> {
    const read = hashesOfTiles(async (level, index, width) => this.#tile(level, index, width), second);
    return first === 0 ? [] : consistencyProof(read, first, second);
  }

  #tile(level: number, index: number, width: number): Uint8Array[] {
    for (const have of [width, tileWidth]) {
      const bytes = readIfThere(join(this.#directory, tilePath(level, index, have)));
      if (bytes !== undefined) return readHashes(bytes, have).slice(0, width);
    }
    throw new LogServiceError("log-service/damaged", `${tilePath(level, index, width)} is not there`);
  }

  /** Everything that was committed, read again: tree, places and applications follow from the entries. */
  async #read(): Promise<void> {
    const bytes = readIfThere(join(this.#directory, "committed"));
    if (bytes === undefined) {
      const durable = new Durable();
      await this.#sign(durable);
      await this.#publish();
      return;
    }
    const note = readNote(new TextDecoder().decode(bytes));
    const { origin, size, root } = readCheckpoint(note.text);
    if (origin !== this.#key.key.name || (await signersOfNote(note, [this.#key.key])).length === 0) {
      throw new LogServiceError(
        "log-service/key",
        `the log in ${this.#directory} is of another key than this one`,
      );
    }
    for (let tile = 0; tile * tileWidth < size; tile++) {
      const width = Math.min(tileWidth, size - tile * tileWidth);
      const path = join(this.#directory, tilePath("entries", tile, width));
      const content = readIfThere(path);
      if (content === undefined) throw new LogServiceError("log-service/damaged", `${path} is not there`);
      for (const entry of readEntries(content, width)) await this.#replay(entry);
    }
    if (!equal(this.#frontier.root(), root)) {
      throw new LogServiceError(
        "log-service/damaged",
        `the entries in ${this.#directory} are not those of its checkpoint`,
      );
    }
    await this.#publish();
  }

  async #replay(entry: Uint8Array): Promise<void> {
    const { kind, app, hash: documentHash } = readLogEntry(entry);
    const path = join(this.#directory, envelopePath(documentHash));
    const content = readIfThere(path);
    if (content === undefined) throw new LogServiceError("log-service/damaged", `${path} is not there`);
    const envelope = readEnvelope(JSON.parse(new TextDecoder().decode(content)));
    this.#applications.set(app, await further(this.#applications.get(app), kind, app, envelope));
    this.#places.set(toHex(entry), this.#frontier.size);
    this.#append(entry.slice(), undefined, new Set());
  }
}

/** An application after one more document, or from its first. Throws ReleaseError. */
export async function further(
  application: Application | undefined,
  kind: EntryKind,
  app: string,
  envelope: Envelope,
): Promise<Application> {
  if (application !== undefined) return advance(application, kind, envelope);
  if (kind !== "identity") {
    throw new ReleaseError(
      "identity/chain",
      `the log does not have the first document of application ${app}`,
    );
  }
  const begun = await beginApplication(envelope.payload);
  if (begun.id === app) return begun;
  throw new ReleaseError(
    "identity/hash",
    "this is not the document that the application's id is the hash of",
    {
      expected: app,
      actual: begun.id,
    },
  );
}
