// SPDX-License-Identifier: Apache-2.0
/**
 * The release log: what was asked of this KMS and what it answered, in a hash chain that only grows.
 *
 * Invariants: `append` resolves only once the entry is on disk, and keys leave only after that; every entry's hash covers all its fields and the hash before it; the newest hash is signed by the
 * KMS's identity in the same transaction. The chain begins with the identity, so that no other KMS's log fits.
 * What a log cannot show by itself is that its end was cut off and an older signed head put back: keep a head
 * (`GET /v1/log/head`) elsewhere and compare.
 */

import { hash as digest } from "node:crypto";
import fs from "node:fs";
import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { type IdentityKey, verifySignature } from "@caisson/protocol/ed25519";
import { messageOf } from "@caisson/vocabulary/failure";
import { frame, text, u64 } from "@caisson/vocabulary/frame";
import { KmsError } from "./errors.ts";

/** One answer. Ids and digests are empty where the request did not get far enough to show them. */
export interface LogEntry {
  /** Milliseconds since 1970. */
  time: number;
  /** 20 bytes each. */
  app: Uint8Array;
  instance: Uint8Array;
  /** SHA-256 of MRTD ‖ RTMR0–3. */
  registers: Uint8Array;
  /** SHA-256 of the policy file. */
  policy: Uint8Array;
  outcome: "released" | "denied";
  /** Denied: the code. Released: the reference that the registers matched. */
  reason: string;
}

/** The newest entry, signed: what to keep elsewhere. Hexadecimal. */
export interface LogHead {
  sequence: number;
  hash: string;
  signature: string;
}

const schema = `
  CREATE TABLE IF NOT EXISTS entry (
    sequence INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    app BLOB NOT NULL,
    instance BLOB NOT NULL,
    registers BLOB NOT NULL,
    policy BLOB NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    hash BLOB NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    identity BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    hash BLOB NOT NULL,
    signature BLOB NOT NULL
  ) STRICT;`;

/** How long an append waits for another process that is writing, in ms. */
const busyMs = 5000;

interface Pending {
  entry: LogEntry;
  done: () => void;
  failed: (error: unknown) => void;
}

export class ReleaseLog {
  readonly #database: DatabaseSync;
  readonly #identity: IdentityKey;
  readonly #insert: StatementSync;
  readonly #setHead: StatementSync;
  readonly #readHead: StatementSync;
  readonly #wal: number;
  #pending: Pending[] = [];
  /** What is being brought to disk. */
  #flushing: Promise<void> | undefined;
  /** Why nothing is written any more. */
  #broken: Error | undefined;

