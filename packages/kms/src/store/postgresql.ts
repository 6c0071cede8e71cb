// SPDX-License-Identifier: Apache-2.0
/**
 * A KMS's database in PostgreSQL, for any number of replicas.
 *
 * Writers take turns by locking the one row of `head`, so that READ COMMITTED is enough: what is read after the lock is
 * what the writer before committed. Whoever holds it and falls silent loses it after a time (`sessionSettings`).
 * Several servers may be named; the one that takes writes is used, which is another one after a failover.
 */
import type { Duplex } from "node:stream";
import { messageOf } from "@caisson/vocabulary/failure";
import pg from "pg";
import { KmsError } from "../errors.ts";
import { arrayOf, type Columns, parameters, unnest } from "./arrays.ts";
import {
  type Backend,
  type Changes,
  pageSize,
  retriable,
  type Seen,
  type StoredNode,
  type StoredRow,
  type UsedNonce,
  type Wanted,
} from "./backend.ts";
import type { ChainedEntry, Head } from "./entries.ts";
import { guard } from "./messages.ts";
import { type Login, passwordFor } from "./password-file.ts";

const schema = `
  CREATE SCHEMA IF NOT EXISTS caisson_kms;
  CREATE TABLE IF NOT EXISTS caisson_kms.entry (
    sequence bigint PRIMARY KEY, time bigint NOT NULL, app bytea NOT NULL, instance bytea NOT NULL,
    registers bytea NOT NULL, policy bytea NOT NULL, outcome text NOT NULL, reason text NOT NULL,
    state bytea NOT NULL, hash bytea NOT NULL);
  CREATE TABLE IF NOT EXISTS caisson_kms.head (
    one integer PRIMARY KEY CHECK (one = 1), identity bytea NOT NULL, sequence bigint NOT NULL, hash bytea NOT NULL,
    state bytea NOT NULL, signature bytea NOT NULL) WITH (fillfactor = 50);
  CREATE TABLE IF NOT EXISTS caisson_kms.nonce (issued bigint NOT NULL, nonce bytea NOT NULL, PRIMARY KEY (issued, nonce));
  CREATE TABLE IF NOT EXISTS caisson_kms.record (
    bucket integer NOT NULL, name text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, version bigint NOT NULL,
    sealed bytea NOT NULL, PRIMARY KEY (bucket, name, key));
  CREATE TABLE IF NOT EXISTS caisson_kms.node (place integer PRIMARY KEY, children bytea NOT NULL);`;

/** Any two processes that make the tables at once: one waits. */
const schemaLock = "SELECT pg_advisory_xact_lock(7310027563)";

/** What is in force in each session; times in ms. */
const sessionSettings = {
  statement_timeout: 5000,
  lock_timeout: 5000,
  idle_in_transaction_session_timeout: 5000,
  // A replica whose machine is gone answers nothing, and its transaction ends after this.
  tcp_user_timeout: 10_000,
  synchronous_commit: "on",
  // Every statement here finds a few rows by a key. Planned anew each time, one costs more than its work; and of tables that
  // are empty when it is planned once, the planner would read all of what they are later.
  plan_cache_mode: "force_generic_plan",
  enable_seqscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  jit: "off",
};

const timeouts = { connectMs: 3000, queryMs: 8000 };
const connections = 4;

const head = "SELECT identity, sequence, hash, state, signature FROM caisson_kms.head";

const entryColumns: Columns<ChainedEntry> = {
  sequence: "bigint",
  time: "bigint",
  app: "bytea",
  instance: "bytea",
  registers: "bytea",
  policy: "bytea",
  outcome: "text",
  reason: "text",
  state: "bytea",
  hash: "bytea",
};
const nonceColumns: Columns<UsedNonce> = { issued: "bigint", nonce: "bytea" };
const rowColumns: Columns<StoredRow> = {
  bucket: "integer",
  table: "text",
  key: "text",
  version: "bigint",
  sealed: "bytea",
};
const nodeColumns: Columns<StoredNode> = { place: "integer", children: "bytea" };

