// SPDX-License-Identifier: Apache-2.0
/** What every database behind a store must do, and what a store notices of one that lies: the same tests for each. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { setTimeout } from "node:timers/promises";
import { identityKey } from "@caisson/protocol/ed25519";
import fc from "fast-check";
import type { Backend, Changes, Seen, Wanted } from "../backend.ts";
import { change, update } from "../change.ts";
import type { LogEntry } from "../entries.ts";
import { bucketOf, placesAbove } from "../rows.ts";
import { type Commit, openStore, type Store } from "../store.ts";
import { verifyReleaseLog } from "../verify.ts";

type ReadOnly = Pick<Backend, "name" | "look" | "close">;

/** One new, empty database. */
export interface Database {
  open(): Backend | Promise<Backend>;
  readOnly(): ReadOnly | Promise<ReadOnly>;
  /** Changes it behind the store's back. */
  tamper(sql: string): Promise<void>;
  /** Bytes as the database writes them in SQL. */
  hex: (bytes: Uint8Array) => string;
  /** Before the names of tables. */
  prefix: string;
}

const keys = { identity: identityKey(new Uint8Array(32).fill(7)), rows: new Uint8Array(32).fill(9) };
const id = (n: number) => new Uint8Array(20).fill(n);
const bytes = (value: string) => new TextEncoder().encode(value);
const name = (key: string) => ({ table: "things", key });

function entry(n: number, outcome: LogEntry["outcome"] = "changed"): LogEntry {
  const digest = new Uint8Array(32).fill(n);
  const time = 1_700_000_000_000 + n;
  return { time, app: id(n), instance: id(n), registers: digest, policy: digest, outcome, reason: `r ${n}` };
}

const nonce = (n: number) => ({ nonce: new Uint8Array(32).fill(n), issued: 0 });
const put = (key: string, version: number, value: string): Commit => ({
  entry: entry(version),
  rows: [{ ...name(key), version, value: bytes(value) }],
});

/** A backend that does something else at times: `before` and `after` a write may throw. */
function disturbed(
  inner: Backend,
  hooks: { before?: (how: "write" | "append") => Promise<void>; after?: () => Promise<void> },
): Backend {
  return {
    name: inner.name,
    look: (wanted) => inner.look(wanted),
    write: async (wanted: Wanted, decide: (seen: Seen) => Changes | undefined) => {
      await hooks.before?.("write");
      await inner.write(wanted, decide);
      await hooks.after?.();
    },
    ...(inner.append && {
      append: async (...about: Parameters<NonNullable<Backend["append"]>>) => {
        await hooks.before?.("append");
        const done = await inner.append!(...about);
        await hooks.after?.();
        return done;
      },
    }),
    close: () => inner.close(),
  };
}

/** What a database holds of some buckets and nodes. */
async function look(database: Database, buckets: number[], nodes: number[] = []): Promise<Seen> {
  const backend = await database.readOnly();
  try {
    return await backend.look({ after: 0, buckets, nodes, nonces: [] });
  } finally {
    await backend.close();
  }
}

/** Makes a database of one row what it was after the first entry. */
async function putBack(database: Database, { head, rows, nodes }: Seen): Promise<void> {
  const { prefix, hex } = database;
  const tamper = (sql: string) => database.tamper(sql);
  const { hash, state, signature } = head!;
  const sets = `hash = ${hex(hash)}, state = ${hex(state)}, signature = ${hex(signature)}`;
  await tamper(`DELETE FROM ${prefix}entry WHERE sequence > 1`);
  await tamper(`UPDATE ${prefix}head SET sequence = 1, ${sets}`);
  for (const { sealed, version } of rows) {
    await tamper(`UPDATE ${prefix}record SET version = ${version}, sealed = ${hex(sealed)} WHERE key = 'a'`);
  }
  for (const { place, children } of nodes) {
    await tamper(`UPDATE ${prefix}node SET children = ${hex(children)} WHERE place = ${place}`);
  }
}

const unavailable = () => Object.assign(new Error("away"), { code: "log/unavailable" });

