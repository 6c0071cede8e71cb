// SPDX-License-Identifier: Apache-2.0
/** The KMS's store in PostgreSQL: the contract that the file keeps too, then a database that comes and goes. */
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { after, before, type TestContext } from "node:test";
import { setTimeout } from "node:timers/promises";
import { openStore, postgresql, type Store, storeKeys, verifyReleaseLog } from "@caisson/kms";
import { contract } from "@caisson/kms/testing/contract";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { type Postgres, startPostgres } from "../support/postgresql.ts";

const ends: (() => Promise<void> | void)[] = [];
let server: Postgres;
before(async () => {
  server = await startPostgres((end) => ends.unshift(end));
});
after(async () => {
  for (const end of ends) await end();
});

contract("PostgreSQL", async () => {
  const database = server.database();
  return {
    open: () => postgresql([database]),
    readOnly: () => postgresql([database]),
    tamper: async (sql) => void server.sql(database, sql),
    hex: (bytes) => `'\\x${bytes.toHex()}'`,
    prefix: "caisson_kms.",
  };
});

const keys = storeKeys(new Uint8Array(32).fill(3));
const none = new Uint8Array();
const entry = (reason: string) =>
  ({
    time: Date.now(),
    app: none,
    instance: none,
    registers: none,
    policy: none,
    outcome: "released",
    reason,
  }) as const;

test("a server that asks for a password gets that of PGPASSFILE, and stderr no word of it", async (t) => {
  const database = server.database();
  const file = server.sql(database, "SHOW hba_file");
  const lines = "'host all locked 127.0.0.1/32 scram-sha-256'), ('host all all 127.0.0.1/32 trust'";
  server.sql(database, `COPY (VALUES (${lines})) TO '${file}'`);
  server.sql(database, "SELECT pg_reload_conf()");
  server.sql(database, "CREATE ROLE locked SUPERUSER LOGIN PASSWORD 'let me in'");
  const locked = database.replace("kms@", "locked@");
  const directory = temporaryDirectory("kms-password", t);
  const before = process.env.PGPASSFILE;
  t.after(() => {
    if (before === undefined) delete process.env.PGPASSFILE;
    else process.env.PGPASSFILE = before;
  });
  process.env.PGPASSFILE = join(directory, "pgpass");
  const warnings: string[] = [];
  const note = (warning: Error) => void warnings.push(warning.message);
  process.on("warning", note);
  t.after(() => process.off("warning", note));

  await rejects(postgresql([locked]), { code: "log/unavailable", message: /asks for a password/ });
  writeFileSync(process.env.PGPASSFILE, `127.0.0.1:${server.port}:*:locked:wrong\n`, { mode: 0o600 });
  await rejects(postgresql([locked]), { code: "log/unreadable", message: /password authentication failed/ });
  writeFileSync(process.env.PGPASSFILE, `127.0.0.1:${server.port}:*:locked:let me in\n`);
  const backend = await postgresql([locked]);
  await backend.close();
  deepEqual(warnings, []);
});

/** Appends at `stores` in turn until `end`, which gives what was answered as done; a test that fails ends it, too. */
function load(t: TestContext, stores: readonly Store[]) {
  const done = new Set<string>();
  const failed: string[] = [];
  let next = 0;
  let over = false;
  const worker = async (store: Store) => {
    while (!over) {
      const reason = `entry ${next++}`;
      try {
        if ((await store.commit({ entry: entry(reason) })) === "done") done.add(reason);
      } catch (error) {
        failed.push((error as { code: string }).code);
        await setTimeout(50);
      }
    }
  };
  const loading = Promise.all([...stores, ...stores, ...stores, ...stores].map(worker));
  const end = async () => {
    over = true;
    await loading;
    return { done, failed };
  };
  t.after(end);
  /** Until so many more were answered, and so by stores that found their database again. */
  const more = async (count: number) => {
    for (const goal = done.size + count; done.size < goal && !t.signal.aborted; ) await setTimeout(20);
  };
  return { end, more };
}

