// SPDX-License-Identifier: Apache-2.0
/**
 * The writer of one log: lets documents in that follow what is there, and keeps the log as the static files of
 * https://c2sp.org/tlog-tiles, envelopes beside them.
 *
 *     checkpoint            what everybody reads: the newest tree that was witnessed
 *     tile/…, envelope/<hash>
 *     committed             a tree of the writer whose files are all on disk
 *     journal               what came since, and the signed tree after it
 *     known.sqlite          of that tree: where each entry is, and how each application stands (known.ts)
 *
 * Invariants: documents are on disk, in the journal, before anybody hears of the tree that covers them, so a crash loses
 * nothing that was answered; their files are put into their places at once and synchronized later, all together, and
 * written again from the journal where a crash came between; a checkpoint never goes back; entries that come at the same
 * time share one commit. A document that is there already is answered with its old place. A start reads the right edge of
 * the settled tree, which has to be the signed one, and the journal: neither grows with the log.
 */

import { hash } from "node:crypto";
import { join } from "node:path";
import {
  type Application,
  type Checkpoint,
  consistencyProof,
  type EntryKind,
  type Envelope,
  hashesOfTiles,
  logEntry,
  ReleaseError,
  readCheckpoint,
  readEnvelope,
  readLogEntry,
  readNote,
  signersOfNote,
  tileWidth,
  writeCheckpoint,
  writeEnvelope,
} from "@caisson/releases";
import { toHex } from "@caisson/vocabulary/bytes";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { type Addition, envelopePath, further, readRecord, writeRecord } from "./documents.ts";
import { LogServiceError } from "./errors.ts";
import { Durable, readIfThere, replaceFile } from "./files.ts";
import { Journal } from "./journal.ts";
import type { NoteSigningKey } from "./keys.ts";
import { KnownLog } from "./known.ts";
import { type Changes, changes, Tiles } from "./tiles.ts";
import { leafOf } from "./tree.ts";
import { askWitnesses, type WitnessAddress } from "./witness.ts";

interface Pending extends Addition {
  done: (index: number) => void;
  failed: (error: unknown) => void;
}

/** Entries in the journal, about, after which their files are synchronized. */
const settleAfter = 256;

export class LogWriter {
  readonly #directory: string;
  readonly #journal: Journal;
  /** Files that are written, and only the journal has for certain. */
  readonly #unsettled = new Durable();
  readonly #tree: Tiles;
  /** Entries of the tree whose files are all on disk. */
  #settled = 0;
  readonly #key: NoteSigningKey;
  readonly #witnesses: readonly WitnessAddress[];
  readonly #known: KnownLog;
  /** What is not in `#known` yet: places by leaf, applications by id; both hex. */
  readonly #places = new Map<string, number>();
  readonly #applications = new Map<string, Application>();
  #pending: Pending[] = [];
  #flushing: Promise<void> | undefined;
  /** Why nothing more is taken: the disk refused a commit, and what is in memory is not what is there. */
  #fault: unknown;

  private constructor(directory: string, key: NoteSigningKey, witnesses: readonly WitnessAddress[]) {
    makeDirectory(directory);
    this.#directory = directory;
    this.#tree = new Tiles(directory, this.#unsettled);
    this.#known = new KnownLog(join(directory, "known.sqlite"));
    try {
      this.#journal = new Journal(join(directory, "journal"));
    } catch (error) {
      this.#known.close();
      throw error;
    }
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
    try {
      await writer.#read();
    } catch (error) {
      writer.#journal.close();
      writer.#known.close();
      throw error;
    }
    return writer;
  }

