// SPDX-License-Identifier: Apache-2.0
/**
 * What a KMS keeps: the release log, nonces that were used, and named rows, in a database that it does not trust.
 *
 *     await store.read([{ table: "volumes", key: id }])        → [{ version, value } | undefined]
 *     await store.commit({ entry, nonce, rows: [{ table, key, version, value }] })   → "done" | "conflict" | "nonce/used"
 *     await change(store, names, (rows) => ({ entry, rows }))  → reads, decides and commits until nothing came between
 *
 * **Rows.** A value is bytes, sealed before the database sees them; table and key are visible to it. `version` in a
 * commit is what the row must have at that moment: 0 where there must be none, and without `value` it is only compared.
 * A row once written is never removed. Everything in one commit happens together or not at all.
 *
 * **The log.** Whoever writes rows gives an entry that says why (`outcome: "changed"`, or the release's own); a commit
 * resolves only once everything is on disk. Commits that come at the same time share a transaction.
 *
 * **What is believed.** Only the identity's signature under the head, and what follows from it: rows are checked
 * against the root that it names, and each head must continue the chain from the newest that this process has seen.
 * A database that alters, removes or puts back anything, or that shows this process another history than before, is
 * refused with `log/rows`, `log/chain`, `log/head` or `log/rolled-back`. One that puts *everything* back before a process
 * starts, or shows two processes two histories from the beginning, is noticed by who compares heads (`contains`).
 * Used nonces are forgotten by how far the log has grown since they were issued, and one that is as old as that is refused:
 * no clock has a part in it. They are only as unique as the database is honest: used twice, one gives the same guest its
 * own keys again.
 */
import { performance } from "node:perf_hooks";
import { deriveKmsKey } from "@caisson/protocol/derivation";
import { type IdentityKey, identityKey } from "@caisson/protocol/ed25519";
import { Batcher } from "../batcher.ts";
import { KmsError } from "../errors.ts";
import { type Backend, type Changes, pageSize, retriable, type Seen, type UsedNonce } from "./backend.ts";
import {
  chain,
  checkNext,
  genesis,
  type Head,
  headIsSigned,
  isNext,
  type LogEntry,
  signHead,
} from "./entries.ts";
import { bucketOf, openRow, placesAbove, type Row, type RowName, Rows, sealRow } from "./rows.ts";

/** Under what a store signs its heads and seals its rows. */
export interface StoreKeys {
  identity: IdentityKey;
  /** 32 bytes. */
  rows: Uint8Array;
}

/** The keys that follow from a root secret (32 bytes). */
export function storeKeys(secret: Uint8Array): StoreKeys {
  return { identity: identityKey(deriveKmsKey(secret, "identity")), rows: deriveKmsKey(secret, "rows") };
}

/** A row to compare, and to write where there is a value. */
export interface RowChange extends RowName {
  version: number;
  value?: Uint8Array;
}

/** What happens together. With rows to write or a nonce, there is an entry. */
export interface Commit {
  entry?: LogEntry;
  nonce?: UsedNonce;
  rows?: readonly RowChange[];
}

/**
 * "conflict": a row was not of the stated version. Nothing was written then, nor where the nonce was used before, or is so old
 * that this is not known any more.
 */
export type Committed = "done" | "conflict" | "nonce/used" | "nonce/busy";

export interface Store {
  /** The newest head that this process knows, without asking the database. */
  readonly head: Head;
  /** Asks the database for the newest head. */
  refresh(): Promise<Head>;
  read(names: readonly RowName[]): Promise<(Row | undefined)[]>;
  commit(change: Commit): Promise<Committed>;
  /**
   * Whether the log that this process follows has this entry, whatever the database shows to who looks for it. Throws KmsError
   * "log/head" for one that is more than `most` entries back; default: some seconds of the highest rate.
   */
  contains(entry: { sequence: number; hash: string }, most?: number): Promise<boolean>;
  /** Nothing is read or committed any more: everything throws `reason`. */
  end(reason: KmsError): void;
  close(): Promise<void>;
}

/** For how long a commit tries again while the database cannot be reached, and between two tries; ms. */
const patience = { allMs: 5000, betweenMs: 100 };
/** For how many entries a used nonce is remembered: a minute of 8,700 releases a second. */
const remembered = 2 ** 19;
/** How often those that are older are forgotten, ms. */
const sweepMs = 10_000;
/** How far back an entry is looked for: some seconds of the highest rate. */
const mostLookedBack = 20_000;
/** Commits in one transaction: what waits beyond it takes the next one. */
const batchSize = 1000;
/** Between the beginnings of two transactions. */
const pace = { least: 6, most: 24 };
/** How often what needs no rows is written after the head that was looked up, before the database is asked to wait for it. */
const guesses = 3;