const columns = Object.keys(entryColumns).join(", ");
const entries = `SELECT ${columns} FROM caisson_kms.entry WHERE sequence > $1 ORDER BY sequence LIMIT ${pageSize}`;
const beginReading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

interface Statement {
  name: string;
  text: string;
}

/** Each with a name, so that the server parses it once in a session. */
const statements = {
  head: { name: "caisson-head", text: head },
  lock: { name: "caisson-lock", text: `${head} FOR UPDATE` },
  entries: { name: "caisson-entries", text: entries },
  /** Head and entries in one statement, which is of one moment by itself: the head is first, and entries have no identity. */
  news: {
    name: "caisson-news",
    text: `SELECT sequence, NULL AS time, NULL AS app, NULL AS instance, NULL AS registers, NULL AS policy,
             NULL AS outcome, NULL AS reason, state, hash, identity, signature FROM caisson_kms.head
           UNION ALL (SELECT *, NULL, NULL FROM (${entries}) AS entries) ORDER BY identity, sequence`,
  },
  rows: {
    name: "caisson-rows",
    text: "SELECT bucket, name, key, version, sealed FROM caisson_kms.record WHERE bucket = ANY($1::integer[])",
  },
  nodes: {
    name: "caisson-nodes",
    text: "SELECT place, children FROM caisson_kms.node WHERE place = ANY($1::integer[])",
  },
  nonces: {
    name: "caisson-nonces",
    text: `SELECT nonce FROM caisson_kms.nonce WHERE (issued, nonce) IN
           (SELECT * FROM ${unnest(nonceColumns)})`,
  },
  putEntries: {
    name: "caisson-put-entries",
    text: `INSERT INTO caisson_kms.entry (${columns}) SELECT * FROM ${unnest(entryColumns)}`,
  },
  putNonces: {
    name: "caisson-put-nonces",
    text: `INSERT INTO caisson_kms.nonce SELECT * FROM ${unnest(nonceColumns)}`,
  },
  putRows: {
    name: "caisson-put-rows",
    text: `INSERT INTO caisson_kms.record
           SELECT * FROM ${unnest(rowColumns)}
           ON CONFLICT (bucket, name, key) DO UPDATE SET version = excluded.version, sealed = excluded.sealed`,
  },
  putNodes: {
    name: "caisson-put-nodes",
    text: `INSERT INTO caisson_kms.node SELECT * FROM ${unnest(nodeColumns)}
           ON CONFLICT (place) DO UPDATE SET children = excluded.children`,
  },
  putHead: {
    name: "caisson-put-head",
    text: `INSERT INTO caisson_kms.head VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT (one) DO UPDATE
           SET identity = $1, sequence = $2, hash = $3, state = $4, signature = $5`,
  },
  /** Everything that does not ask for rows, in one statement: nothing happens where the head is another one. */
  append: {
    name: "caisson-append",
    text: `WITH moved AS (
             UPDATE caisson_kms.head SET sequence = $1, hash = $2, signature = $3
             WHERE sequence = $4 AND hash = $5 AND identity = $6 RETURNING 1),
           nonces AS (
             INSERT INTO caisson_kms.nonce SELECT * FROM ${unnest(nonceColumns, 7)}
             WHERE EXISTS (SELECT FROM moved)),
           entries AS (
             INSERT INTO caisson_kms.entry (${columns}) SELECT * FROM ${unnest(entryColumns, 9)}
             WHERE EXISTS (SELECT FROM moved))
           SELECT 1 FROM moved`,
  },
  forget: { name: "caisson-forget", text: "DELETE FROM caisson_kms.nonce WHERE issued < $1" },
};

/**
 * A database on one of `servers` (postgresql://user@host:port/database; a directory as host is a Unix socket), whichever
 * takes writes. Makes its tables. Throws KmsError "log/unavailable", "log/unreadable" or "log/not-durable".
 */
