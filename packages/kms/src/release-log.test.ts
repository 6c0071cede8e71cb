// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import fs, { mkdtempSync, readFileSync, readlinkSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import test, { type TestContext } from "node:test";
import { identityKey } from "@caisson/protocol/ed25519";
import fc from "fast-check";
import { type LogEntry, ReleaseLog, verifyReleaseLog } from "./release-log.ts";

const identity = identityKey(new Uint8Array(32).fill(7));
const other = identityKey(new Uint8Array(32).fill(8));

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
  const log = new ReleaseLog(path, identity);
  for (let n = 1; n <= entries; n++) await log.append(entry(n));
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
  await new ReleaseLog(path, identity).close();
  const report = verifyReleaseLog(path);
  deepEqual([report.released, report.denied, report.head.sequence], [0, 0, 0]);
});

test("two processes that begin a log at the same time begin one chain", async (t) => {
  const path = newPath(t);
  let first: ReleaseLog | undefined;
  // Both have seen that there is no head; this one writes its own when the other has answered a request already.
  const late = {
    ...identity,
    sign(message: Uint8Array) {
      if (first === undefined) {
        first = new ReleaseLog(path, identity);
        void first.append(entry(1));
        void first.close();
      }
      return identity.sign(message);
    },
  };
  const log = new ReleaseLog(path, late);
  await log.append(entry(2));
  await log.close();
  equal(verifyReleaseLog(path).released, 2);
});

test("an append resolves after its bytes were brought to disk; what comes meanwhile is brought together", async (t) => {
  const path = newPath(t);
  const log = new ReleaseLog(path, identity);
  t.after(() => log.close());
  const flushes: (() => void)[] = [];
  const real = fs.fdatasync;
  t.mock.method(fs, "fdatasync", (file: number, done: fs.NoParamCallback) => {
    equal(readlinkSync(`/proc/self/fd/${file}`), `${realpathSync(path)}-wal`);
    flushes.push(() => real(file, done));
  });
  const order: number[] = [];
  const appended = (n: number) => log.append(entry(n)).then(() => order.push(n));
  const all = [appended(1)];
  while (flushes.length < 1) await new Promise(setImmediate);
  // It is in the file, and readable, and yet not answered.
  equal(verifyReleaseLog(path).released, 1);
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
  const log = new ReleaseLog(path, identity);
  const mock = t.mock.method(fs, "fdatasync", (_: number, done: fs.NoParamCallback) =>
    done(new Error("EIO")),
  );
  await rejects(log.append(entry(1)), /EIO/);
  mock.mock.restore();
  await rejects(log.append(entry(2)), /EIO/);
  await log.close();
});

test("the settings that make an answered append durable are in force", (t) => {
  const path = newPath(t);
  const log = new ReleaseLog(path, identity);
  t.after(() => log.close());
  const database = new DatabaseSync(path);
  t.after(() => database.close());
  equal(database.prepare("PRAGMA journal_mode").get()!.journal_mode, "wal");
});

test("a place where they cannot be in force is refused", () => {
  // A database without a file has no journal that lasts.
  throws(() => new ReleaseLog(":memory:", identity), { code: "log/not-durable" });
});

test("entries that are appended at once and one by one form one chain", async (t) => {
  const path = newPath(t);
  const log = new ReleaseLog(path, identity);
  await Promise.all([1, 2, 3, 4].map((n) => log.append(entry(n, n === 2 ? "denied" : "released"))));
  await log.append(entry(5));
  const head = log.head();
  await log.close();
  const report = verifyReleaseLog(path, { identity: identity.publicKey.toHex() });
  deepEqual(report, { identity: identity.publicKey.toHex(), released: 4, denied: 1, head });
});

test("a log goes on after it was closed", async (t) => {
  const path = await written(t, 2);
  const log = new ReleaseLog(path, identity);
  await log.append(entry(3));
  await log.close();
  equal(verifyReleaseLog(path).released, 3);
});

test("two writers on one file write one chain", async (t) => {
  const path = newPath(t);
  const logs = [new ReleaseLog(path, identity), new ReleaseLog(path, identity)];
  for (let n = 0; n < 6; n++) await logs[n % 2]!.append(entry(n));
  for (const log of logs) await log.close();
  equal(verifyReleaseLog(path).released, 6);
});

test("a log can be verified while it is written", async (t) => {
  const path = newPath(t);
  const log = new ReleaseLog(path, identity);
  t.after(() => log.close());
  await log.append(entry(1));
  equal(verifyReleaseLog(path).head.sequence, 1);
});

test("entries that could not be written reject, all of them", async (t) => {
  const path = newPath(t);
  const log = new ReleaseLog(path, identity);
  tamper(path, "DROP TABLE entry");
  const appends = [1, 2].map((n) => rejects(log.append(entry(n)), /entry/));
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
    throws(() => verifyReleaseLog(path), { code });
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
  throws(() => verifyReleaseLog(path), { code: "log/head", message: /not signed/ });
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
  throws(() => verifyReleaseLog(path), { code: "log/chain", message: /entry 3/ });
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
  throws(() => verifyReleaseLog(path, { identity: other.publicKey.toHex() }), { code: "log/identity" });
  throws(() => new ReleaseLog(path, other), { code: "log/identity" });
});

test("refused: a whole, signed log that does not contain the head kept from earlier", async (t) => {
  const long = new ReleaseLog(await written(t, 3), identity);
  const witness = long.head();
  await long.close();
  const short = await written(t, 2);
  equal(verifyReleaseLog(short).released, 2);
  throws(() => verifyReleaseLog(short, { witness }), { code: "log/head" });
});

test("a head kept from earlier is found in the log that grew from it", async (t) => {
  const path = await written(t, 2);
  const log = new ReleaseLog(path, identity);
  const witness = log.head();
  await log.append(entry(3));
  await log.close();
  equal(verifyReleaseLog(path, { witness }).released, 3);
});

test("a file that is not a database is refused with its name", (t) => {
  throws(() => verifyReleaseLog(join(newPath(t), "missing")), { code: "log/unreadable" });
});

test("a byte changed anywhere in the file is found, or changes nothing that the log says", async (t) => {
  const path = await written(t, 20);
  const good = readFileSync(path);
  const report = verifyReleaseLog(path);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const bad = Buffer.from(good);
      bad[at]! ^= change;
      writeFileSync(path, bad);
      try {
        // Bytes that SQLite does not use say nothing.
        deepEqual(verifyReleaseLog(path), report);
      } catch (error) {
        equal((error as { code?: string }).code?.startsWith("log/"), true, String(error));
      }
    }),
    { numRuns: 100 },
  );
});
