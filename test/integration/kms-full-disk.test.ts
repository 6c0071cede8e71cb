// SPDX-License-Identifier: Apache-2.0
/** A KMS whose disk is full: it says so, gives no key that is not in its log, and goes on once there is room. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import {
  createRootSecret,
  type OperatorRequest,
  openRootSecret,
  openStore,
  operatorEnvelope,
  postgresql,
  readOnlySqlite,
  sqlite,
  startKms,
  storeKeys,
  verifyReleaseLog,
} from "@caisson/kms";
import { Machine } from "@caisson/kms/testing/machine";
import { writeEnvelope } from "@caisson/releases";
import { keysOf } from "@caisson/releases/testing/owners";
import { signedBy, signer } from "@caisson/releases/testing/signers";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { startPostgres } from "../support/postgresql.ts";

const skip = process.getuid?.() === 0 ? false : "a small file system is mounted, which only root may do";

const ada = signer("operator ada");

/** A directory on a file system of `size` bytes. */
function smallDisk(t: TestContext, size: number): string {
  const path = mkdtempSync(join(tmpdir(), "caisson-full-disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "none", path]);
  t.after(() => {
    execFileSync("umount", ["--lazy", path]);
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

/** Leaves `free` bytes of a file system. */
function fill(disk: string, free: number): void {
  const { bavail, bsize } = statfsSync(disk);
  writeFileSync(join(disk, "filler"), Buffer.alloc(bavail * bsize - free));
}

/** Asks for keys until a release is refused or `most` were made; how many were, and why no more. */
async function ask(url: string, identityKey: string, most: number) {
  const machine = new Machine(Date.now());
  const state = machine.booted(identityKey);
  let released = 0;
  for (; released < most; released++) {
    try {
      await requestKeys({
        post: httpPost(url, 30_000),
        identityKey: Uint8Array.fromHex(identityKey),
        evidence: (reportData) => machine.evidence(state, reportData),
        now: Date.now,
        toleranceMs: 60_000,
      });
    } catch (error) {
      return { released, denial: (error as { denial?: string }).denial, message: String(error) };
    }
  }
  return { released, denial: undefined, message: "" };
}

/** Starts a KMS, fills its disk while it serves, and makes room again; how many keys it gave. */
async function outOfRoom(
  t: TestContext,
  disk: string,
  free: number,
  options: { data: string; databases: readonly string[] },
): Promise<{ identity: string; released: number }> {
  const place = temporaryDirectory("full-disk-policies", t);
  writeFileSync(join(place, "app.json"), JSON.stringify(new Machine(Date.now()).policyFile()));
  createRootSecret(options.data);
  const kms = await startKms({
    ...options,
    policies: place,
    operators: keysOf(1, ada),
    host: "127.0.0.1",
    port: 0,
    development: true,
    perAddress: { perSecond: 10_000, burst: 10_000 },
  });
  try {
    equal((await ask(kms.url, kms.identityKey, 3)).released, 3);
    fill(disk, free);
    const full = await ask(kms.url, kms.identityKey, 10_000);
    equal(full.denial, "log/unavailable", full.message);
    match(full.message, /full|No space left/);
    // Who asks meanwhile gets no key either, and the KMS lives.
    equal((await ask(kms.url, kms.identityKey, 1)).denial, "log/unavailable");
    equal((await fetch(`${kms.url}/healthz`)).status, 200);
    // Whatever else writes is to be sent again.
    const change: OperatorRequest = {
      version: "caisson/kms-request/v1",
      action: "operators/set",
      kms: kms.identityKey,
      replaces: 1,
      expires: Date.now() + 600_000,
      operators: keysOf(1, ada),
    };
    const body = JSON.stringify(writeEnvelope(signedBy(operatorEnvelope(change), ada)));
    equal((await fetch(`${kms.url}/v1/admin`, { method: "POST", body })).status, 503);
    truncateSync(join(disk, "filler"), 0);
    const again = await ask(kms.url, kms.identityKey, 5);
    deepEqual(again, { released: 5, denial: undefined, message: "" });
    return { identity: kms.identityKey, released: 3 + full.released + 5 };
  } finally {
    await kms.close();
  }
}

test("a full disk under the KMS's file", { skip, timeout: 300_000 }, async (t) => {
  const disk = smallDisk(t, 2 ** 21);
  const data = join(disk, "data");
  const { identity, released } = await outOfRoom(t, disk, 2 ** 16, { data, databases: [] });
  const report = await verifyReleaseLog(readOnlySqlite(join(data, "release-log.sqlite")), { identity });
  equal(report.released, released);
  ok(released > 8, "some keys were given while there was room");
});

test("a KMS does not start on a full disk, says so, and starts once there is room", { skip }, async (t) => {
  const disk = smallDisk(t, 2 ** 20);
  const data = join(disk, "data");
  createRootSecret(data);
  fill(disk, 0);
  const keys = storeKeys(openRootSecret(data));
  const open = async () => openStore(sqlite(join(data, "release-log.sqlite")), keys);
  await rejects(open, { code: "log/unavailable", message: /its disk is full/ });
  rmSync(join(disk, "filler"));
  await (await open()).close();
});

test("a full disk under PostgreSQL's tables", { skip, timeout: 300_000 }, async (t) => {
  const ends: (() => Promise<void> | void)[] = [];
  t.after(async () => {
    for (const end of ends) await end();
  });
  const disk = smallDisk(t, 2 ** 24);
  const server = await startPostgres((end) => ends.unshift(end));
  const tables = join(disk, "tables");
  mkdirSync(tables);
  chmodSync(disk, 0o711);
  chownSync(tables, 65_534, 65_534);
  const database = server.database();
  server.sql(database, `CREATE TABLESPACE small LOCATION '${tables}'`);
  server.sql(
    database,
    `ALTER DATABASE ${new URL(database).pathname.slice(1)} SET default_tablespace = small`,
  );
  const data = temporaryDirectory("full-disk-data", t);
  const { identity, released } = await outOfRoom(t, disk, 2 ** 14, {
    data: join(data, "own"),
    databases: [database],
  });
  const report = await verifyReleaseLog(await postgresql([database]), { identity });
  equal(report.released, released);
});
