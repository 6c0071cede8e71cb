// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import fs, { mkdtempSync, readFileSync, readlinkSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import test, { type TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { identityKey } from "@caisson/protocol/ed25519";
import fc from "fast-check";
import { KmsError } from "../errors.ts";
import { type LogEntry, logHead } from "./entries.ts";
import { readOnlySqlite, sqlite } from "./sqlite.ts";
import { openStore } from "./store.ts";
import { contract } from "./testing/contract.ts";
import { type ExpectedLog, verifyReleaseLog } from "./verify.ts";

const identity = identityKey(new Uint8Array(32).fill(7));
const other = identityKey(new Uint8Array(32).fill(8));
const rows = new Uint8Array(32).fill(9);

const openLog = async (path: string, owner = identity) => openStore(sqlite(path), { identity: owner, rows });
const verified = async (path: string, expected?: ExpectedLog) =>
  verifyReleaseLog(readOnlySqlite(path), expected);

function entry(n: number, outcome: LogEntry["outcome"] = "released"): LogEntry {
  const app = new Uint8Array(20).fill(n);
  const digest = new Uint8Array(32).fill(n);
  return {
    time: 1_700_000_000_000 + n,
    app,
    instance: app,
    registers: digest,
    policy: digest,
    outcome,
    reason: "r",
  };
}

function newPath(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "caisson-kms-log-"));
  t.after(() => rmSync(directory, { recursive: true }));
  return join(directory, "release-log.sqlite");
}

async function written(t: TestContext, entries: number): Promise<string> {
  const path = newPath(t);
  const log = await openLog(path);
  for (let n = 1; n <= entries; n++) await log.commit({ entry: entry(n) });
  await log.close();
  return path;
}

function tamper(path: string, sql: string): void {
  const database = new DatabaseSync(path);
  database.exec(sql);
  database.close();
}

/** The chain of docs/key-release.md, written down a second time: each part after its length (4 bytes, big-endian). */
function sha256(...parts: (string | Uint8Array)[]): Uint8Array {
  const sum = createHash("sha256");
  for (const part of parts) {
    const bytes = Buffer.from(part);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    sum.update(length).update(bytes);
  }
  return new Uint8Array(sum.digest());
}

function hashOf(previous: Uint8Array, sequence: number, of: LogEntry): Uint8Array {
  const number = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt(value));
    return bytes;
  };
  const { time, app, instance, registers, policy, outcome, reason } = of;
  const fields = [number(time), app, instance, registers, policy, outcome, reason];
  return sha256("caisson/release-log/v1/entry", previous, number(sequence), ...fields);
}

test("an empty log is whole, and its head is entry 0", async (t) => {
  const path = newPath(t);
  await (await openLog(path)).close();
  const report = await verified(path);
  deepEqual([report.released, report.denied, report.head.sequence], [0, 0, 0]);
});

test("two processes that begin a log at the same time begin one chain", async (t) => {
  const path = newPath(t);
  const logs = await Promise.all([openLog(path), openLog(path)]);
  for (const [n, log] of logs.entries()) await log.commit({ entry: entry(n) });
  for (const log of logs) await log.close();
  equal((await verified(path)).released, 2);
});

test("an append resolves after its bytes were brought to disk; what comes meanwhile is brought together", async (t) => {
  const path = newPath(t);
  const log = await openLog(path);
  t.after(() => log.close());
  const flushes: (() => void)[] = [];
  const real = fs.fdatasync;
  t.mock.method(fs, "fdatasync", (file: number, done: fs.NoParamCallback) => {
    equal(readlinkSync(`/proc/self/fd/${file}`), `${realpathSync(path)}-wal`);
    flushes.push(() => real(file, done));
  });
  const order: number[] = [];
  const appended = (n: number) => log.commit({ entry: entry(n) }).then(() => order.push(n));
  const all = [appended(1)];
  while (flushes.length < 1) await new Promise(setImmediate);
  // It is in the file, and readable, and yet not answered.
  equal((await verified(path)).released, 1);
  all.push(appended(2), appended(3));
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
  deepEqual([order, flushes.length], [[], 1]);
  flushes[0]!();
  while (flushes.length < 2) await new Promise(setImmediate);
  deepEqual(order, [1]);
  flushes[1]!();
  await Promise.all(all);
  deepEqual([order, flushes.length], [[1, 2, 3], 2]);
});