interface Pending {
  change: Commit;
  done: (outcome: Committed) => void;
  failed: (error: unknown) => void;
}

/** Opens the log of this identity, or begins it; a used nonce is known for `entries`. Throws KmsError `log/…`. */
export async function openStore(backend: Backend, keys: StoreKeys, entries = remembered): Promise<Store> {
  const store = new ChainedStore(backend, keys, entries);
  try {
    await store.begin();
  } catch (error) {
    await backend.close();
    throw error;
  }
  return store;
}

type Position = Omit<Head, "signature">;

/** How each of a batch ends, the head after it, and what is written for it. */
interface Decision {
  outcomes: Committed[];
  head: Head;
  write: Changes | undefined;
}

/** Whether it was written, by what the database has since: another replica's entry may be the same, its nonces are not. */
const happened = ({ head, write }: Decision, { entries, used }: Seen): boolean =>
  entries.some((entry) => Buffer.compare(entry.hash, head.hash) === 0) &&
  write!.nonces.every(({ nonce }) => used.has(nonce.toHex()));

const nothing = { buckets: [], nodes: [], nonces: [] };

class ChainedStore implements Store {
  readonly #backend: Backend;
  readonly #keys: StoreKeys;
  readonly #remembered: number;
  /** The newest head that was checked; every other must continue from it. */
  #known: Head;
  readonly #commits = new Batcher<Pending>(batchSize, pace, (batch) => this.#bring(batch));
  #swept = Number.NEGATIVE_INFINITY;
  /** Whether another process writes in this database, too, as far as the last transactions said. */
  #shared = false;
  /** Buckets of rows that were compared last, and the state that they are of: at a head with this one they are the same. */
  #compared: { state: Uint8Array; buckets: ReadonlySet<number>; rows: Rows } | undefined;
  #ended: KmsError | undefined;

  constructor(backend: Backend, keys: StoreKeys, remembered: number) {
    this.#backend = backend;
    this.#keys = keys;
    this.#remembered = remembered;
    this.#known = this.#genesis();
  }

  get head(): Head {
    return this.#known;
  }