export async function postgresql(servers: readonly string[]): Promise<Backend> {
  const database = new Postgresql(servers);
  try {
    await database.begin();
  } catch (error) {
    await database.close();
    throw error;
  }
  return database;
}

class Postgresql implements Backend {
  readonly name: string;
  readonly #servers: readonly { name: string; config: pg.ClientConfig }[];
  /** Sessions that are connected and not in use. */
  #idle: pg.Client[] = [];
  #closed = false;
  #open = 0;
  #waiting: (() => void)[] = [];

  constructor(servers: readonly string[]) {
    this.#servers = servers.map((server) => ({ config: configuration(server), name: nameOf(server) }));
    this.name = this.#servers.map(({ name }) => name).join(" or ");
  }

  async begin(): Promise<void> {
    await this.#with(async (client) => {
      await client.query("BEGIN");
      await client.query(schemaLock);
      // Who may not create in the database finds the tables made by who may.
      const { rows } = await client.query("SELECT to_regclass('caisson_kms.node') AS made");
      if (rows[0].made === null) await client.query(schema);
      await client.query("COMMIT");
    });
  }

  look(wanted: Wanted): Promise<Seen> {
    const { after, buckets, nodes, nonces } = wanted;
    return this.#with(async (client) => {
      if (buckets.length + nodes.length + nonces.length > 0) {
        return this.#read(client, beginReading, wanted, statements.head, "COMMIT");
      }
      const { rows } = await client.query({ ...statements.news, values: [after] });
      const [first] = rows as Record<string, unknown>[];
      const isHead = first !== undefined && first.identity !== null;
      const entries = rows.slice(isHead ? 1 : 0).map(readEntry);
      return { head: isHead ? readHead(first) : undefined, entries, rows: [], nodes: [], used: new Set() };
    });
  }

  write(wanted: Wanted, decide: (seen: Seen) => Changes | undefined): Promise<void> {
    return this.#with(async (client) => {
      const seen = await this.#read(client, "BEGIN", wanted, statements.lock);
      const changes = decide(seen);
      if (changes === undefined) {
        await client.query("ROLLBACK");
        return;
      }
      await this.#put(client, changes);
    });
  }

  async append({ sequence, hash }: Pick<Head, "sequence" | "hash">, changes: Changes): Promise<boolean> {
    const { head: newest, entries, nonces, forgetBefore } = changes;
    const moved = [newest.sequence, newest.hash, newest.signature, sequence, hash, newest.identity];
    const values = [...moved, ...parameters(nonceColumns, nonces), ...parameters(entryColumns, entries)];
    return this.#with(async (client) => {
      const { rows } = await client.query({ ...statements.append, values }).catch((error: unknown) => {
        if ((error as { code?: unknown }).code === uniqueViolation) return { rows: [] };
        throw error;
      });
      if (rows.length === 0) return false;
      if (forgetBefore !== undefined) await client.query({ ...statements.forget, values: [forgetBefore] });
      return true;
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    const idle = this.#idle;
    this.#idle = [];
    await Promise.all(idle.map((client) => client.end().catch(() => {})));
  }

  /**
   * Begins a transaction and reads, in one round trip: statements are sent without waiting for the answers, and the server
   * takes them one after the other. Only what is asked for costs a query.
   */
  async #read(
    client: pg.Client,
    begin: string,
    { after, buckets, nodes, nonces }: Wanted,
    headStatement: Statement,
    end?: string,
  ): Promise<Seen> {
    const ask = async (wanted: boolean, statement: Statement, ...values: unknown[]) =>
      wanted ? ((await client.query({ ...statement, values })).rows as Record<string, unknown>[]) : [];
    const [, heads, entries, rows, nodeRows, used] = await Promise.all([
      client.query(begin),
      ask(true, headStatement),
      ask(true, statements.entries, after),
      ask(buckets.length > 0, statements.rows, arrayOf("integer", buckets)),
      ask(nodes.length > 0, statements.nodes, arrayOf("integer", nodes)),
      ask(nonces.length > 0, statements.nonces, ...parameters(nonceColumns, nonces)),
      end && client.query(end),
    ]);
    return {
      head: heads[0] && readHead(heads[0]),
      entries: entries.map(readEntry),
      rows: rows.map((row) => ({
        bucket: Number(row.bucket),
        table: String(row.name),
        key: String(row.key),
        version: Number(row.version),
        sealed: blob(row.sealed),
      })),
      nodes: nodeRows.map((row) => ({
        place: Number(row.place),
        children: blob(row.children),
      })),
      used: new Set(used.map(({ nonce }) => blob(nonce).toHex())),
    };
  }

  /** Writes and commits in one round trip; after an error PostgreSQL takes the COMMIT for a ROLLBACK. */
  async #put(client: pg.Client, changes: Changes): Promise<void> {
    const { head: newest, entries, rows, nodes, nonces, forgetBefore } = changes;
    const sent: Promise<unknown>[] = [];
    const put = (statement: Statement, ...values: unknown[]) =>
      void sent.push(client.query({ ...statement, values }));
    if (entries.length > 0) put(statements.putEntries, ...parameters(entryColumns, entries));
    if (nonces.length > 0) put(statements.putNonces, ...parameters(nonceColumns, nonces));
    if (rows.length > 0) put(statements.putRows, ...parameters(rowColumns, rows));
    if (nodes.length > 0) put(statements.putNodes, ...parameters(nodeColumns, nodes));
    const { identity, sequence, hash, state, signature } = newest;
    put(statements.putHead, identity, sequence, hash, state, signature);
    if (forgetBefore !== undefined) put(statements.forget, forgetBefore);
    sent.push(client.query("COMMIT"));
    await Promise.all(sent);
  }

  /** Runs `work` in a session of its own; one in which anything failed is not used again. */
  async #with<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    if (this.#open >= connections) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#open += 1;
    let client: pg.Client | undefined;
    try {
      client = this.#idle.pop() ?? (await this.#connect());
      const result = await work(client);
      if (this.#closed) await client.end();
      else this.#idle.push(client);
      return result;
    } catch (error) {
      // Not awaited: a session whose server is gone may take long to say so.
      client?.end().catch(() => {});
      throw translate(this.name, error);
    } finally {
      this.#open -= 1;
      this.#waiting.shift()?.();
    }
  }

  /** A session with the server that takes writes. */
  async #connect(): Promise<pg.Client> {
    const failures: Error[] = [];
    for (const { name, config } of this.#servers) {
      const client = clientOf(config);
      client.on("error", () => {
        this.#idle = this.#idle.filter((one) => one !== client);
      });
      try {
        await client.connect();
        const { rows } = await client.query(
          `SELECT pg_is_in_recovery() AS standby, current_setting('fsync') AS fsync,
             current_setting('full_page_writes') AS full_page_writes,
             current_setting('synchronous_commit') AS synchronous_commit,
             current_setting('server_version_num')::integer AS version`,
        );
        const found = rows[0] as Record<string, unknown>;
        if (found.standby === true) throw unavailable(`${name} is a standby`);
        checkDurable(name, found);
        return client;
      } catch (error) {
        client.end().catch(() => {});
        // Before anything of ours ran in it: the client's own, on what the server said.
        const failure =
          error instanceof TypeError ? unavailable(`${name}: ${messageOf(error)}`) : translate(name, error);
        if (!retriable(failure)) throw failure;
        failures.push(failure);
      }
    }
    const [first, ...others] = failures;
    // What to do is said of one server; of several, what each of them said.
    throw others.length === 0 ? first! : unavailable(failures.map(({ message }) => message).join("; "));
  }
}