test("after a flush that failed nothing is written any more", async (t) => {
  const path = newPath(t);
  const log = await openLog(path);
  const mock = t.mock.method(fs, "fdatasync", (_: number, done: fs.NoParamCallback) =>
    done(new Error("EIO")),
  );
  await rejects(log.commit({ entry: entry(1) }), /EIO/);
  mock.mock.restore();
  await rejects(log.commit({ entry: entry(2) }), /EIO/);
  await log.close();
});

test("the settings that make an answered append durable are in force", async (t) => {
  const path = newPath(t);
  const log = await openLog(path);
  t.after(() => log.close());
  const database = new DatabaseSync(path);
  t.after(() => database.close());
  equal(database.prepare("PRAGMA journal_mode").get()!.journal_mode, "wal");
});

test("a place where they cannot be in force is refused", async () => {
  // A database without a file has no journal that lasts.
  await rejects(openLog(":memory:"), { code: "log/not-durable" });
});

test("entries that are appended at once and one by one form one chain", async (t) => {
  const path = newPath(t);
  const log = await openLog(path);
  await Promise.all(
    [1, 2, 3, 4].map((n) => log.commit({ entry: entry(n, n === 2 ? "denied" : "released") })),
  );
  await log.commit({ entry: entry(5) });
  const head = logHead(log.head);
  await log.close();
  const report = await verified(path, { identity: identity.publicKey.toHex() });
  deepEqual(report, { identity: identity.publicKey.toHex(), released: 4, denied: 1, changed: 0, head });
});

test("a log goes on after it was closed", async (t) => {
  const path = await written(t, 2);
  const log = await openLog(path);
  await log.commit({ entry: entry(3) });
  await log.close();
  equal((await verified(path)).released, 3);
});

test("two writers on one file write one chain", async (t) => {
  const path = newPath(t);
  const logs = [await openLog(path), await openLog(path)];
  for (let n = 0; n < 6; n++) await logs[n % 2]!.commit({ entry: entry(n) });
  for (const log of logs) await log.close();
  equal((await verified(path)).released, 6);
});

test("a log can be verified while it is written", async (t) => {
  const path = newPath(t);
  const log = await openLog(path);
  t.after(() => log.close());
  await log.commit({ entry: entry(1) });
  equal((await verified(path)).head.sequence, 1);
});

test("entries that could not be written reject, all of them", async (t) => {
  const path = newPath(t);
  const log = await openLog(path);
  tamper(path, "DROP TABLE entry");
  const appends = [1, 2].map((n) => rejects(log.commit({ entry: entry(n) }), /entry/));
  await Promise.all(appends);
  await log.close();
});

