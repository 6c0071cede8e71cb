// SPDX-License-Identifier: Apache-2.0
/** A KMS's database in one file, for one machine: `node:sqlite`. Several processes may share it. */
import fs from "node:fs";
import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { KmsError } from "../errors.ts";
import { type Backend, type Changes, pageSize, type Seen, type Wanted } from "./backend.ts";
import type { ChainedEntry } from "./entries.ts";

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
  ) STRICT;
  CREATE TABLE IF NOT EXISTS nonce (
    issued INTEGER NOT NULL,
    nonce BLOB NOT NULL,
    PRIMARY KEY (issued, nonce)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS record (
    bucket INTEGER NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (bucket, name, key)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS node (place INTEGER PRIMARY KEY, children BLOB NOT NULL) STRICT;`;

/** Columns that a file of an earlier version lacks. */
const added = ["entry", "head"].map((table) => ({
  table,
  sql: `ALTER TABLE ${table} ADD COLUMN state BLOB NOT NULL DEFAULT x''`,
}));

const columns = "sequence, time, app, instance, registers, policy, outcome, reason, state, hash";

const hasState = (database: DatabaseSync, table: string): boolean =>
  database.prepare("SELECT 1 FROM pragma_table_info(?) WHERE name = 'state'").get(table) !== undefined;

/** How long a write waits for another process that is writing, in ms. */
const busyMs = 5000;

/** Opens or creates a database file. Throws KmsError "log/unreadable" or "log/not-durable". */
export function sqlite(path: string): Backend {
  return new Sqlite(path);
}

/** The same for who only reads: nothing is created or changed. Throws KmsError "log/unreadable". */
export function readOnlySqlite(path: string): Pick<Backend, "name" | "look" | "close"> {
  const database = open(path, true);
  // A file of an earlier version has neither rows nor a column for their root.
  const reader = guarded(path, () => new Reader(database, !hasState(database, "entry")), database);
  return {
    name: path,
    look: (wanted) => Promise.resolve().then(() => guarded(path, () => reader.look(wanted))),
    close: () => Promise.resolve(database.close()),
  };
}

/** SQLite's result codes of what passes (https://www.sqlite.org/rescode.html). */
const passes: Record<number, string> = { 5: "another process is writing", 13: "its disk is full" };

/** An error that says that the same may work again, where that is so. */
function passing(path: string, error: unknown): unknown {
  const why = passes[(error as { errcode?: number }).errcode ?? 0];
  return why === undefined ? error : new KmsError("log/unavailable", `${path} cannot be written: ${why}`);
}

/** Closes the database where the work fails. */
function guarded<T>(path: string, work: () => T, database?: DatabaseSync): T {
  try {
    return work();
  } catch (error) {
    database?.close();
    const found = passing(path, error);
    if (found instanceof KmsError) throw found;
    throw new KmsError("log/unreadable", `${path} cannot be read as a release log: ${reasonOf(error)}`);
  }
}

/** Reads what is wanted, in a transaction of its own or in one that is open. */
class Reader {
  readonly #database: DatabaseSync;
  readonly #head: StatementSync;
  readonly #entries: StatementSync;
  readonly #rows: StatementSync | undefined;
  readonly #node: StatementSync | undefined;
  readonly #nonce: StatementSync | undefined;

  constructor(database: DatabaseSync, old: boolean) {
    this.#database = database;
    const state = old ? "x'' AS state" : "state";
    this.#head = database.prepare(`SELECT identity, sequence, hash, ${state}, signature FROM head`);
    this.#entries = database.prepare(
      `SELECT ${old ? columns.replace("state", state) : columns} FROM entry
       WHERE sequence > ? ORDER BY sequence LIMIT ${pageSize}`,
    );
    this.#entries.setReturnArrays(true);
    if (old) return;
    this.#rows = database.prepare("SELECT name, key, version, sealed FROM record WHERE bucket = ?");
    this.#node = database.prepare("SELECT children FROM node WHERE place = ?");
    this.#nonce = database.prepare("SELECT 1 FROM nonce WHERE issued = ? AND nonce = ?");
  }

  look(wanted: Wanted): Seen {
    this.#database.exec("BEGIN");
    try {
      return this.read(wanted);
    } finally {
      this.#database.exec("ROLLBACK");
    }
  }

  read({ after, buckets, nodes, nonces }: Wanted): Seen {
    const head = this.#head.get();
    const entries = this.#entries.all(after) as unknown as SQLOutputValue[][];
    return {
      head: head && {
        identity: blob(head.identity),
        sequence: Number(head.sequence),
        hash: blob(head.hash),
        state: blob(head.state),
        signature: blob(head.signature),
      },
      entries: entries.map(readEntry),
      rows: buckets.flatMap((bucket) =>
        (this.#rows?.all(bucket) ?? []).map(({ name, key, version, sealed }) => ({
          bucket,
          table: String(name),
          key: String(key),
          version: Number(version),
          sealed: blob(sealed),
        })),
      ),
      nodes: nodes.flatMap((place) => {
        const row = this.#node?.get(place);
        return row === undefined ? [] : [{ place, children: blob(row.children) }];
      }),
      used: new Set(
        nonces
          .filter(({ issued, nonce }) => this.#nonce?.get(issued, nonce) !== undefined)
          .map(({ nonce }) => nonce.toHex()),
      ),
    };
  }
}

class Sqlite implements Backend {
  readonly name: string;
  readonly #database: DatabaseSync;
  readonly #reader: Reader;
  readonly #insert: Record<"entry" | "nonce" | "record" | "node", StatementSync>;
  readonly #setHead: StatementSync;
  readonly #forget: StatementSync;
  readonly #wal: number;
  /** Why nothing is written any more. */
  #broken: Error | undefined;

  constructor(path: string) {
    this.name = path;
    const database = open(path, false);
    this.#database = database;
    // A commit appends to the write-ahead log, and #sync brings that to disk; SQLite itself still flushes what it must
    // before it overwrites either file (https://www.sqlite.org/pragma.html#pragma_synchronous).
    guarded(
      path,
      () => {
        database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL`);
        database.exec("BEGIN IMMEDIATE");
        database.exec(schema);
        for (const { table, sql } of added) {
          if (!hasState(database, table)) database.exec(sql);
        }
        database.exec("COMMIT");
      },
      database,
    );
    checkDurable(path, database);
    this.#reader = new Reader(database, false);
    const values = (count: number) => Array(count).fill("?").join();
    this.#insert = {
      entry: database.prepare(`INSERT INTO entry (${columns}) VALUES (${values(10)})`),
      nonce: database.prepare(`INSERT INTO nonce VALUES (${values(2)})`),
      record: database.prepare(`INSERT OR REPLACE INTO record VALUES (${values(5)})`),
      node: database.prepare(`INSERT OR REPLACE INTO node VALUES (${values(2)})`),
    };
    this.#setHead = database.prepare(
      `INSERT OR REPLACE INTO head (one, identity, sequence, hash, state, signature) VALUES (1, ${values(5)})`,
    );
    this.#forget = database.prepare("DELETE FROM nonce WHERE issued < ?");
    // It stays the same file for as long as the database is open.
    this.#wal = fs.openSync(`${path}-wal`, "r+");
  }

  async look(wanted: Wanted): Promise<Seen> {
    return this.#reader.look(wanted);
  }

  async write(wanted: Wanted, decide: (seen: Seen) => Changes | undefined): Promise<void> {
    if (this.#broken !== undefined) throw this.#broken;
    try {
      this.#database.exec("BEGIN IMMEDIATE");
      const changes = decide(this.#reader.read(wanted));
      if (changes !== undefined) this.#put(changes);
      this.#database.exec("COMMIT");
      if (changes === undefined) return;
    } catch (error) {
      // A full disk makes SQLite roll back by itself; rolling back twice would hide that it was full.
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw passing(this.name, error);
    }
    await this.#sync();
  }

  async close(): Promise<void> {
    fs.closeSync(this.#wal);
    this.#database.close();
  }

  #put({ head, entries, rows, nodes, nonces, forgetBefore }: Changes): void {
    for (const entry of entries) {
      const { sequence, time, app, instance, registers, policy, outcome, reason, state, hash } = entry;
      const at = [app, instance, registers, policy, outcome, reason] as const;
      this.#insert.entry.run(sequence, time, ...at, state, hash);
    }
    for (const { issued, nonce } of nonces) this.#insert.nonce.run(issued, nonce);
    for (const row of rows) {
      this.#insert.record.run(row.bucket, row.table, row.key, row.version, row.sealed);
    }
    for (const { place, children } of nodes) this.#insert.node.run(place, children);
    this.#setHead.run(head.identity, head.sequence, head.hash, head.state, head.signature);
    if (forgetBefore !== undefined) this.#forget.run(forgetBefore);
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

function open(path: string, readOnly: boolean): DatabaseSync {
  try {
    return new DatabaseSync(path, { readOnly, timeout: busyMs });
  } catch (error) {
    throw new KmsError("log/unreadable", `${path} cannot be opened: ${reasonOf(error)}`);
  }
}

/** A row of `entry`, in the order of `columns`. */
function readEntry(row: SQLOutputValue[]): ChainedEntry {
  const [sequence, time, app, instance, registers, policy, outcome, reason, state, hash] = row;
  return {
    sequence: Number(sequence),
    time: Number(time),
    app: blob(app),
    instance: blob(instance),
    registers: blob(registers),
    policy: blob(policy),
    outcome: String(outcome) as ChainedEntry["outcome"],
    reason: String(reason),
    state: blob(state),
    hash: blob(hash),
  };
}

function blob(value: SQLOutputValue | undefined): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new TypeError(`a column holds ${typeof value} instead of bytes`);
}