/** Everything answered is in the log once, and nothing is in it twice. */
async function checkLog(database: string, done: ReadonlySet<string>): Promise<void> {
  const found: string[] = [];
  await verifyReleaseLog(await postgresql([database]), {}, (_, { reason }) => found.push(reason));
  equal(new Set(found).size, found.length);
  const missing = [...done].filter((reason) => !found.includes(reason));
  deepEqual(missing, []);
}

test("PostgreSQL that is restarted, cleanly and not, under load loses nothing that was answered", {
  timeout: 180_000,
}, async (t) => {
  const database = server.database();
  const stores = await Promise.all([0, 1].map(async () => openStore(await postgresql([database]), keys)));
  t.after(() => Promise.all(stores.map((store) => store.close())));
  const loading = load(t, stores);
  for (const how of ["fast", "immediate"] as const) {
    await loading.more(10);
    await server.stop(how);
    await setTimeout(300);
    await server.start();
  }
  await loading.more(10);
  const { done, failed } = await loading.end();
  deepEqual(
    failed.filter((code) => code !== "log/unavailable"),
    [],
  );
  await checkLog(database, done);
});

test("while PostgreSQL is away, what is asked of it fails in a limited time, and says that it may work later", async (t) => {
  const database = server.database();
  const store = await openStore(await postgresql([database]), keys);
  t.after(() => store.close());
  await server.stop("fast");
  t.after(() => server.start());
  await rejects(store.commit({ entry: entry("x") }), { code: "log/unavailable", kind: "unavailable" });
  await rejects(store.refresh(), { code: "log/unavailable" });
});

test("a standby that is promoted goes on where the other one died, and lost nothing", {
  timeout: 180_000,
}, async (t) => {
  const own: (() => Promise<void> | void)[] = [];
  t.after(async () => {
    for (const end of own) await end();
  });
  const primary = await startPostgres((end) => own.unshift(end));
  const database = primary.database();
  const standby = await primary.standby();
  const second = database.replace(String(primary.port), String(standby.port));
  const stores = await Promise.all(
    [0, 1].map(async () => openStore(await postgresql([database, second]), keys)),
  );
  own.unshift(() => Promise.all(stores.map((store) => store.close())).then(() => {}));
  const loading = load(t, stores);
  await loading.more(10);
  await primary.stop("immediate");
  standby.promote();
  await loading.more(10);
  const { done, failed } = await loading.end();
  deepEqual(
    failed.filter((code) => code !== "log/unavailable"),
    [],
  );
  await checkLog(second, done);
});

test("a standby that was behind when it took over is refused by those who saw more", async (t) => {
  const own: (() => Promise<void> | void)[] = [];
  t.after(async () => {
    for (const end of own) await end();
  });
  const primary = await startPostgres((end) => own.unshift(end));
  const database = primary.database();
  const before = await openStore(await postgresql([database]), keys);
  await before.commit({ entry: entry("replicated") });
  await before.close();
  const standby = await primary.standby();
  const second = database.replace(String(primary.port), String(standby.port));
  // Nobody waits for it any more, and it is cut off: what comes now is lost with the primary.
  primary.sql(database, "ALTER SYSTEM RESET synchronous_standby_names");
  primary.sql(database, "SELECT pg_reload_conf()");
  await standby.stop("fast");
  const store = await openStore(await postgresql([database, second]), keys);
  own.unshift(() => store.close());
  await store.commit({ entry: entry("lost") });
  await primary.stop("immediate");
  await standby.start();
  standby.promote();
  await rejects(store.commit({ entry: entry("after") }), { code: "log/rolled-back" });
});

test("settings under which an answered entry could be lost are refused", async () => {
  const database = server.database();
  const loose = `${database}?options=-c%20synchronous_commit%3Doff`;
  server.sql(database, `ALTER DATABASE ${new URL(database).pathname.slice(1)} SET synchronous_commit = off`);
  const strict = await postgresql([database]);
  await strict.close();
  match(loose, /options/);
  await rejects(postgresql([loose]), { code: "log/not-durable" });
  await rejects(postgresql(["mysql://x"]), { code: "log/unreadable" });
});