  async begin(): Promise<void> {
    const { identity } = this.#keys;
    const wanted = { after: Number.MAX_SAFE_INTEGER, ...nothing };
    let { head } = await this.#backend.look(wanted);
    if (head === undefined) {
      // Where another process begins the log at the same time, the head that was first stays.
      await this.#backend.write(wanted, (seen) =>
        seen.head === undefined
          ? {
              head: { ...this.#genesis(), identity: identity.publicKey },
              entries: [],
              rows: [],
              nodes: [],
              nonces: [],
            }
          : undefined,
      );
      head = (await this.#backend.look(wanted)).head;
    }
    this.#known = this.#signed(head);
  }

  end(reason: KmsError): void {
    this.#ended ??= reason;
  }

  async refresh(): Promise<Head> {
    await this.#look([]);
    return this.#known;
  }

  async read(names: readonly RowName[]): Promise<(Row | undefined)[]> {
    const buckets = [...new Set(names.map(bucketOf))];
    const rows = await this.#look(buckets);
    return names.map((name) => {
      const row = rows.find(name);
      return row && openRow(this.#backend.name, this.#keys.rows, row);
    });
  }

  commit(change: Commit): Promise<Committed> {
    if (
      change.entry === undefined &&
      (change.nonce ?? change.rows?.find(({ value }) => value)) !== undefined
    ) {
      return Promise.reject(new TypeError("what is written has an entry"));
    }
    return new Promise((done, failed) => this.#commits.add({ change, done, failed }));
  }

  async contains(
    { sequence, hash }: { sequence: number; hash: string },
    most = mostLookedBack,
  ): Promise<boolean> {
    if (sequence === 0) return hash === genesis(this.#keys.identity.publicKey).toHex();
    if (sequence > this.#known.sequence) await this.refresh();
    const until = this.#known;
    if (until.sequence - sequence > most) {
      const message = `entry ${sequence} is more than ${most} before the newest: too old to look for`;
      throw new KmsError("log/head", message);
    }
    // It is in the log where the entries after it lead to what this process followed itself.
    let at: Pick<Head, "sequence" | "hash"> = { sequence, hash: Uint8Array.fromHex(hash) };
    while (at.sequence < until.sequence) {
      const { entries } = await this.#backend.look({ after: at.sequence, ...nothing });
      const following = entries.slice(0, until.sequence - at.sequence);
      for (const entry of following) {
        if (!isNext(at, entry)) return false;
        at = entry;
      }
      if (following.length === 0) return false;
    }
    return at.sequence === until.sequence && Buffer.compare(at.hash, until.hash) === 0;
  }

  async close(): Promise<void> {
    await this.#commits.drain();
    await this.#backend.close();
  }

  #genesis(): Head {
    const { identity } = this.#keys;
    const empty = { sequence: 0, hash: genesis(identity.publicKey), state: new Uint8Array() };
    return signHead(identity, empty);
  }

  /** A head that this identity signed. Throws KmsError "log/identity" or "log/head". */
  #signed(head: Seen["head"]): Head {
    const { name } = this.#backend;
    const { publicKey } = this.#keys.identity;
    if (head === undefined) throw new KmsError("log/head", `${name} has no signed head`);
    const { identity, ...rest } = head;
    if (Buffer.compare(identity, publicKey) !== 0) {
      throw new KmsError("log/identity", `${name} is the log of another KMS`, {
        facts: [
          ["found", identity.toHex()],
          ["expected", publicKey.toHex()],
        ],
      });
    }
    // Ours, from a moment ago, is not checked again.
    const known = Buffer.compare(rest.signature, this.#known.signature) === 0 && equal(rest, this.#known);
    if (!known && !headIsSigned(publicKey, rest)) {
      throw new KmsError("log/head", `${name}: the head is not signed by ${publicKey.toHex()}`);
    }
    return rest;
  }

  /**
   * How far what was seen leads from `from`, through `floor`: to its head, or to the end of a page of entries. Throws
   * KmsError where it is not one history.
   */
  #follow(from: Position, floor: Position, seen: Seen): { at: Position; head: Head; whole: boolean } {
    const { name } = this.#backend;
    const head = this.#signed(seen.head);
    let at = from;
    let passed = from.sequence >= floor.sequence;
    for (const entry of seen.entries) {
      if (at.sequence === head.sequence) break;
      checkNext(name, at.sequence, at.hash, entry);
      at = { ...entry, state: entry.state.length > 0 ? entry.state : at.state };
      if (at.sequence === floor.sequence) passed = equal(at, floor);
    }
    const whole = seen.entries.length < pageSize || at.sequence === head.sequence;
    if (whole ? passed && equal(at, head) : at.sequence < floor.sequence || passed)
      return { at, head, whole };
    throw new KmsError(
      "log/rolled-back",
      `${name} does not continue from entry ${floor.sequence}, which this KMS has seen`,
      {
        facts: [
          ["found", `entry ${head.sequence}, hash ${head.hash.toHex()}, rows ${head.state.toHex()}`],
          ["known", `entry ${floor.sequence}, hash ${floor.hash.toHex()}, rows ${floor.state.toHex()}`],
        ],
        fix: "ask who restored a backup, or promoted a standby that was behind",
      },
    );
  }

  #advance(head: Head): void {
    if (head.sequence > this.#known.sequence) this.#known = head;
  }

  /** Some buckets of the newest head. */
  async #look(buckets: readonly number[]): Promise<Rows> {
    if (this.#ended !== undefined) throw this.#ended;
    const floor = this.#known;
    const nodes = [...new Set(buckets.flatMap(placesAbove))];
    for (let from: Position = floor; ; ) {
      const seen = await this.#backend.look({ after: from.sequence, buckets, nodes, nonces: [] });
      const { at, head, whole } = this.#follow(from, floor, seen);
      from = at;
      if (!whole) continue;
      this.#advance(head);
      return new Rows(this.#backend.name, head.state, buckets, seen.rows, seen.nodes);
    }
  }

  async #bring(batch: readonly Pending[]): Promise<void> {
    try {
      const outcomes = await this.#write(batch.map(({ change }) => change));
      for (const [i, { done }] of batch.entries()) done(outcomes[i]!);
    } catch (error) {
      for (const { failed } of batch) failed(error);
    }
  }

  /** One transaction for all; again, while the database is away and it is not known to have happened. */
  async #write(changes: readonly Commit[]): Promise<Committed[]> {
    // Not by a clock that may be set back meanwhile.
    const until = performance.now() + patience.allMs;
    const buckets = [...new Set(changes.flatMap(({ rows = [] }) => rows.map(bucketOf)))];
    const nodes = [...new Set(buckets.flatMap(placesAbove))];
    const nonces = changes.flatMap(({ nonce }) => nonce ?? []);
    /** What was tried, and may have happened. */
    const tried: Decision[] = [];
    let from: Position = this.#known;
    for (;;) {
      let decision: Decision | undefined;
      try {
        const appended = tried.length === 0 && (await this.#append(changes, buckets, tried));
        if (appended) return appended;
        await this.#backend.write({ after: from.sequence, buckets, nodes, nonces }, (seen) => {
          if (this.#ended !== undefined) throw this.#ended;
          const { at, head, whole } = this.#follow(from, this.#known, seen);
          decision = tried.find((one) => happened(one, seen));
          if (decision !== undefined) return undefined;
          if (!whole) {
            from = at;
            return undefined;
          }
          const rows = new Rows(this.#backend.name, head.state, buckets, seen.rows, seen.nodes);
          decision = this.#decide(head, rows, seen.used, changes);
          if (!changesRows(changes)) this.#compared = { state: head.state, buckets: new Set(buckets), rows };
          if (decision.write !== undefined) tried.push(decision);
          return decision.write;
        });
      } catch (error) {
        if (!retriable(error) || performance.now() > until) throw error;
        await new Promise((resolve) => setTimeout(resolve, patience.betweenMs));
        continue;
      }
      if (decision === undefined) continue;
      this.#advance(decision.head);
      return decision.outcomes;
    }
  }

  /**
   * Writes what changes no rows after the head that is known, without a look first where nobody else wrote lately: how each
   * ended; undefined where others are faster again and again, a nonce was used, or rows have to be read to be compared. No
   * writer waits for another one's round trip so.
   */
  async #append(
    changes: readonly Commit[],
    buckets: readonly number[],
    tried: Decision[],
  ): Promise<Committed[] | undefined> {
    if (this.#backend.append === undefined || changesRows(changes)) return undefined;
    for (let i = 0; i < guesses; i++) {
      const before = this.#known;
      if (this.#shared) await this.#look([]);
      this.#shared = this.#known !== before;
      // Nobody was faster: a nonce was used.
      if (i > 0 && !this.#shared) return undefined;
      const after = this.#known;
      const rows = this.#rowsAt(after, buckets);
      if (rows === undefined) return undefined;
      const outcomes = await this.#appendAfter(after, rows, changes, tried);
      if (outcomes !== undefined) return outcomes;
      this.#shared = true;
    }
    return undefined;
  }

  /** The rows of some buckets as they are at a head, where that is known without reading them. */
  #rowsAt({ state }: Head, buckets: readonly number[]): Rows | undefined {
    if (buckets.length === 0) return new Rows(this.#backend.name, state, [], [], []);
    const last = this.#compared;
    const isKnown = last !== undefined && Buffer.compare(last.state, state) === 0;
    return isKnown && buckets.every((bucket) => last.buckets.has(bucket)) ? last.rows : undefined;
  }

  async #appendAfter(
    after: Head,
    rows: Rows,
    changes: readonly Commit[],
    tried: Decision[],
  ): Promise<Committed[] | undefined> {
    if (this.#ended !== undefined) throw this.#ended;
    const decision = this.#decide(after, rows, new Set(), changes);
    if (decision.write === undefined) return undefined;
    tried.push(decision);
    if (await this.#backend.append!(after, decision.write)) {
      this.#advance(decision.head);
      return decision.outcomes;
    }
    // It did not happen; that another process writes the same entries is not a sign of it.
    tried.pop();
    return undefined;
  }

  /** What a batch writes, and how each of it ends. */
  #decide(head: Head, rows: Rows, used: Set<string>, changes: readonly Commit[]): Decision {
    const entries: LogEntry[] = [];
    const nonces: UsedNonce[] = [];
    const spent = new Set(used);
    const outcomes = changes.map(({ entry, nonce, rows: wanted = [] }): Committed => {
      if (nonce !== undefined && head.sequence - nonce.issued > this.#remembered) return "nonce/busy";
      if (nonce !== undefined && spent.has(nonce.nonce.toHex())) return "nonce/used";
      if (wanted.some((row) => (rows.find(row)?.version ?? 0) !== row.version)) return "conflict";
      if (nonce !== undefined) {
        spent.add(nonce.nonce.toHex());
        nonces.push(nonce);
      }
      for (const { table, key, version, value } of wanted) {
        if (value === undefined) continue;
        rows.set(sealRow(this.#keys.rows, { table, key }, { version: version + 1, value }));
      }
      if (entry !== undefined) entries.push(entry);
      return "done";
    });
    const { root, ...stored } = rows.changes();
    const state = stored.rows.length === 0 ? new Uint8Array() : root;
    const chained = chain(head.sequence, head.hash, state, entries);
    const last = chained.at(-1);
    if (last === undefined) return { head, outcomes, write: undefined };
    const next = signHead(this.#keys.identity, { sequence: last.sequence, hash: last.hash, state: root });
    const sweep = performance.now() - this.#swept >= sweepMs;
    if (sweep) this.#swept = performance.now();
    const write: Changes = {
      head: { ...next, identity: this.#keys.identity.publicKey },
      entries: chained,
      ...stored,
      nonces,
      ...(sweep && { forgetBefore: head.sequence - this.#remembered }),
    };
    return { head: next, outcomes, write };
  }
}

const changesRows = (changes: readonly Commit[]): boolean =>
  changes.some(({ rows = [] }) => rows.some(({ value }) => value !== undefined));

const equal = (a: Position, b: Position): boolean =>
  a.sequence === b.sequence && Buffer.compare(a.hash, b.hash) === 0 && Buffer.compare(a.state, b.state) === 0;
