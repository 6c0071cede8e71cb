// SPDX-License-Identifier: Apache-2.0
import { equal, ok, rejects } from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { noteSigner, serveWitness, Witness } from "@caisson/log";
import { readTrustPolicy, writeNoteKey } from "@caisson/releases";
import { checkpointKey, checkWitnessed, witnessReleaseLog } from "./checkpoint.ts";
import type { LogEntry } from "./store/entries.ts";
import { sqlite } from "./store/sqlite.ts";
import { openStore, storeKeys } from "./store/store.ts";

const keys = storeKeys(new Uint8Array(32).fill(3));
const { identity } = keys;
const none = new Uint8Array();
const about = { app: none, instance: none, registers: none, policy: none };
const entry = (n: number): LogEntry => ({ ...about, time: n, outcome: "denied", reason: `${n}` });

test("a log goes on from what witnesses saw of it, and one whose end was cut off with its head does not", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "caisson-kms-checkpoint-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "log.sqlite");
  const add = async (...numbers: number[]) => {
    const store = await openStore(sqlite(path), keys);
    for (const n of numbers) await store.commit({ entry: entry(n) });
    await store.close();
  };
  await add(1, 2, 3);
  const own = checkpointKey(identity.publicKey);
  const witnessKey = await noteSigner("w.example", "cosignature", generateKeyPairSync("ed25519").privateKey);
  const witness = await serveWitness(new Witness(join(directory, "seen"), witnessKey, [own]), "127.0.0.1", 0);
  t.after(() => witness.close());
  const witnesses = [{ url: witness.url, key: witnessKey.key }];
  const first = await witnessReleaseLog(sqlite(path), identity, witnesses);
  equal(first.cosigned, 1);
  cpSync(path, join(directory, "old.sqlite"));
  await add(4, 5, 6, 7);
  const second = await witnessReleaseLog(sqlite(path), identity, witnesses);
  equal(second.cosigned, 1);
  equal(second.checkpoint.size, 7);

  const policy = readTrustPolicy(
    `log ${await writeNoteKey(own)}\nwitness w ${witnessKey.verifier}\nquorum w\n`,
  );
  const check = (at: string, note: string) =>
    checkWitnessed(sqlite(at), identity.publicKey, note, policy, Date.now());
  ok(await check(path, first.note));
  ok(await check(path, second.note));
  const old = join(directory, "old.sqlite");
  ok(await check(old, first.note));
  // Whole by its own chain and its own head, and shorter than what was seen.
  await rejects(check(old, second.note), { code: "log/head" });
  // The witness does not cosign what goes back, or another history of the same length.
  equal((await witnessReleaseLog(sqlite(old), identity, witnesses)).cosigned, 0);
  const store = await openStore(sqlite(old), keys);
  for (const n of [14, 15, 16, 17, 18]) await store.commit({ entry: entry(n) });
  await store.close();
  equal((await witnessReleaseLog(sqlite(old), identity, witnesses)).cosigned, 0);
  await rejects(check(old, second.note), { code: "log/head" });
  await rejects(check(path, second.note.split("\n").slice(0, -2).join("\n") + "\n"), { code: "log/quorum" });
});
