// SPDX-License-Identifier: Apache-2.0
/** A KMS that follows a log: what it reads there stands for the proofs that bundles would bring, as long as it is young. */
import { equal, ok } from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { cpSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import {
  type Following,
  followLog,
  type LogSource,
  LogWriter,
  noteSigner,
  openLogDirectory,
  proveRelease,
  serveWitness,
  Witness,
  writeFollowing,
} from "@caisson/log";
import { type Bundle, type Envelope, identityPayloadType, readTrustPolicy } from "@caisson/releases";
import { hashOf, keysOf, Owners } from "@caisson/releases/testing/owners";
import { signer } from "@caisson/releases/testing/signers";
import { FollowedLog } from "./followed-log.ts";
import { type FollowingStore, followingRows } from "./following-rows.ts";
import { directoryOf, type Recorded } from "./testing/context.ts";
import { Machine } from "./testing/machine.ts";
import {
  ask,
  bundleOf,
  first,
  kms,
  machine,
  now,
  owners,
  ownersPolicies,
  setup,
  storeOf,
  subjects,
  subjectsOf,
} from "./testing/owned.ts";

const day = 24 * 3600 * 1000;

const logKey = await noteSigner("log.example", "note", generateKeyPairSync("ed25519").privateKey);
const witnessKey = await noteSigner("w.example", "cosignature", generateKeyPairSync("ed25519").privateKey);
const logPolicy = `log ${logKey.verifier}\nwitness w ${witnessKey.verifier}\nquorum w\n`;
const loggers = new Owners(now, "logged", { log: { policy: logPolicy } });
const loggedMachine = new Machine(now, "logged", 0, { identity: loggers.id });
const loggedSubjects = subjectsOf(loggedMachine);
const l1 = loggers.release(loggedSubjects);
const l2 = loggers.release(loggedSubjects, { release: 2, previous: hashOf(l1.payload), minimum: 2 });
const firstDocument = { payload: loggers.first, payloadType: identityPayloadType, signatures: [] };

/** A log with the identity and one release, which a witness sees at `clock.ms`, and a KMS that follows it. */
async function logged(t: TestContext, rules: object = {}) {
  const clock = { ms: now };
  const witness = await serveWitness(
    new Witness(directoryOf(t), witnessKey, [logKey.key], () => clock.ms),
    "127.0.0.1",
    0,
  );
  t.after(() => witness.close());
  const directory = directoryOf(t);
  const writer = await LogWriter.open(directory, logKey, [{ url: witness.url, key: witnessKey.key }]);
  await writer.add("identity", loggers.id, firstDocument);
  await writer.add("release", loggers.id, l1);
  const policies = ownersPolicies(t, loggedMachine, rules);
  const follow = (kept: FollowingStore = inMemory(), source = openLogDirectory(directory)) =>
    new FollowedLog(
      { source, policy: readTrustPolicy(logPolicy) },
      kms,
      kept,
      () => clock.ms,
      () => {},
    );
  const kmsWith = (log: FollowedLog) => setup(t, policies, { log, clock: () => clock.ms });
  const asks = (kmsOf: Recorded, release: Envelope, changes: Partial<Bundle> = {}) =>
    ask(kmsOf, {
      of: loggedMachine,
      bundle: loggers.bundle(release, loggedMachine.manifest, changes),
    });
  return { clock, directory, writer, follow, kmsWith, asks };
}

const inMemory = (): FollowingStore => {
  let kept: Following | undefined;
  return {
    readCheckpoint: async () => kept?.note,
    readFollowing: async () => kept && writeFollowing(kept),
    write: async (next) => {
      kept = next;
    },
  };
};

test("a followed log stands for the proof, and says what no host brings", async (t) => {
  const { writer, follow, kmsWith, asks } = await logged(t);
  const log = follow();
  const kmsOf = await kmsWith(log);
  // Nothing was read yet, so every view is too old.
  equal((await asks(kmsOf, l1)).code, "log/age");
  equal(await log.update(), true);
  ok((await asks(kmsOf, l1)).key);
  equal((await asks(kmsOf, l2)).code, "log/proof");
  await writer.add("release", loggers.id, l2);
  ok((await asks(kmsOf, l1)).key);
  await log.update();
  equal((await asks(kmsOf, l1)).code, "release/below-minimum");
  ok((await asks(kmsOf, l2)).key);
  const twin = loggers.release(loggedSubjects, {
    release: 2,
    previous: hashOf(l1.payload),
    minimum: 2,
    notes: "twin",
  });
  equal((await asks(kmsOf, twin)).code, "release/previous");
  await writer.add("revocation", loggers.id, loggers.revocation([2]));
  await log.update();
  equal((await asks(kmsOf, l2)).code, "release/revoked");
});

test("a KMS that was put back to an old copy learns again; two KMSs of one log agree", async (t) => {
  const { writer, follow, kmsWith, asks } = await logged(t);
  await writer.add("release", loggers.id, l2);
  const logs = [follow(), follow()];
  for (const log of logs) await log.update();
  // Both have an empty store, as yesterday's.
  for (const log of logs) equal((await asks(await kmsWith(log), l1)).code, "release/below-minimum");
});

test("a log that is frozen stops keys a day later, to the second", async (t) => {
  const { clock, writer, follow, kmsWith, asks } = await logged(t);
  const log = follow();
  await log.update();
  clock.ms = now + day;
  ok((await asks(await kmsWith(log), l1)).key);
  clock.ms = now + day + 1000;
  equal((await asks(await kmsWith(log), l1)).code, "log/age");
  await writer.refresh();
  await log.update();
  ok((await asks(await kmsWith(log), l1)).key);
});

test("a clock set back makes no log young for ever", async (t) => {
  const { clock, writer, follow, kmsWith, asks } = await logged(t);
  const log = follow();
  clock.ms = now + 3600_000;
  await writer.refresh();
  await log.update();
  const kmsOf = await kmsWith(log);
  ok((await asks(kmsOf, l1)).key);
  clock.ms = now;
  equal((await asks(kmsOf, l1)).code, "log/age");
  // Nor is the log read: its witnesses are of the future.
  equal(await log.update(), false);
  clock.ms = now + 3600_000;
  ok((await asks(kmsOf, l1)).key);
});

test("a rebuild that differs stops a release, though no host brings it", async (t) => {
  const rebuilder = signer("rebuilder");
  const rebuilt = new Owners(now, "rebuilt", { log: { policy: logPolicy }, rebuild: keysOf(1, rebuilder) });
  const of = new Machine(now, "rebuilt", 0, { identity: rebuilt.id });
  const release = rebuilt.release(subjectsOf(of));
  const same = rebuilt.rebuild(release, subjectsOf(of)[0], rebuilder);
  const { writer, follow } = await logged(t);
  await writer.add("identity", rebuilt.id, {
    payload: rebuilt.first,
    payloadType: identityPayloadType,
    signatures: [],
  });
  await writer.add("release", rebuilt.id, release);
  const log = follow();
  await log.update();
  const kmsOf = await setup(t, ownersPolicies(t, of), { log });
  const bundle = rebuilt.bundle(release, of.manifest, { rebuilds: [same] });
  ok((await ask(kmsOf, { of, bundle })).key);
  await writer.add("rebuild", rebuilt.id, rebuilt.rebuild(release, "00".repeat(32), rebuilder));
  await log.update();
  equal((await ask(kmsOf, { of, bundle })).code, "rebuild/differs");
});

test("owners of before sign no second generation beside the one that is logged, or was seen first", async (t) => {
  const { writer, follow, kmsWith, asks } = await logged(t);
  const [a, b, c] = [loggers.a, loggers.b, loggers.c];
  // The keys a and b were stolen, and replaced.
  const next = loggers.rotation({ owners: keysOf(1, c) });
  // Who has them signs another generation 1: his own, and without a log.
  const other = loggers.rotation({ owners: keysOf(2, a, b), log: null });
  const by = { generation: 1, release: 2, previous: hashOf(l1.payload) };
  const stolen = loggers.release(loggedSubjects, by, [a, b]);
  const changes = { generations: [other] };
  await writer.add("identity", loggers.id, next);
  const log = follow();
  await log.update();
  equal((await asks(await kmsWith(log), stolen, changes)).code, "identity/chain");
  // A KMS without a log believes the first that it sees.
  const alone = await setup(t, ownersPolicies(t, machine));
  const fork = (name: string) => owners.rotation({ owners: keysOf(2, owners.a, owners.b, signer(name)) });
  const second = owners.release(subjects, { ...by, previous: hashOf(first.payload) }, [owners.a, owners.b]);
  ok((await ask(alone, { bundle: bundleOf(second, { generations: [fork("x")] }) })).key);
  equal(
    (await ask(alone, { bundle: bundleOf(second, { generations: [fork("y")] }) })).code,
    "identity/chain",
  );
  ok((await ask(alone, { bundle: bundleOf(second, { generations: [fork("x")] }) })).key);
});

test("a log that answers slowly holds nothing up; until it was read there are no keys", async (t) => {
  const { directory, follow, kmsWith, asks } = await logged(t);
  const inner = openLogDirectory(directory);
  const { promise, resolve } = Promise.withResolvers<void>();
  const source: LogSource = {
    name: "slow",
    read: async (path, limit) => (await promise, inner.read(path, limit)),
  };
  const log = follow(inMemory(), source);
  equal(await log.updateWithin(20), false);
  equal((await asks(await kmsWith(log), l1)).code, "log/age");
  resolve();
  equal(await log.updateWithin(60_000), true);
  ok((await asks(await kmsWith(log), l1)).key);
});

test("an age of its own in the policy", async (t) => {
  const { clock, follow, kmsWith, asks } = await logged(t, { maximumAge: 60 });
  const log = follow();
  await log.update();
  clock.ms = now + 61_000;
  equal((await asks(await kmsWith(log), l1)).code, "log/age");
});

test("a log that forks, shrinks or cannot be read changes nothing, in a new process neither", async (t) => {
  const { directory, writer, follow, kmsWith, asks } = await logged(t);
  const yesterday = directoryOf(t);
  cpSync(directory, yesterday, { recursive: true });
  await writer.add("release", loggers.id, l2);
  const kept = inMemory();
  const log = follow(kept);
  equal(await log.update(), true);
  const kmsOf = await kmsWith(log);
  rmSync(directory, { recursive: true });
  cpSync(yesterday, directory, { recursive: true });
  equal(await log.update(), false);
  equal((await asks(kmsOf, l1)).code, "release/below-minimum");
  const later = follow(kept);
  equal(await later.update(), false);
  equal((await asks(await kmsWith(later), l1)).code, "log/age");
  // Of the same size, another release.
  const forked = await LogWriter.open(directory, logKey);
  const twin = loggers.release(loggedSubjects, { release: 2, previous: hashOf(l1.payload), notes: "twin" });
  await forked.add("release", loggers.id, twin);
  equal(await log.update(), false);
  equal((await asks(kmsOf, twin)).code, "release/previous");
});

test("a new process goes on from what the one before it read, for as long as it wants the same applications", async (t) => {
  const { directory, writer, follow, kmsWith, asks } = await logged(t);
  const store = await storeOf(t);
  const kept = followingRows(store, () => now);
  const inner = openLogDirectory(directory);
  const read: string[] = [];
  const source: LogSource = {
    name: "log",
    read: (path, limit) => (read.push(path), inner.read(path, limit)),
  };
  const process = async (ids: string[] | undefined): Promise<{ log: FollowedLog; envelopes: number }> => {
    const log = follow(kept, source);
    if (ids !== undefined) log.want(new Set(ids));
    read.length = 0;
    equal(await log.update(), true);
    return { log, envelopes: read.filter((path) => path.startsWith("envelope/")).length };
  };
  equal((await process([loggers.id])).envelopes, 2);
  const { sequence } = store.head;
  equal((await process([loggers.id])).envelopes, 0);
  equal(store.head.sequence, sequence);
  await writer.add("release", loggers.id, l2);
  const next = await process([loggers.id]);
  equal(next.envelopes, 1);
  equal((await asks(await kmsWith(next.log), l1)).code, "release/below-minimum");
  ok((await asks(await kmsWith(next.log), l2)).key);
  // Another application beside it: its past is in the whole log.
  equal((await process([loggers.id, owners.id])).envelopes, 3);
  equal((await process([])).envelopes, 0);
  equal((await process([loggers.id])).envelopes, 3);
});

test("what the process before did not keep whole is kept by the next one, though the log has not grown", async (t) => {
  const { directory, writer, follow } = await logged(t);
  await writer.add("identity", owners.id, {
    payload: owners.first,
    payloadType: identityPayloadType,
    signatures: [],
  });
  const store = await storeOf(t);
  const inner = openLogDirectory(directory);
  let envelopes = 0;
  const source: LogSource = {
    name: "log",
    read: (path, limit) => {
      if (path.startsWith("envelope/")) envelopes += 1;
      return inner.read(path, limit);
    },
  };
  // All applications, each in a commit of its own.
  const process = () =>
    follow(
      followingRows(store, () => now, 1),
      source,
    );
  const commit = store.commit.bind(store);
  let commits = 0;
  store.commit = (change) => {
    if (++commits === 2) throw new Error("the power is gone");
    return commit(change);
  };
  equal(await process().update(), false);
  equal(commits, 2);
  store.commit = commit;
  equal(await process().update(), true);
  envelopes = 0;
  equal(await process().update(), true);
  equal(envelopes, 0);
});

test("without a followed log the bundle proves that a release is logged, by the identity's own policy", async (t) => {
  const { directory, asks, writer } = await logged(t);
  const source = openLogDirectory(directory);
  const policy = readTrustPolicy(logPolicy);
  const following = await followLog(source, policy, { now });
  const proof = await proveRelease(source, following, loggers.id, hashOf(l1.payload));
  const kmsOf = await setup(t, ownersPolicies(t, loggedMachine));
  ok((await asks(kmsOf, l1, { proof })).key);
  equal((await asks(kmsOf, l1)).code, "log/proof");
  equal((await asks(kmsOf, l2, { proof })).code, "log/proof");
  equal((await asks(kmsOf, l1, { proof: { ...proof, index: 0 } })).code, "log/proof");
  const alone = proof.checkpoint
    .split("\n")
    .filter((line) => !line.includes("w.example"))
    .join("\n");
  equal((await asks(kmsOf, l1, { proof: { ...proof, checkpoint: alone } })).code, "log/quorum");
  // The cosignature of another checkpoint under this one.
  const cosignature = proof.checkpoint.split("\n").find((line) => line.includes("w.example"))!;
  await writer.add("release", loggers.id, l2);
  const next = readFileSync(join(directory, "committed"), "utf8");
  equal(
    (await asks(kmsOf, l1, { proof: { ...proof, checkpoint: `${next}${cosignature}\n` } })).code,
    "note/signature",
  );
});