const changes: { name: string; sql: string; code: string }[] = [
  { name: "an entry changed", sql: "UPDATE entry SET app = x'00' WHERE sequence = 2", code: "log/chain" },
  {
    name: "an outcome changed",
    sql: "UPDATE entry SET outcome = 'denied' WHERE sequence = 1",
    code: "log/chain",
  },
  { name: "an unknown outcome", sql: "UPDATE entry SET outcome = 'x' WHERE sequence = 1", code: "log/chain" },
  { name: "an entry removed", sql: "DELETE FROM entry WHERE sequence = 2", code: "log/chain" },
  { name: "the first entry removed", sql: "DELETE FROM entry WHERE sequence = 1", code: "log/chain" },
  { name: "the last entry removed", sql: "DELETE FROM entry WHERE sequence = 3", code: "log/head" },
  { name: "all entries removed", sql: "DELETE FROM entry", code: "log/head" },
  {
    name: "the end cut off and the head moved back",
    sql: `DELETE FROM entry WHERE sequence = 3;
          UPDATE head SET sequence = 2, hash = (SELECT hash FROM entry WHERE sequence = 2)`,
    code: "log/head",
  },
  {
    name: "two entries exchanged",
    sql: `UPDATE entry SET sequence = 9 WHERE sequence = 1; UPDATE entry SET sequence = 1 WHERE sequence = 2;
          UPDATE entry SET sequence = 2 WHERE sequence = 9`,
    code: "log/chain",
  },
  { name: "the head removed", sql: "DELETE FROM head", code: "log/head" },
  { name: "the head's signature changed", sql: "UPDATE head SET signature = zeroblob(64)", code: "log/head" },
  { name: "another identity in the head", sql: "UPDATE head SET identity = zeroblob(32)", code: "log/chain" },
  { name: "a table removed", sql: "DROP TABLE entry", code: "log/unreadable" },
];
for (const { name, sql, code } of changes) {
  test(`refused: ${name}`, async (t) => {
    const path = await written(t, 3);
    tamper(path, sql);
    await rejects(verified(path), { code });
  });
}

test("refused: an entry changed, with every hash after it and the head's recomputed", async (t) => {
  const path = await written(t, 3);
  const database = new DatabaseSync(path);
  let previous = database.prepare("SELECT hash FROM entry WHERE sequence = 1").get()!.hash as Uint8Array;
  for (const sequence of [2, 3]) {
    const changed = { ...entry(sequence), ...(sequence === 2 && { outcome: "denied" as const }) };
    previous = hashOf(previous, sequence, changed);
    database
      .prepare("UPDATE entry SET outcome = ?, hash = ? WHERE sequence = ?")
      .run(changed.outcome, previous, sequence);
  }
  // The chain is whole; only who signed the head can tell.
  database.prepare("UPDATE head SET hash = ?").run(previous);
  database.close();
  await rejects(verified(path), { code: "log/head", message: /not signed/ });
});

test("refused: one entry changed and its own hash recomputed", async (t) => {
  const path = await written(t, 3);
  const database = new DatabaseSync(path);
  const first = database.prepare("SELECT hash FROM entry WHERE sequence = 1").get()!.hash as Uint8Array;
  const changed = { ...entry(2), outcome: "denied" as const };
  database
    .prepare("UPDATE entry SET outcome = ?, hash = ? WHERE sequence = 2")
    .run(changed.outcome, hashOf(first, 2, changed));
  database.close();
  await rejects(verified(path), { code: "log/chain", message: /entry 3/ });
});

test("an entry's hash is the documented one, so that others can recompute a log", async (t) => {
  const path = await written(t, 1);
  const database = new DatabaseSync(path);
  t.after(() => database.close());
  const genesis = sha256("caisson/release-log/v1/genesis", identity.publicKey);
  deepEqual(database.prepare("SELECT hash FROM entry").get()!.hash, hashOf(genesis, 1, entry(1)));
});

test("refused: the log of another identity than expected", async (t) => {
  const path = await written(t, 1);
  await rejects(verified(path, { identity: other.publicKey.toHex() }), { code: "log/identity" });
  await rejects(openLog(path, other), { code: "log/identity" });
});

test("refused: a whole, signed log that does not contain the head kept from earlier", async (t) => {
  const long = await openLog(await written(t, 3));
  const witness = logHead(long.head);
  await long.close();
  const short = await written(t, 2);
  equal((await verified(short)).released, 2);
  await rejects(verified(short, { witness }), { code: "log/head" });
});

test("a head kept from earlier is found in the log that grew from it", async (t) => {
  const path = await written(t, 2);
  const log = await openLog(path);
  const witness = logHead(log.head);
  await log.commit({ entry: entry(3) });
  await log.close();
  equal((await verified(path, { witness })).released, 3);
});

test("a file that is not a database is refused with its name", async (t) => {
  await rejects(verified(join(newPath(t), "missing")), { code: "log/unreadable" });
});