  /** Opens or creates the log of `identity`. Throws KmsError `log/…`. */
  constructor(path: string, identity: IdentityKey) {
    this.#database = open(path, false);
    this.#identity = identity;
    // A commit appends to the write-ahead log, and #sync brings that to disk; SQLite itself still flushes what it must
    // before it overwrites either file (https://www.sqlite.org/pragma.html#pragma_synchronous).
    this.#database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; ${schema}`);
    checkDurable(path, this.#database);
    this.#insert = this.#database.prepare("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    this.#setHead = this.#database.prepare("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?, ?)");
    this.#readHead = this.#database.prepare("SELECT * FROM head");
    if (this.#readHead.get() === undefined) this.#begin();
    const head = this.#readHead.get()!;
    if (blob(head.identity).toHex() !== identity.publicKey.toHex()) {
      const found = blob(head.identity).toHex();
      this.#database.close();
      throw new KmsError("log/identity", `${path} is the log of another KMS`, {
        facts: [
          ["found", found],
          ["expected", identity.publicKey.toHex()],
        ],
      });
    }
    // It stays the same file for as long as the database is open.
    this.#wal = fs.openSync(`${path}-wal`, "r+");
  }

  /**
   * Resolves once the entry is on disk. A flush to disk costs more than verifying a quote; it does not block other
   * requests, and what comes meanwhile shares the next transaction and the next flush.
   */
  append(entry: LogEntry): Promise<void> {
    return new Promise((done, failed) => {
      if (this.#pending.push({ entry, done, failed }) === 1 && this.#flushing === undefined) {
        setImmediate(() => this.#flush());
      }
    });
  }

  /** The newest entry; sequence 0 for an empty log. */
  head(): LogHead {
    const row = this.#readHead.get()!;
    return {
      sequence: Number(row.sequence),
      hash: blob(row.hash).toHex(),
      signature: blob(row.signature).toHex(),
    };
  }

  /** Writes what is pending and closes the file. */
  async close(): Promise<void> {
    this.#flush();
    while (this.#flushing !== undefined) await this.#flushing;
    fs.closeSync(this.#wal);
    this.#database.close();
  }

  #flush(): void {
    if (this.#flushing !== undefined || this.#pending.length === 0) return;
    const batch = this.#pending;
    this.#pending = [];
    this.#flushing = this.#bring(batch).finally(() => {
      this.#flushing = undefined;
      this.#flush();
    });
  }

  async #bring(batch: readonly Pending[]): Promise<void> {
    try {
      if (this.#broken !== undefined) throw this.#broken;
      this.#write(batch.map(({ entry }) => entry));
      await this.#sync();
    } catch (error) {
      for (const { failed } of batch) failed(error);
      return;
    }
    for (const { done } of batch) done();
  }

  /** After a flush that failed, the kernel takes the same pages for written: nothing later would be certain either. */
  #sync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.#wal, (error) => {
        if (error === null) return resolve();
        this.#broken = new Error(
          `the disk failed, and the log ends until the KMS starts anew: ${error.message}`,
        );
        reject(this.#broken);
      });
    });
  }

  #write(entries: LogEntry[]): void {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      // The head is read from disk each time, so that two processes on one log still write one chain.
      const head = this.#readHead.get()!;
      let sequence = Number(head.sequence);
      let hash = blob(head.hash);
      for (const entry of entries) {
        sequence += 1;
        hash = entryHash(hash, sequence, entry);
        const { time, app, instance, registers, policy, outcome, reason } = entry;
        this.#insert.run(sequence, time, app, instance, registers, policy, outcome, reason, hash);
      }
      this.#setHead.run(...this.#head(sequence, hash));
      this.#database.exec("COMMIT");
    } catch (error) {
      // A full disk makes SQLite roll back by itself; rolling back twice would hide that it was full.
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    }
  }

  /** Where another process begins the log at the same time, the head that was first stays. */
  #begin(): void {
    const insert = this.#database.prepare("INSERT OR IGNORE INTO head VALUES (1, ?, ?, ?, ?)");
    insert.run(...this.#head(0, genesis(this.#identity.publicKey)));
  }

  #head(sequence: number, hash: Uint8Array): [Uint8Array, number, Uint8Array, Uint8Array] {
    return [this.#identity.publicKey, sequence, hash, this.#identity.sign(headTranscript(sequence, hash))];
  }
}

/**
 * SQLite answers with what it did, not with an error, where a file system has no shared memory for WAL. Values of
 * `PRAGMA synchronous`: 0 off, 1 normal, 2 full, 3 extra.
 */
function checkDurable(path: string, database: DatabaseSync): void {
  const journal = String(database.prepare("PRAGMA journal_mode").get()!.journal_mode);
  const synchronous = Number(database.prepare("PRAGMA synchronous").get()!.synchronous);
  if (journal === "wal" && synchronous >= 1) return;
  database.close();
  throw new KmsError("log/not-durable", `${path} lies where an answered entry could be lost with the power`, {
    facts: [
      ["found", `journal ${journal}, synchronous ${synchronous}`],
      ["expected", "journal wal, synchronous 1"],
    ],
    fix: "a local file system (ext4, xfs, btrfs) for the KMS's data",
  });
}

/** What a whole log says, when it is whole. */
export interface LogReport {
  identity: string;
  released: number;
  denied: number;
  head: LogHead;
}

/**
 * Recomputes the chain of a log and checks its signed head. `identity` (hex) is who must have written it, if known;
 * `witness` a head kept from earlier, which must be part of the chain. `each` gets every entry, in order, before it
 * is known whether all of them are good. Throws KmsError `log/…`.
 */
export function verifyReleaseLog(
  path: string,
  expected: { identity?: string; witness?: { sequence: number; hash: string } } = {},
  each?: (sequence: number, entry: LogEntry) => void,
): LogReport {
  const database = open(path, true);
  try {
    return verifyRows(path, database, expected, each);
  } catch (error) {
    if (error instanceof KmsError) throw error;
    throw new KmsError("log/unreadable", `${path} cannot be read as a release log: ${messageOf(error)}`);
  } finally {
    database.close();
  }
}