/** Runs the contract on databases that `make` makes. */
export function contract(what: string, make: (t: TestContext) => Promise<Database>): void {
  /** A database, and as many stores on it as are asked for. */
  const opened = async (t: TestContext, count = 1) => {
    const database = await make(t);
    const stores: Store[] = [];
    const open = async (backend?: Backend) => {
      const store = await openStore(backend ?? (await database.open()), keys);
      let closed = false;
      t.after(() => (closed ? undefined : store.close()));
      const close = store.close.bind(store);
      store.close = () => {
        closed = true;
        return close();
      };
      return store;
    };
    for (let i = 0; i < count; i++) stores.push(await open());
    return { database, stores, store: stores[0]!, open };
  };
  const on = (title: string, run: (t: TestContext) => Promise<void>): void => {
    void test(`${what}: ${title}`, run);
  };

  on("a row that is compared again and again is read when it is another", async (t) => {
    const { database, store: other, open } = await opened(t);
    const inner = await database.open();
    const ways: string[] = [];
    const before = async (how: string) => void ways.push(how);
    const store = await open(disturbed(inner, { before }));
    const compare = (version: number, n: number) =>
      store.commit({ entry: entry(n), nonce: nonce(n), rows: [{ ...name("a"), version }] });
    await other.commit(put("a", 0, "one"));
    ways.length = 0;
    for (const n of [1, 2, 3]) equal(await compare(1, n), "done");
    if (inner.append) deepEqual(ways, ["write", "append", "append"]);
    equal(await compare(0, 4), "conflict");
    equal(await compare(1, 3), "nonce/used");
    await other.commit(put("a", 1, "two"));
    equal(await compare(1, 5), "conflict");
    equal(await compare(2, 6), "done");
    // A row beside it changes what the head says of all rows.
    await other.commit(put("b", 0, "one"));
    ways.length = 0;
    for (const n of [7, 8]) equal(await compare(2, n), "done");
    // After what it knew first, which is not the newest any more.
    if (inner.append) deepEqual(ways, ["append", "write", "append"]);
    equal(
      await store.commit({
        entry: entry(9),
        rows: [
          { ...name("c"), version: 0 },
          { ...name("a"), version: 2 },
        ],
      }),
      "done",
    );
    equal(await store.commit({ entry: entry(10), rows: [{ ...name("b"), version: 0 }] }), "conflict");
  });

  on("a row is what was last written, and nothing before", async (t) => {
    const { store, stores } = await opened(t, 2);
    deepEqual(await store.read([name("a"), name("b")]), [undefined, undefined]);
    equal(await store.commit(put("a", 0, "one")), "done");
    equal(await store.commit(put("a", 1, "two")), "done");
    const row = { version: 2, value: bytes("two") };
    for (const one of stores) deepEqual(await one.read([name("b"), name("a")]), [undefined, row]);
    deepEqual(await store.read([{ table: "other", key: "a" }]), [undefined]);
  });

  on("a row of another version than stated is not written, nor anything with it", async (t) => {
    const { store } = await opened(t);
    await store.commit(put("a", 0, "one"));
    equal(await store.commit(put("a", 0, "again")), "conflict");
    equal(
      await store.commit({
        ...put("b", 0, "new"),
        rows: [...put("b", 0, "new").rows!, { ...name("a"), version: 7 }],
      }),
      "conflict",
    );
    deepEqual(await store.read([name("b")]), [undefined]);
    equal(store.head.sequence, 1);
    equal(await store.commit({ rows: [{ ...name("a"), version: 1 }] }), "done");
    equal(store.head.sequence, 1);
  });

  on("what is written has an entry", async (t) => {
    const { store } = await opened(t);
    await rejects(store.commit({ rows: put("a", 0, "x").rows! }), TypeError);
    await rejects(store.commit({ nonce: nonce(1) }), TypeError);
  });

  on("a nonce is good for one entry, at whichever replica", async (t) => {
    const { stores } = await opened(t, 3);
    const one = nonce(1);
    const outcomes = await Promise.all(
      [...stores, ...stores].map((store) => store.commit({ entry: entry(1, "released"), nonce: one })),
    );
    deepEqual(outcomes.sort(), ["done", ...Array(5).fill("nonce/used")]);
    equal(await stores[0]!.commit({ entry: entry(2), nonce: nonce(2) }), "done");
  });

  on(
    "a used nonce is forgotten when the log has grown, and is too old then; no clock has a part in it",
    async (t) => {
      const { database } = await opened(t);
      // A store that is new forgets what is old with its first commit.
      const open = async () => {
        const backend = await database.open();
        const store = await openStore(backend, keys, 4);
        t.after(() => store.close());
        return { backend, store };
      };
      const first = nonce(1);
      equal(await (await open()).store.commit({ entry: entry(1), nonce: first }), "done");
      for (let n = 2; n <= 4; n++) {
        const ahead = t.mock.method(Date, "now", () => 4_102_444_800_000);
        const { store } = await open();
        equal(await store.commit({ entry: entry(n) }), "done");
        ahead.mock.restore();
        equal(await store.commit({ entry: entry(9), nonce: first }), "nonce/used");
      }
      const { backend, store } = await open();
      const isKept = async () =>
        (await backend.look({ after: 0, buckets: [], nodes: [], nonces: [first] })).used.size === 1;
      equal(await isKept(), true);
      equal(await store.commit({ entry: entry(5) }), "done");
      equal(await store.commit({ entry: entry(9), nonce: first }), "nonce/busy");
      equal(await (await open()).store.commit({ entry: entry(6) }), "done");
      equal(await isKept(), false);
      equal(await store.commit({ entry: entry(9), nonce: first }), "nonce/busy");
      equal(await store.commit({ entry: entry(7), nonce: { ...nonce(2), issued: 6 } }), "done");
    },
  );

  on("many who count one row up at several replicas lose none", async (t) => {
    const { stores, database } = await opened(t, 3);
    const each = 8;
    const one = async (store: Store) => {
      for (let i = 0; i < each; i++) {
        await change(store, [name("count")], ([row]) => ({
          entry: entry(i),
          rows: [
            update(
              name("count"),
              row,
              bytes(String(Number(row ? new TextDecoder().decode(row.value) : 0) + 1)),
            ),
          ],
        }));
      }
    };
    await Promise.all([...stores, ...stores].map(one));
    const [row] = await stores[0]!.read([name("count")]);
    equal(new TextDecoder().decode(row!.value), String(6 * each));
    equal((await verifyReleaseLog(await database.readOnly())).changed, 6 * each);
  });

  on("what the database sees of a row is not what is in it", async (t) => {
    const { store, database } = await opened(t);
    await store.commit(put("a", 0, "a secret that is long enough to be found"));
    await store.close();
    const { rows } = await look(database, [bucketOf(name("a"))]);
    equal(rows.length, 1);
    equal(Buffer.from(rows[0]!.sealed).includes("secret"), false);
  });

  on("a head that was seen is in the log; another is not", async (t) => {
    const { store } = await opened(t);
    for (let n = 0; n < 3; n++) await store.commit(put(`k${n}`, 0, "x"));
    const { sequence, hash } = store.head;
    await store.commit(put("more", 0, "x"));
    equal(await store.contains({ sequence, hash: hash.toHex() }), true);
    equal(await store.contains({ sequence: sequence - 1, hash: hash.toHex() }), false);
    equal(await store.contains({ sequence: 99, hash: hash.toHex() }), false);
  });

  const lies: { title: string; sql: (database: Database, before: string[]) => string[] }[] = [
    {
      title: "altered",
      sql: ({ prefix, hex }) => [
        `UPDATE ${prefix}record SET sealed = ${hex(new Uint8Array(64))} WHERE key = 'a'`,
      ],
    },
    {
      title: "given another version",
      sql: ({ prefix }) => [`UPDATE ${prefix}record SET version = 9 WHERE key = 'a'`],
    },
    { title: "removed", sql: ({ prefix }) => [`DELETE FROM ${prefix}record WHERE key = 'a'`] },
    {
      title: "given another name",
      sql: ({ prefix }) => [`UPDATE ${prefix}record SET key = 'z' WHERE key = 'a'`],
    },
    { title: "put back to what it was", sql: (_, before) => before },
    {
      title: "removed with the tree above it",
      sql: ({ prefix }) => [`DELETE FROM ${prefix}record`, `DELETE FROM ${prefix}node`],
    },
  ];
  for (const { title, sql } of lies) {
    on(`a row that was ${title} is refused, by who saw it and by who did not`, async (t) => {
      const { database, store, open } = await opened(t);
      const { prefix, hex } = database;
      await store.commit(put("a", 0, "one"));
      const { rows } = await look(database, [bucketOf(name("a"))]);
      await store.commit(put("a", 1, "two"));
      const before = rows.map(
        (row) =>
          `UPDATE ${prefix}record SET version = ${row.version}, sealed = ${hex(row.sealed)} WHERE key = 'a'`,
      );
      for (const one of sql(database, before)) await database.tamper(one);
      await rejects(store.read([name("a")]), { code: "log/rows" });
      await rejects((await open()).read([name("a")]), { code: "log/rows" });
      await rejects(store.commit(put("a", 2, "three")), { code: "log/rows" });
    });
  }

  on("everything put back, with rows, log and head, is refused by who saw what came after", async (t) => {
    const { database, store, open } = await opened(t);
    await store.commit(put("a", 0, "one"));
    const before = await look(database, [bucketOf(name("a"))], placesAbove(bucketOf(name("a"))));
    await store.commit(put("a", 1, "two"));
    await putBack(database, before);
    const kept = store.head;
    await rejects(store.read([name("a")]), { code: "log/rolled-back" });
    await rejects(store.commit(put("a", 1, "another two")), { code: "log/rolled-back" });
    await rejects(store.refresh(), { code: "log/rolled-back" });
    // Who starts now cannot know; who kept a head can tell it.
    const fresh = await open();
    deepEqual(await fresh.read([name("a")]), [{ version: 1, value: bytes("one") }]);
    equal(await fresh.contains({ sequence: kept.sequence, hash: kept.hash.toHex() }), false);
  });

  on("a history that only one replica is shown parts them for good", async (t) => {
    const { database, stores } = await opened(t, 2);
    const [one, two] = stores;
    await one!.commit(put("a", 0, "one"));
    await two!.refresh();
    const fork = await look(database, [bucketOf(name("a"))], placesAbove(bucketOf(name("a"))));
    await one!.commit(put("a", 1, "seen by one replica"));
    // The database shows the other what was before, which writes its own.
    await putBack(database, fork);
    await two!.commit(put("a", 1, "seen by the other"));
    await two!.commit(put("b", 0, "and more"));
    await rejects(one!.refresh(), { code: "log/chain" });
    await rejects(one!.commit(put("c", 0, "x")), { code: "log/chain" });
  });

  on("whether an entry is in the log follows from the chain, not from what the database shows", async (t) => {
    const { database, store } = await opened(t);
    const elsewhere = await opened(t);
    await store.commit(put("a", 0, "one"));
    await elsewhere.store.commit(put("a", 0, "another one"));
    await elsewhere.store.commit(put("b", 0, "and more"));
    // Who looks for an entry alone is shown the log in which it is.
    const [own, other] = [await database.open(), await elsewhere.database.open()];
    t.after(() => other.close());
    const liar = await openStore(
      {
        ...disturbed(own, {}),
        look: async (wanted) => {
          const seen = await own.look(wanted);
          if (wanted.buckets.length > 0) return seen;
          return { ...seen, entries: (await other.look(wanted)).entries };
        },
      },
      keys,
    );
    t.after(() => liar.close());
    for (const { head } of [elsewhere.store, store]) {
      const named = { sequence: head.sequence, hash: head.hash.toHex() };
      equal(await liar.contains(named).catch(() => "refused"), head === store.head);
    }
    const first = (await other.look({ after: 0, buckets: [], nodes: [], nonces: [] })).entries[0]!;
    equal(await liar.contains({ sequence: 1, hash: first.hash.toHex() }), false);
  });

  on("an entry that was altered is refused by who follows the log", async (t) => {
    const { database, stores } = await opened(t, 2);
    await stores[0]!.commit(put("a", 0, "one"));
    await database.tamper(`UPDATE ${database.prefix}entry SET reason = 'another' WHERE sequence = 1`);
    await rejects(stores[1]!.refresh(), { code: "log/chain" });
    await rejects(verifyReleaseLog(await database.readOnly()), { code: "log/chain" });
  });

  on("a nonce that the database forgot is good again, which is what it can do", async (t) => {
    const { database, store } = await opened(t);
    const used = nonce(1);
    equal(await store.commit({ entry: entry(1, "released"), nonce: used }), "done");
    equal(await store.commit({ entry: entry(1, "released"), nonce: used }), "nonce/used");
    await database.tamper(`DELETE FROM ${database.prefix}nonce`);
    equal(await store.commit({ entry: entry(1, "released"), nonce: used }), "done");
  });

  on("a write that may have happened is not done twice, and one that did not is done", async (t) => {
    const { database, open } = await opened(t);
    let away = 0;
    const fail = async () => {
      if (away-- > 0) throw unavailable();
    };
    const after = await open(disturbed(await database.open(), { after: fail }));
    away = 2;
    equal(await after.commit({ ...put("a", 0, "one"), nonce: nonce(1) }), "done");
    const before = await open(disturbed(await database.open(), { before: fail }));
    away = 2;
    equal(await before.commit({ ...put("a", 1, "two"), nonce: nonce(2) }), "done");
    const report = await verifyReleaseLog(await database.readOnly());
    equal(report.changed, 2);
  });

  on("an equal entry of another replica is not a sign that one's own was written", async (t) => {
    const { database, store, open } = await opened(t);
    let first = true;
    const before = async () => {
      if (!first) return;
      first = false;
      await store.commit({ entry: entry(2), nonce: nonce(1) });
      throw unavailable();
    };
    const late = await open(disturbed(await database.open(), { before }));
    const own = nonce(2);
    equal(await late.commit({ entry: entry(2), nonce: own }), "done");
    equal((await verifyReleaseLog(await database.readOnly())).changed, 2);
    equal(await store.commit({ entry: entry(2), nonce: own }), "nonce/used");
  });

  on(
    "replicas that come, are cut off, die and start anew, in any order, lose and double nothing",
    async (t) => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(
            fc.record({
              replica: fc.nat(2),
              // Without a key it is an entry alone, with a nonce, as a release is.
              key: fc.constantFrom("a", "b", "c", undefined, undefined, undefined),
              event: fc.constantFrom("none", "none", "none", "before", "after", "crash"),
              pause: fc.nat(3),
            }),
            { minLength: 4, maxLength: 16 },
          ),
          async (steps) => {
            const database = await make(t);
            const started: Store[] = [];
            const plans: ("before" | "after")[][] = [[], [], []];
            const start = async (i: number) => {
              const hook = (when: "before" | "after") => async () => {
                if (plans[i]![0] !== when) return;
                plans[i]!.shift();
                throw unavailable();
              };
              const backend = disturbed(await database.open(), {
                before: hook("before"),
                after: hook("after"),
              });
              return openStore(backend, keys).then((store) => {
                started.push(store);
                return store;
              });
            };
            const stores = [await start(0), await start(1), await start(2)];
            const done: Record<string, number> = { a: 0, b: 0, c: 0 };
            await Promise.all(
              steps.map(async ({ replica, key, event, pause }, i) => {
                await setTimeout(pause);
                if (event === "before" || event === "after") plans[replica]!.push(event);
                if (event === "crash") stores[replica] = await start(replica);
                if (key === undefined) {
                  equal(await stores[replica]!.commit({ entry: entry(2), nonce: nonce(i) }), "done");
                  return;
                }
                const { committed } = await change(stores[replica]!, [name(key)], ([row]) => ({
                  entry: entry(1),
                  rows: [update(name(key), row, bytes(key))],
                }));
                if (committed === "done") done[key]! += 1;
              }),
            );
            const last = await start(0);
            const found = await last.read(["a", "b", "c"].map(name));
            deepEqual(
              found.map((row) => row?.version ?? 0),
              [done.a, done.b, done.c],
            );
            equal((await verifyReleaseLog(await database.readOnly())).changed, steps.length);
            for (const store of started) await store.close();
          },
        ),
        // A run that fails leaves its sessions open, so that to shrink it would only use them all up.
        { numRuns: 12, endOnFailure: true },
      );
    },
  );
}
