// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { EventEmitter } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { Connections } from "./connections.ts";
import { KmsError } from "./errors.ts";
import { routes } from "./http/routes.ts";
import { readRequest } from "./http/table.ts";
import { askHead, checkContains, headPath, newestTranscript, PeerHeads } from "./peer-heads.ts";
import { createRootSecret } from "./root-secret.ts";
import { openService } from "./service.ts";
import { type Head, logHead } from "./store/entries.ts";
import { sqlite } from "./store/sqlite.ts";
import { openStore, type Store, storeKeys } from "./store/store.ts";
import { Machine } from "./testing/machine.ts";

const keys = storeKeys(new Uint8Array(32).fill(3));
const [id, digest] = [new Uint8Array(20).fill(1), new Uint8Array(32).fill(2)];

function release(store: Store, reason: string) {
  const entry = { time: 1, app: id, instance: id, registers: digest, policy: digest, reason };
  return store.commit({ entry: { ...entry, outcome: "released" } });
}

/** A database with one entry, and a copy of it as somebody made who can write to its disk. */
async function setup(t: TestContext) {
  const place = mkdtempSync(join(tmpdir(), "caisson-kms-peers-"));
  const [path, copy] = [join(place, "log.sqlite"), join(place, "copy.sqlite")];
  const open = async (from: string) => {
    const store = await openStore(sqlite(from), keys);
    t.after(() => store.close());
    return store;
  };
  const made = await openStore(sqlite(path), keys);
  await release(made, "both have this");
  await made.close();
  copyFileSync(path, copy);
  t.after(() => rmSync(place, { recursive: true }));
  return { store: await open(path), again: () => open(path), copied: await open(copy) };
}