function verifyRows(
  path: string,
  database: DatabaseSync,
  expected: { identity?: string; witness?: { sequence: number; hash: string } },
  each?: (sequence: number, entry: LogEntry) => void,
): LogReport {
  // One read transaction, so that a KMS that is writing meanwhile does not tear head and entries apart.
  database.exec("BEGIN");
  const head = database.prepare("SELECT * FROM head").get();
  if (head === undefined) throw new KmsError("log/head", `${path} has no signed head`);
  const identity = blob(head.identity);
  if (expected.identity !== undefined && identity.toHex() !== expected.identity) {
    throw new KmsError("log/identity", `${path} was written by the KMS ${identity.toHex()}`, {
      facts: [["expected", expected.identity]],
    });
  }
  let hash: Uint8Array = genesis(identity);
  let sequence = 0;
  const counts = { released: 0, denied: 0 };
  let witnessed = expected.witness === undefined || isWitness(expected.witness, sequence, hash);
  const entries = database.prepare("SELECT * FROM entry ORDER BY sequence");
  entries.setReturnArrays(true);
  for (const row of entries.iterate() as Iterable<unknown> as Iterable<SQLOutputValue[]>) {
    sequence += 1;
    const entry = readEntry(row);
    hash = entryHash(hash, sequence, entry);
    const [stated, , , , , , , , written] = row;
    if (Number(stated) !== sequence || Buffer.compare(blob(written), hash) !== 0) {
      throw new KmsError("log/chain", `${path}: the chain breaks at entry ${sequence}`, {
        facts: [
          ["found", `entry ${String(stated)}, hash ${blob(written).toHex()}`],
          ["expected", `entry ${sequence}, hash ${hash.toHex()}`],
        ],
      });
    }
    counts[entry.outcome] += 1;
    witnessed ||= isWitness(expected.witness!, sequence, hash);
    each?.(sequence, entry);
  }
  if (Number(head.sequence) !== sequence || blob(head.hash).toHex() !== hash.toHex()) {
    throw new KmsError("log/head", `${path}: the signed head is not the last entry`, {
      facts: [
        ["found", `entry ${sequence}, hash ${hash.toHex()}`],
        ["signed", `entry ${String(head.sequence)}, hash ${blob(head.hash).toHex()}`],
      ],
    });
  }
  const signature = blob(head.signature);
  if (!verifySignature(identity, headTranscript(sequence, hash), signature)) {
    throw new KmsError("log/head", `${path}: the head is not signed by ${identity.toHex()}`);
  }
  if (!witnessed) {
    throw new KmsError(
      "log/head",
      `${path} does not contain the head that was kept: entries were cut off or replaced`,
    );
  }
  return {
    identity: identity.toHex(),
    ...counts,
    head: { sequence, hash: hash.toHex(), signature: signature.toHex() },
  };
}

function isWitness(witness: { sequence: number; hash: string }, sequence: number, hash: Uint8Array): boolean {
  return witness.sequence === sequence && witness.hash === hash.toHex();
}

function open(path: string, readOnly: boolean): DatabaseSync {
  try {
    return new DatabaseSync(path, { readOnly, timeout: busyMs });
  } catch (error) {
    throw new KmsError("log/unreadable", `${path} cannot be opened: ${messageOf(error)}`);
  }
}

/** A row of `entry`, in the order of its columns. */
function readEntry(row: SQLOutputValue[]): LogEntry {
  const [sequence, time, app, instance, registers, policy, outcome, reason] = row;
  if (outcome !== "released" && outcome !== "denied") {
    throw new KmsError("log/chain", `entry ${String(sequence)} has the outcome ${String(outcome)}`);
  }
  return {
    time: Number(time),
    app: blob(app),
    instance: blob(instance),
    registers: blob(registers),
    policy: blob(policy),
    outcome,
    reason: String(reason),
  };
}

function blob(value: SQLOutputValue | undefined): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new TypeError(`a column holds ${typeof value} instead of bytes`);
}

const sha256 = (bytes: Uint8Array): Uint8Array => digest("sha256", bytes, "buffer");

const genesis = (identity: Uint8Array) => sha256(frame("caisson/release-log/v1/genesis", identity));

function entryHash(previous: Uint8Array, sequence: number, entry: LogEntry): Uint8Array {
  const { time, app, instance, registers, policy, outcome, reason } = entry;
  return sha256(
    frame(
      "caisson/release-log/v1/entry",
      previous,
      u64(sequence),
      u64(time),
      app,
      instance,
      registers,
      policy,
      text(outcome),
      text(reason),
    ),
  );
}

const headTranscript = (sequence: number, hash: Uint8Array) =>
  frame("caisson/release-log/v1/head", u64(sequence), hash);