test("a byte changed anywhere in the file is found, or changes nothing that the log says", async (t) => {
  const path = await written(t, 20);
  const good = readFileSync(path);
  const report = await verified(path);
  await fc.assert(
    fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const bad = Buffer.from(good);
      bad[at]! ^= change;
      writeFileSync(path, bad);
      try {
        // Bytes that SQLite does not use say nothing.
        deepEqual(await verified(path), report);
      } catch (error) {
        equal((error as { code?: string }).code?.startsWith("log/"), true, String(error));
      }
    }),
    { numRuns: 100 },
  );
});

test("a file of an earlier version is read as it is, and goes on as one of this", async (t) => {
  const path = newPath(t);
  const old = new DatabaseSync(path);
  const columns =
    "time INTEGER, app BLOB, instance BLOB, registers BLOB, policy BLOB, outcome TEXT, reason TEXT";
  old.exec(`CREATE TABLE entry (sequence INTEGER PRIMARY KEY, ${columns}, hash BLOB NOT NULL) STRICT;
    CREATE TABLE head (one INTEGER PRIMARY KEY, identity BLOB, sequence INTEGER, hash BLOB, signature BLOB) STRICT`);
  const { time, app, instance, registers, policy, outcome, reason } = entry(1);
  const hash = hashOf(sha256("caisson/release-log/v1/genesis", identity.publicKey), 1, entry(1));
  old
    .prepare("INSERT INTO entry VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)")
    .run(time, app, instance, registers, policy, outcome, reason, hash);
  const one = Buffer.from("0000000000000001", "hex");
  const signed = Buffer.concat(
    [Buffer.from("caisson/release-log/v1/head"), one, hash].map((part) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(part.length);
      return Buffer.concat([length, part]);
    }),
  );
  old.prepare("INSERT INTO head VALUES (1, ?, 1, ?, ?)").run(identity.publicKey, hash, identity.sign(signed));
  old.close();
  equal((await verified(path)).released, 1);
  const log = await openLog(path);
  await log.commit({ entry: entry(2) });
  const row = { table: "t", key: "k", version: 0, value: new Uint8Array(3) };
  equal(await log.commit({ entry: { ...entry(3), outcome: "changed" }, rows: [row] }), "done");
  await log.close();
  const { released, changed, head } = await verified(path);
  deepEqual([released, changed, head.sequence], [2, 1, 3]);
});

contract("a file", async (t) => {
  const path = newPath(t);
  return {
    open: () => sqlite(path),
    readOnly: () => readOnlySqlite(path),
    tamper: async (sql) => tamper(path, sql),
    hex: (bytes) => `x'${bytes.toHex()}'`,
    prefix: "",
  };
});

test("transactions take more commits while there is little time without work", async (t) => {
  const backend = sqlite(newPath(t));
  const begun: number[] = [];
  const write = backend.write.bind(backend);
  backend.write = (...asked) => {
    begun.push(performance.now());
    return write(...asked);
  };
  const log = await openStore(backend, { identity, rows });
  const commits: Promise<unknown>[] = [];
  for (const end = performance.now() + 30_000; begun.length < 20 && performance.now() < end; await turn()) {
    commits.push(log.commit({ entry: entry(1) }));
    for (const busy = performance.now() + 1; performance.now() < busy; );
  }
  // A timer is never early, however busy the machine.
  const gaps = begun.map((at, i) => at - begun[i - 1]!).slice(1);
  ok(gaps.length >= 19 && Math.min(...gaps.slice(-4)) > 15, gaps.join());
  await Promise.all(commits);
  await log.close();
});

test("for how long a database that is away is waited for, no clock that is set back says", {
  timeout: 60_000,
}, async (t) => {
  const backend = sqlite(newPath(t));
  const store = await openStore(backend, { identity, rows });
  t.after(() => store.close());
  const away = new KmsError("log/unavailable", "another machine is the database now");
  t.mock.method(backend, "write", () => Promise.reject(away));
  let clock = Date.now();
  t.mock.method(Date, "now", () => {
    clock -= 60_000;
    return clock;
  });
  await rejects(store.commit({ entry: entry(1) }), away);
});
