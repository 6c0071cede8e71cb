// SPDX-License-Identifier: Apache-2.0
/**
 * What a writer has to know of its log's past, in one SQLite file: where each entry is, and how each application stands. So
 * neither its start nor its memory grows with the log.
 *
 * Invariant: it is of the tree whose note is in it, and changes with it in one transaction. It is made of the log's
 * entries: where it is missing or older than the tree whose files are all there, it is made again.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { Application } from "@caisson/releases";
import { readApplication, writeApplication } from "@caisson/releases/kept-application";
import { fromHex } from "@caisson/vocabulary/bytes";
import { messageOf } from "@caisson/vocabulary/failure";
import { LogServiceError } from "./errors.ts";

const schema = `
  CREATE TABLE IF NOT EXISTS tree (one INTEGER PRIMARY KEY CHECK (one = 1), note TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS place (leaf BLOB PRIMARY KEY, entry INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS application (id BLOB PRIMARY KEY, state TEXT NOT NULL) STRICT, WITHOUT ROWID;`;

/** Places of entries by the hash of their leaf, and applications by their id; both in hex. */
export interface Learnt {
  places: ReadonlyMap<string, number>;
  applications: ReadonlyMap<string, Application>;
}

export class KnownLog {
  readonly #path: string;
  readonly #database: DatabaseSync;
  readonly #place: StatementSync;
  readonly #application: StatementSync;

  /** Throws LogServiceError "log-service/damaged". */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#database = new DatabaseSync(path);
      // A writer that ended a moment ago may still be closing.
      this.#database.exec("PRAGMA busy_timeout = 5000; PRAGMA synchronous = FULL;");
      this.#database.exec(schema);
      this.#place = this.#database.prepare("SELECT entry FROM place WHERE leaf = ?");
      this.#application = this.#database.prepare("SELECT state FROM application WHERE id = ?");
    } catch (error) {
      throw this.#damaged(error);
    }
  }

  /** The signed tree that it is of. */
  get note(): string | undefined {
    return this.#guarded(
      () => this.#database.prepare("SELECT note FROM tree").get() as { note: string } | undefined,
    )?.note;
  }

  place(leaf: string): number | undefined {
    return this.#guarded(() => this.#place.get(fromHex(leaf)!) as { entry: number } | undefined)?.entry;
  }

  async application(id: string): Promise<Application | undefined> {
    const row = this.#guarded(() => this.#application.get(fromHex(id)!) as { state: string } | undefined);
    if (row === undefined) return undefined;
    try {
      return await readApplication(JSON.parse(row.state));
    } catch (error) {
      throw this.#damaged(error);
    }
  }

  /** After this, it is of the tree of `note`, on disk. */
  learn(note: string, { places, applications }: Learnt): void {
    this.#guarded(() => {
      this.#database.exec("BEGIN IMMEDIATE");
      try {
        const place = this.#database.prepare("INSERT OR REPLACE INTO place VALUES (?, ?)");
        for (const [leaf, entry] of places) place.run(fromHex(leaf)!, entry);
        const application = this.#database.prepare("INSERT OR REPLACE INTO application VALUES (?, ?)");
        for (const [id, one] of applications) {
          application.run(fromHex(id)!, JSON.stringify(writeApplication(one)));
        }
        this.#database.prepare("INSERT OR REPLACE INTO tree VALUES (1, ?)").run(note);
        this.#database.exec("COMMIT");
      } catch (error) {
        this.#database.exec("ROLLBACK");
        throw error;
      }
    });
  }

  /** Nothing is known any more. */
  forget(): void {
    this.#guarded(() => this.#database.exec("DELETE FROM tree; DELETE FROM place; DELETE FROM application;"));
  }

  close(): void {
    this.#database.close();
  }

  #guarded<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw this.#damaged(error);
    }
  }

  #damaged(error: unknown): LogServiceError {
    return new LogServiceError("log-service/damaged", `${this.#path}: ${messageOf(error)}`, {
      fix: "end the log, remove this file, and start it again: it is made again from the log's entries",
    });
  }
}
