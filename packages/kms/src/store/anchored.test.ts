// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { identityKey } from "@caisson/protocol/ed25519";
import { anchored } from "./anchored.ts";
import type { LogEntry } from "./entries.ts";
import { readOnlySqlite, sqlite } from "./sqlite.ts";
import { openStore } from "./store.ts";

const keys = { identity: identityKey(new Uint8Array(32).fill(7)), rows: new Uint8Array(32).fill(9) };
const nothing = { after: 0, buckets: [], nodes: [], nonces: [] };

function entry(n: number): LogEntry {
  const [id, digest] = [new Uint8Array(20).fill(n), new Uint8Array(32).fill(n)];
  const time = 1_700_000_000_000 + n;
  return { time, app: id, instance: id, registers: digest, policy: digest, outcome: "released", reason: "r" };
}

/** A file on a volume: `kept` is the newest entry that its last checkpoint covers. */
function volume(t: TestContext, delay = 0) {
  const directory = mkdtempSync(join(tmpdir(), "caisson-kms-anchored-"));
  const path = join(directory, "log.sqlite");
  const state = { kept: 0, asked: 0, away: false };
  const newest = async () => {
    const file = readOnlySqlite(path);
    try {
      return (await file.look(nothing)).head?.sequence ?? 0;
    } finally {
      await file.close();
    }
  };
  const backend = anchored(sqlite(path), async () => {
    state.asked += 1;
    if (state.away) throw new Error("the KMS does not answer");
    const covered = await newest();
    await sleep(Math.random() * delay);
    state.kept = covered;
  });
  t.after(async () => {
    await backend.close();
    rmSync(directory, { recursive: true });
  });
  return { state, backend };
}

test("what is written is answered for once a checkpoint covers it, and many share one", async (t) => {
  const { state, backend } = volume(t, 5);
  const store = await openStore(backend, keys);
  const commit = async (n: number) => {
    await sleep(Math.random() * 20);
    equal(await store.commit({ entry: entry(n) }), "done");
    const { sequence } = store.head;
    ok(sequence <= state.kept, `${sequence} is answered, and ${state.kept} is kept`);
  };
  await Promise.all(Array.from({ length: 60 }, (_, n) => commit(n)));
  equal(state.kept, 60);
  ok(state.asked < 60, `${state.asked} checkpoints`);
});

test("a checkpoint that fails is an error that passes, and what was written meanwhile is not shown", async (t) => {
  const { state, backend } = volume(t);
  const store = await openStore(backend, keys);
  await store.commit({ entry: entry(1) });
  state.away = true;
  const away = { code: "log/unavailable", message: /not anchored: the KMS does not answer/ };
  const { head, identity } = { head: store.head, identity: keys.identity.publicKey };
  const empty = { entries: [], rows: [], nodes: [], nonces: [] };
  const write = backend.write(nothing, () => ({ ...empty, head: { ...head, identity } }));
  await rejects(write, away);
  await rejects(backend.look(nothing), away);
  await rejects(
    backend.write(nothing, () => undefined),
    away,
  );
  state.away = false;
  equal((await backend.look(nothing)).entries.length, 1);
  const { asked } = state;
  await backend.look(nothing);
  equal(state.asked, asked, "nothing was written since");
});

test("a commit whose checkpoint fails at first is in the log once", async (t) => {
  const { state, backend } = volume(t);
  const store = await openStore(backend, keys);
  state.away = true;
  const commit = store.commit({ entry: entry(1) });
  while (state.asked < 2) await sleep(10);
  state.away = false;
  equal(await commit, "done");
  deepEqual([store.head.sequence, state.kept], [1, 1]);
});
