// SPDX-License-Identifier: Apache-2.0
/**
 * Where records of volumes are kept: named values with compare-and-set, in SQLite. A write resolves only once it is on
 * disk, and those that come at the same time share one transaction.
 */
import { DatabaseSync } from "node:sqlite";
import { messageOf } from "@caisson/vocabulary/failure";
import { KmsError } from "../errors.ts";

export interface StoredValue {
  version: number;
  value: string;
}

export interface ValueStore {
  read(key: string): StoredValue | undefined;
  /** All keys that were ever written, sorted. */
  keys(): string[];
  /** Writes where the version is still this one (0: there is none); false where another came first. */
  write(key: string, version: number, value: string): Promise<boolean>;
  close(): void;
}

interface Pending {
  key: string;
  version: number;
  value: string;
  done: (written: boolean) => void;
  failed: (error: unknown) => void;
}

/** How long a write waits for another process that is writing, in ms. */
const busyMs = 5000;

/** Opens or creates the file. Throws KmsError `volumes/unreadable`. */
export function openValueStore(path: string): ValueStore {
  let database: DatabaseSync;
  try {
    database = new DatabaseSync(path, { timeout: busyMs });
    database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
      CREATE TABLE IF NOT EXISTS value (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value TEXT NOT NULL) STRICT;`);
  } catch (error) {
    throw new KmsError("volumes/unreadable", `${path} cannot be opened: ${messageOf(error)}`);
  }
  const select = database.prepare("SELECT version, value FROM value WHERE key = ?");
  const list = database.prepare("SELECT key FROM value ORDER BY key");
  const insert = database.prepare("INSERT OR IGNORE INTO value VALUES (?, 1, ?)");
  const update = database.prepare(
    "UPDATE value SET version = version + 1, value = ? WHERE key = ? AND version = ?",
  );
  let pending: Pending[] = [];
  const flush = (): void => {
    const batch = pending;
    pending = [];
    if (batch.length === 0) return;
    try {
      database.exec("BEGIN IMMEDIATE");
      const written = batch.map(({ key, version, value }) => {
        const { changes } = version === 0 ? insert.run(key, value) : update.run(value, key, version);
        return Number(changes) === 1;
      });
      database.exec("COMMIT");
      for (const [i, { done }] of batch.entries()) done(written[i]!);
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      for (const { failed } of batch) failed(error);
    }
  };
  return {
    read: (key) => select.get(key) as unknown as StoredValue | undefined,
    keys: () => list.all().map(({ key }) => String(key)),
    write: (key, version, value) =>
      new Promise((done, failed) => {
        if (pending.push({ key, version, value, done, failed }) === 1) setImmediate(flush);
      }),
    close() {
      flush();
      database.close();
    },
  };
}
