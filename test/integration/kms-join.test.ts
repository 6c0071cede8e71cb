// SPDX-License-Identifier: Apache-2.0
/**
 * A replica that starts has seen nothing: it takes what its database shows only where that has what the KMS that gave it the
 * root secret, or a head that somebody kept, says. Real databases; the guests are their sockets alone.
 */
import { equal, match } from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import test from "node:test";
import { promisify } from "node:util";
import type { Kms } from "@caisson/kms";
import { admitReplicas, guestSocket } from "@caisson/kms/testing/guest-socket";
import { cli, startReplica } from "../support/kms-process.ts";
import { type Postgres, startPostgres } from "../support/postgresql.ts";

/** A copy of a database as it is now, under whoever uses it. */
function copyOf(postgres: Postgres, database: string, name: string): string {
  const from = new URL(database).pathname.slice(1);
  const sql = (text: string) => postgres.sql(new URL("/postgres", database).href, text);
  sql(`ALTER DATABASE ${from} ALLOW_CONNECTIONS false`);
  sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${from}'`);
  sql(`CREATE DATABASE ${name} TEMPLATE ${from}`);
  sql(`ALTER DATABASE ${from} ALLOW_CONNECTIONS true`);
  return new URL(`/${name}`, database).href;
}

const caisson = (...args: string[]) =>
  promisify(execFile)(process.execPath, [cli, ...args], { timeout: 60_000 });

/** Copies of a file system are slow on a busy disk. */
const timeout = 240_000;

test("a replica serves only on a database that has what the KMS had that gave it the root secret", {
  timeout,
}, async (t) => {
  const ends: (() => Promise<void> | void)[] = [];
  t.after(async () => {
    for (const end of ends) await end();
  });
  const postgres = await startPostgres((end) => ends.unshift(end));
  const database = postgres.database();
  const guest = await guestSocket(t, {});
  const first = await guest.start(0, { databases: [database] });
  equal(await admitReplicas(first), 200);
  const put = copyOf(postgres, database, "put_back");
  const join = async (on: string): Promise<Kms | Error> => {
    const guest = await guestSocket(t, { kms: { url: first.url, identity: first.identityKey } });
    return guest.start(0, { databases: [on] }).catch((error: Error) => error);
  };
  const outcome = (joined: Kms | Error) => ("url" in joined ? "serves" : (joined as { code?: string }).code);

  equal(outcome(await join(database)), "serves");
  // Its release is an entry that the copy does not have.
  const behind = await join(put);
  equal(outcome(behind), "log/unavailable");
  match((behind as Error).message, /^the log ends with entry \d+, and the KMS at http\S+ has \d+$/);
  equal(outcome(await join(postgres.database())), "log/unavailable", "an empty one");

  // As many entries, and others: with the root secret, as the KMS itself would write them.
  const fork = copyOf(postgres, database, "fork");
  for (let year = 2100; year < 2106; year++) {
    const dates = ["--from", `${year}-01-01T00:00Z`, "--until", `${year}-06-01T00:00Z`];
    await caisson("kms", "root", "rotate", "--data", guest.data, "--database", fork, ...dates);
  }
  equal(outcome(await join(fork)), "log/split");

  // A head that somebody kept says it to any replica.
  const kept = `${guest.data}/head.json`;
  writeFileSync(kept, await (await fetch(new URL("/v1/log/head", first.url))).text());
  const serve = (on: string) => ["--database", on, "--head", kept];
  const replica = await startReplica(t, guest.data, serve(database));
  equal(replica.identityKey, first.identityKey);
  for (const [on, status, code] of [
    [put, 75, "log/unavailable"],
    [fork, 10, "log/split"],
  ] as const) {
    const args = ["kms", "serve", "--data", guest.data, "--listen", "127.0.0.1:0", ...serve(on)];
    const { code: exit, stderr } = await caisson(...args).then(
      () => ({ code: 0, stderr: "it serves" }),
      (error: { code: number; stderr: string }) => error,
    );
    equal(exit, status, stderr);
    match(stderr, new RegExp(`\\[${code}\\]`));
  }
});