  /** Ends it, once what was asked for is answered; every file is then on disk. */
  async close(): Promise<void> {
    await this.#flushing;
    if (this.#fault === undefined) this.#settle(await this.#note());
    this.#fault ??= new LogServiceError("log-service/busy", "this log was closed");
    this.#journal.close();
    this.#known.close();
  }

  get checkpoint(): Checkpoint {
    return { origin: this.#key.key.name, size: this.#tree.size, root: this.#tree.root() };
  }

  /** An application by its id (hex), as far as the log has it. */
  async application(id: string): Promise<Application | undefined> {
    return this.#applications.get(id) ?? (await this.#known.application(id));
  }

  /** Where an entry is, by the hash of its leaf (hex). */
  #place(leaf: string): number | undefined {
    return this.#places.get(leaf) ?? this.#known.place(leaf);
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
    this.#flushing ??= this.#note()
      .then((note) => this.#publish(note))
      .finally(() => {
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
    const answers: (() => void)[] = [];
    const added: Addition[] = [];
    const changed = changes();
    let note: string;
    try {
      for (const one of batch) {
        try {
          const { entry, leaf, documentHash } = await this.#judge(one);
          const known = this.#place(leaf);
          if (known !== undefined) {
            answers.push(() => one.done(known));
            continue;
          }
          const index = this.#tree.size;
          changed.files.set(envelopePath(documentHash), JSON.stringify(writeEnvelope(one.envelope)));
          this.#places.set(leaf, index);
          this.#tree.append(entry, changed);
          added.push(one);
          answers.push(() => one.done(index));
        } catch (error) {
          if (!(error instanceof ReleaseError)) throw error;
          answers.push(() => one.failed(error));
        }
      }
      note = await this.#note();
      if (added.length > 0) {
        this.#journal.append(writeRecord(added, note));
        this.#write(changed);
      }
      if (this.#tree.size - this.#settled >= settleAfter) this.#settle(note);
    } catch (error) {
      for (const { failed } of batch) failed(error);
      throw error;
    }
    await this.#publish(note);
    for (const answer of answers) answer();
  }

  /** Every file of the tree is on disk after this, and the journal begins again. */
  #settle(note: string): void {
    this.#unsettled.sync();
    this.#known.learn(note, { places: this.#places, applications: this.#applications });
    this.#places.clear();
    this.#applications.clear();
    replaceFile(join(this.#directory, "committed"), note);
    this.#journal.clear();
    this.#settled = this.#tree.size;
    this.#tree.removeFull();
  }

  #write(changed: Changes): void {
    this.#tree.addPartial(changed);
    for (const [path, content] of changed.files)
      this.#unsettled.writeLater(join(this.#directory, path), content);
  }

  /** The entry of a document that may be added, or is there; the application is then further. */
  async #judge({
    kind,
    app,
    envelope,
  }: Addition): Promise<{ entry: Uint8Array; leaf: string; documentHash: string }> {
    const documentHash = hash("sha256", envelope.payload);
    const entry = logEntry(kind, app, documentHash);
    const judged = { entry, leaf: toHex(leafOf(entry)), documentHash };
    if (this.#place(judged.leaf) !== undefined) return judged;
    this.#applications.set(app, await further(await this.application(app), kind, app, envelope));
    return judged;
  }

  /** The newest tree, signed. */
  async #note(): Promise<string> {
    const text = writeCheckpoint(this.checkpoint);
    return `${text}\n${await this.#key.line(text)}`;
  }

  /** What the witnesses have seen becomes what everybody reads. A crash can lose that: they are asked again then. */
  async #publish(note: string): Promise<void> {
    const lines = await askWitnesses(this.#witnesses, note, (first, second) =>
      this.consistency(first, second),
    );
    this.#unsettled.writeLater(join(this.#directory, "checkpoint"), note + lines.join(""));
  }

  /** The proof that the tree of `first` entries is the beginning of that of `second`. */
  async consistency(first: number, second: number): Promise<Uint8Array[]> {
    const read = hashesOfTiles(async (level, index, width) => this.#tree.tile(level, index, width), second);
    return first === 0 ? [] : consistencyProof(read, first, second);
  }

  /** The right edge of the settled tree, and what the journal has beyond it. */
  async #read(): Promise<void> {
    await this.#readSettled();
    for (const record of this.#journal.records) await this.#redo(record);
    await this.#checkPublished();
    this.#tree.tidy();
    const note = await this.#note();
    this.#settle(note);
    await this.#publish(note);
  }

  /** The tree that a note of this log's key says. Throws LogServiceError "log-service/key". */
  async #own(text: string): Promise<Checkpoint> {
    const note = readNote(text);
    const tree = readCheckpoint(note.text);
    const signed = await signersOfNote(note, [this.#key.key]);
    if (tree.origin === this.#key.key.name && signed.length > 0) return tree;
    throw new LogServiceError(
      "log-service/key",
      `the log in ${this.#directory} is of another key than this one`,
    );
  }

  /** What anybody was shown is not lost: another tree of its size would be a fork. */
  async #checkPublished(): Promise<void> {
    const bytes = readIfThere(join(this.#directory, "checkpoint"));
    if (bytes === undefined) return;
    let shown: Checkpoint;
    try {
      shown = await this.#own(new TextDecoder().decode(bytes));
    } catch {
      // Torn by a crash: it is written again.
      return;
    }
    const { size } = shown;
    if (size === this.#tree.size) this.#tree.checkRoot(shown, this.#directory);
    if (size <= this.#tree.size) return;
    throw new LogServiceError(
      "log-service/damaged",
      `${this.#directory} has ${this.#tree.size} entries, and a checkpoint of ${size} was published`,
    );
  }

  /** Documents of the journal again, and their files, of which a crash can have left anything. */
  async #redo(record: Uint8Array): Promise<void> {
    const { added, note } = readRecord(record);
    const tree = await this.#own(note);
    // Its files were synchronized, and the crash came before the journal began again.
    if (tree.size <= this.#settled) return;
    const changed = changes();
    for (const one of added) {
      const { entry, leaf, documentHash } = await this.#judge(one);
      changed.files.set(envelopePath(documentHash), JSON.stringify(writeEnvelope(one.envelope)));
      this.#places.set(leaf, this.#tree.size);
      this.#tree.append(entry, changed);
    }
    this.#tree.checkRoot(tree, join(this.#directory, "journal"));
    this.#write(changed);
  }

  /** The settled tree: by what is known of it, or where that is missing or older by all its entries. */
  async #readSettled(): Promise<void> {
    const committed = readIfThere(join(this.#directory, "committed"));
    const settled = committed && (await this.#own(new TextDecoder().decode(committed)));
    const { note } = this.#known;
    const known = note === undefined ? undefined : await this.#own(note);
    // A crash may have come between the two.
    if (known !== undefined && known.size >= (settled?.size ?? 0)) this.#tree.readEdge(known);
    else if (settled !== undefined) await this.#readEntries(settled);
    this.#settled = this.#tree.size;
  }

  /** Tree, places and applications once more from the entries: for a log of before, or that lost what is known of it. */
  async #readEntries(tree: Checkpoint): Promise<void> {
    const { size } = tree;
    this.#known.forget();
    for (let tile = 0; tile * tileWidth < size; tile++) {
      const width = Math.min(tileWidth, size - tile * tileWidth);
      for (const entry of this.#tree.entries(tile, width)) await this.#replay(entry);
    }
    this.#tree.checkRoot(tree, this.#directory);
  }

  async #replay(entry: Uint8Array): Promise<void> {
    const { kind, app, hash: documentHash } = readLogEntry(entry);
    const path = join(this.#directory, envelopePath(documentHash));
    const content = readIfThere(path);
    if (content === undefined) throw new LogServiceError("log-service/damaged", `${path} is not there`);
    const envelope = readEnvelope(JSON.parse(new TextDecoder().decode(content)));
    this.#applications.set(app, await further(this.#applications.get(app), kind, app, envelope));
    this.#places.set(toHex(leafOf(entry)), this.#tree.size);
    this.#tree.append(entry.slice());
  }
}
