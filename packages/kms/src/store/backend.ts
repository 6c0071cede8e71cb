// SPDX-License-Identifier: Apache-2.0
/**
 * What a database does for a KMS: keep bytes, and give them to one writer at a time.
 *
 * Nothing that it answers is believed (store.ts says what is checked); what is relied on for availability is in the
 * contract, which `testing/contract.ts` tests: a `write` is all or nothing, sees what the write before it left, and
 * resolves only once it is where a loss of power leaves it.
 */
import type { KmsError } from "../errors.ts";
import type { ChainedEntry, Head } from "./entries.ts";

/** A row as it is kept: sealed, and in one of the buckets of the tree of rows (rows.ts). */
export interface StoredRow {
  bucket: number;
  table: string;
  key: string;
  /** From 1; each write adds one. */
  version: number;
  sealed: Uint8Array;
}

/** A node of the tree of rows. */
export interface StoredNode {
  /** Level and number within it (rows.ts). */
  place: number;
  /** The hashes of its children, one after another. */
  children: Uint8Array;
}

/** Name of a nonce that a request used up. */
export interface UsedNonce {
  nonce: Uint8Array;
  /** How many entries the log had when it was issued, or a few less (nonces.ts). */
  issued: number;
}

/** What to read. */
export interface Wanted {
  /** Entries after this one; at most `pageSize` of them are given. */
  after: number;
  buckets: readonly number[];
  nodes: readonly number[];
  nonces: readonly UsedNonce[];
}

/** Entries that are read at once. */
export const pageSize = 1000;

/** What was there, all of one moment. */
export interface Seen {
  /** Whose log it is (32 bytes), and its head; undefined before it was begun. */
  head: (Head & { identity: Uint8Array }) | undefined;
  entries: ChainedEntry[];
  rows: StoredRow[];
  nodes: StoredNode[];
  /** Those of the wanted nonces that are there already, hexadecimal. */
  used: Set<string>;
}

/** What to write. */
export interface Changes {
  head: Head & { identity: Uint8Array };
  entries: readonly ChainedEntry[];
  rows: readonly StoredRow[];
  nodes: readonly StoredNode[];
  nonces: readonly UsedNonce[];
  /** Nonces that were issued when the log had fewer entries are forgotten. */
  forgetBefore?: number;
}

export interface Backend {
  /** What it is and where, for messages. */
  readonly name: string;
  /** Reads, of one moment. Throws KmsError: `retriable` says of which it may work again. */
  look(wanted: Wanted): Promise<Seen>;
  /**
   * Reads, and writes what `decide` makes of it, in one transaction that is alone among writers of this database;
   * undefined writes nothing. Resolves once it is durable. What `decide` throws passes through, and nothing was written
   * then; after any other error it is not known whether it was.
   */
  write(wanted: Wanted, decide: (seen: Seen) => Changes | undefined): Promise<void>;
  /**
   * Where a round trip costs: writes changes without rows if the head is still the one with this sequence and hash, and none
   * of the nonces was used; otherwise false, and nothing was written. Durable, and alone among writers, as `write` is.
   */
  append?(after: Pick<Head, "sequence" | "hash">, changes: Changes): Promise<boolean>;
  close(): Promise<void>;
}

/** Whether the same may work a moment later: the database is restarting, or another one takes over. */
export const retriable = (error: unknown): boolean => (error as KmsError).code === "log/unavailable";