/** A replica that answers with this head. */
async function peer(t: TestContext, answer: (nonce: string) => Promise<string> | string): Promise<string> {
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url!, "http://peer");
    equal(pathname, headPath);
    void Promise.resolve(answer(searchParams.get("nonce") ?? "")).then((text) => response.end(text));
  }).listen(0, "127.0.0.1");
  t.after(() => server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const written = (head: Head) => JSON.stringify(logHead(head));

/** Asks once; what came of it. */
async function ask(store: Store, ...peers: string[]) {
  const outcomes: string[] = [];
  const events: string[] = [];
  const count = (_: string, label = "") => void outcomes.push(label);
  const write = (event: string) => void events.push(event);
  await new PeerHeads({ peers, identity: keys.identity.publicKey, store, metrics: { count }, write }).ask();
  return { outcomes, events };
}

test("replicas of one database go on, whoever wrote last", async (t) => {
  const { store, again } = await setup(t);
  const other = await again();
  const url = await peer(t, async () => written(await other.refresh()));
  await release(other, "one");
  deepEqual(await ask(store, url), { outcomes: ['outcome="same"'], events: [] });
  await release(store, "another");
  deepEqual((await ask(store, url)).outcomes, ['outcome="same"']);
  equal(await release(store, "and another"), "done");
});

test("what another replica wrote a moment ago may come a moment later", async (t) => {
  const { store, again } = await setup(t);
  const other = await again();
  const later = { ...store, contains: store.contains.bind(store), end: store.end.bind(store) };
  const hidden = [false, false];
  later.contains = async (entry) => hidden.pop() ?? store.contains(entry);
  await release(other, "one");
  const url = await peer(t, async () => written(await other.refresh()));
  deepEqual((await ask(later as Store, url)).outcomes, ['outcome="same"']);
});

test("a database that shows two replicas two histories ends both", async (t) => {
  const { store, copied } = await setup(t);
  await release(store, "shown to one");
  await release(copied, "shown to the other");
  const [one, other] = [await peer(t, () => written(store.head)), await peer(t, () => written(copied.head))];
  for (const [mine, theirs] of [
    [store, other],
    [copied, one],
  ] as const) {
    deepEqual(await ask(mine, theirs), { outcomes: ['outcome="split"'], events: ["log-split"] });
    await rejects(release(mine, "more"), { code: "log/split" });
    await rejects(mine.read([{ table: "policies", key: "index" }]), { code: "log/split" });
    await rejects(mine.refresh(), { code: "log/split" });
  }
});

test("a database that hides from one replica what it shows another ends the one", async (t) => {
  const { store, copied } = await setup(t);
  await release(store, "hidden from the other");
  deepEqual((await ask(copied, await peer(t, () => written(store.head)))).outcomes, ['outcome="split"']);
  await rejects(release(copied, "more"), { code: "log/split" });
  // Who saw more finds the older head in its log.
  deepEqual((await ask(store, await peer(t, () => written(copied.head)))).outcomes, ['outcome="same"']);
});

test("only a signed head says anything: everything else is only said", async (t) => {
  const { store, copied } = await setup(t);
  await release(copied, "elsewhere");
  const { signature } = copied.head;
  const forged = { ...copied.head, sequence: 9, signature };
  const strangers = storeKeys(new Uint8Array(32).fill(4));
  const url = await Promise.all(
    [
      written(forged),
      written({ ...copied.head, hash: digest }),
      written({ ...copied.head, signature: strangers.identity.sign(digest) }),
      "not JSON",
      "{}",
      "x".repeat(100_000),
    ].map((text) => peer(t, () => text)),
  );
  const { outcomes, events } = await ask(store, ...url, "http://127.0.0.1:9", "not a URL");
  ok(outcomes.every((outcome) => outcome === 'outcome="unknown"'));
  equal(events.length, 8);
  equal(await release(store, "goes on"), "done");
});

test("a replica that answers nothing keeps nobody from asking the others", async (t) => {
  const { store, copied } = await setup(t);
  const { promise: never, resolve } = Promise.withResolvers<string>();
  const silent = await peer(t, () => never);
  let theirs = store.head;
  const outcomes: unknown[] = [];
  const { promise: asked, resolve: found } = Promise.withResolvers<void>();
  const heads = new PeerHeads({
    peers: [silent, await peer(t, () => written(theirs))],
    identity: keys.identity.publicKey,
    store,
    metrics: {
      count: (_, label) => {
        outcomes.push(label);
        found();
      },
    },
    write: () => {},
  });
  const first = heads.ask();
  await asked;
  deepEqual(outcomes, ['outcome="same"']);
  await release(copied, "elsewhere");
  await release(store, "here");
  theirs = copied.head;
  const second = Promise.withResolvers<void>();
  store.end = () => second.resolve();
  void heads.ask();
  await second.promise;
  deepEqual(outcomes, ['outcome="same"', 'outcome="split"']);
  resolve("{}");
  await first;
});

test("a replica that stopped for a split still says what its newest entry is, so that the others stop, too", async (t) => {
  const data = mkdtempSync(join(tmpdir(), "caisson-kms-split-"));
  t.after(() => rmSync(data, { recursive: true }));
  createRootSecret(data);
  const policies = join(data, "policies");
  mkdirSync(policies);
  writeFileSync(join(policies, "app.json"), JSON.stringify(new Machine(Date.now()).policyFile()));
  const service = await openService({ data, policies, development: true });
  t.after(() => service.close());
  await release(service.store, "only here");
  const connections = new Connections(new EventEmitter() as Server, {
    total: 1,
    perAddress: 1,
    silentMs: 1000,
    bodies: 1,
  });
  const incoming = { method: "GET", url: headPath, socket: {} } as IncomingMessage;
  const ask = async () =>
    JSON.parse(String((await routes(service, {}, connections)(readRequest(incoming))).body));
  const head = logHead(service.store.head);
  deepEqual(await ask(), head);
  service.store.end(new KmsError("log/split", "another replica has another history"));
  deepEqual(await ask(), head);
  await rejects(release(service.store, "after it"), { code: "log/split" });
});

test("the newest head is asked for over a nonce: an older answer, another's, or none is not taken for it", async (t) => {
  const { store } = await setup(t);
  await release(store, "newest");
  const { identity } = keys;
  const old = newestTranscript(new Uint8Array(32), store.head);
  const answers: Record<string, (nonce: string) => object> = {
    now: (nonce) => ({
      newest: identity.sign(newestTranscript(Uint8Array.fromHex(nonce), store.head)).toHex(),
    }),
    old: () => ({ newest: identity.sign(old).toHex() }),
    other: (nonce) => {
      const stranger = storeKeys(new Uint8Array(32).fill(4)).identity;
      return { newest: stranger.sign(newestTranscript(Uint8Array.fromHex(nonce), store.head)).toHex() };
    },
    none: () => ({}),
  };
  const asked = async (kind: string) =>
    askHead(
      await peer(t, (nonce) => JSON.stringify({ ...logHead(store.head), ...answers[kind]!(nonce) })),
      identity.publicKey,
    );
  const { sequence, hash } = store.head;
  const head = await asked("now");
  deepEqual([head.sequence, head.hash], [sequence, hash.toHex()]);
  for (const kind of ["old", "other", "none"]) await rejects(asked(kind), { code: "log/head" }, kind);
  await rejects(askHead(await peer(t, () => "not JSON"), identity.publicKey), { code: "log/head" });
});

test("what a log has to have: one that is behind is waited for, another history is refused at once", async (t) => {
  const { store, again, copied } = await setup(t);
  const other = await again();
  for (const entry of ["one", "two", "three"]) await release(other, entry);
  const { sequence, hash } = other.head;
  const wanted = { from: "the KMS", sequence, hash: hash.toHex() };
  await checkContains(store, wanted);
  await rejects(checkContains(copied, wanted, 0), { code: "log/unavailable", kind: "unavailable" });
  const waited = checkContains(copied, wanted, 60_000);
  for (const entry of ["one", "two", "three"]) await release(copied, entry);
  await waited;
  await release(copied, "only here");
  const fork = { ...wanted, sequence: sequence + 1, hash: copied.head.hash.toHex() };
  await release(other, "only there");
  await rejects(checkContains(store, fork, 60_000), { code: "log/split", kind: "rejected" });
});