/** What the client keeps to itself: where it begins to read what a server sends, over TLS or not, and how it logs in. */
interface Inside {
  connection: { attachListeners(stream: Duplex): void };
  /** Null where neither the server's address nor `PGPASSWORD` has one. */
  password: unknown;
}

/** A client for a server that may say anything (messages.ts). */
function clientOf(config: pg.ClientConfig): pg.Client {
  const client = new pg.Client(config);
  const inside = client as unknown as Inside;
  // Asked only where the server asks.
  inside.password ??= (login: Login) => passwordFor(login);
  const { connection } = inside;
  const attach = connection.attachListeners.bind(connection);
  connection.attachListeners = (stream) => {
    guard(stream);
    attach(stream);
  };
  return client;
}

/** Throws KmsError where an answered commit could be lost, or the server is older than 15. */
function checkDurable(name: string, found: Record<string, unknown>): void {
  if (Number(found.version) < 150_000) {
    throw new KmsError(
      "log/unreadable",
      `${name} is PostgreSQL ${String(found.version)}; 15 or newer is needed`,
    );
  }
  const settings = ["fsync", "full_page_writes", "synchronous_commit"] as const;
  if (settings.every((setting) => found[setting] === "on")) return;
  throw new KmsError("log/not-durable", `${name} can lose an answered entry with the power`, {
    facts: settings.map((setting) => [setting, String(found[setting])] as const),
    fix: "fsync, full_page_writes and synchronous_commit on",
  });
}

/** What a message may say of a server: no password. */
function nameOf(server: string): string {
  const { host = "", pathname = "", searchParams } = URL.parse(server) ?? {};
  return `${host || searchParams?.get("host") || "this machine"}${pathname}`;
}

function configuration(server: string): pg.ClientConfig {
  const url = URL.parse(server);
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol)) {
    throw new KmsError("log/unreadable", "a database is named postgresql://USER@HOST:PORT/NAME");
  }
  const options = Object.entries(sessionSettings).map(([key, value]) => `-c ${key}=${value}`);
  return {
    connectionString: server,
    options: options.join(" "),
    application_name: "caisson kms",
    connectionTimeoutMillis: timeouts.connectMs,
    query_timeout: timeouts.queryMs,
    keepAlive: true,
    // A statement is sent before the one before it is answered.
    pipeline: true,
  };
}

/** SQLSTATE: a row with this key is there already. */
const uniqueViolation = "23505";

const unavailable = (message: string) => new KmsError("log/unavailable", message);

/**
 * What PostgreSQL's error means here. Classes of SQLSTATE: 08 connection, 40 transaction rolled back, 53 resources, 55 lock,
 * 57 operator's intervention, 25006 read-only after a failover (https://www.postgresql.org/docs/15/errcodes-appendix.html).
 */
function translate(name: string, error: unknown): KmsError | TypeError {
  if (error instanceof KmsError || error instanceof TypeError) return error;
  const message = `${name}: ${messageOf(error)}`;
  // What the server does not say is the connection: EPIPE is as long as its codes.
  if (!(error instanceof pg.DatabaseError)) return unavailable(message);
  const { code = "" } = error;
  if (/^(08|40|53|55|57|25)/.test(code)) return unavailable(message);
  return new KmsError("log/unreadable", message);
}

function readHead(row: Record<string, unknown>): Seen["head"] {
  return {
    identity: blob(row.identity),
    sequence: Number(row.sequence),
    hash: blob(row.hash),
    state: blob(row.state),
    signature: blob(row.signature),
  };
}

function readEntry(row: Record<string, unknown>): ChainedEntry {
  return {
    sequence: Number(row.sequence),
    time: Number(row.time),
    app: blob(row.app),
    instance: blob(row.instance),
    registers: blob(row.registers),
    policy: blob(row.policy),
    outcome: String(row.outcome) as ChainedEntry["outcome"],
    reason: String(row.reason),
    state: blob(row.state),
    hash: blob(row.hash),
  };
}

function blob(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new KmsError("log/unreadable", `a column holds ${typeof value} instead of bytes`);
}
