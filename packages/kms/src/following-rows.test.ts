// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import test, { type TestContext } from "node:test";
import {
  type Following,
  followLog,
  LogWriter,
  noteSigner,
  openLogDirectory,
  readFollowing,
  writeFollowing,
} from "@caisson/log";
import { identityPayloadType, readTrustPolicy } from "@caisson/releases";
import { hashOf, Owners } from "@caisson/releases/testing/owners";
import fc from "fast-check";
import { followingRows } from "./following-rows.ts";
import type { Commit } from "./store/store.ts";
import { directoryOf } from "./testing/context.ts";
import { now, storeOf } from "./testing/owned.ts";

const key = await noteSigner("log.example", "note", generateKeyPairSync("ed25519").privateKey);
const policy = readTrustPolicy(`log ${key.verifier}\nquorum none\n`);
const subjects = ["aa".repeat(32), "bb".repeat(32)] as const;
/** Two of a shard, and four of others. */
const applications = sharingOne(Array.from({ length: 60 }, (_, i) => new Owners(now, `owners-${i}`)));
const ids = applications.map(({ id }) => id);

function sharingOne(some: readonly Owners[]): Owners[] {
  const shards = Map.groupBy(some, ({ id }) => id.slice(0, 2))
    .values()
    .toArray();
  const pair = shards.find((shard) => shard.length > 1)!.slice(0, 2);
  return [
    ...pair,
    ...shards
      .filter((shard) => shard.length === 1)
      .flat()
      .slice(0, 4),
  ];
}

/** A log of all of them, and what adds another release of one; a store, and the rows of each commit in it. */
async function setup(t: TestContext) {
  const directory = directoryOf(t);
  const writer = await LogWriter.open(directory, key);
  const released = new Map<string, { release: number; previous: string | null }>();
  const release = async (owners: Owners) => {
    const { release, previous } = released.get(owners.id) ?? { release: 1, previous: null };
    const envelope = owners.release(subjects, { release, previous });
    await writer.add("release", owners.id, envelope);
    released.set(owners.id, { release: release + 1, previous: hashOf(envelope.payload) });
  };
  for (const { id, first } of applications) {
    await writer.add("identity", id, { payload: first, payloadType: identityPayloadType, signatures: [] });
  }
  const follow = (wanted: ReadonlySet<string> | undefined, before?: Following) =>
    followLog(openLogDirectory(directory), policy, { now, wanted, ...(before !== undefined && { before }) });
  const store = await storeOf(t);
  const written: string[][] = [];
  const commit = store.commit.bind(store);
  store.commit = (change: Commit) => {
    written.push((change.rows ?? []).map((row) => row.key));
    return commit(change);
  };
  return { follow, release, store, written };
}

/** What is kept, in one order. */
const inOrder = (following: Following) => {
  const { wanted, applications, ...rest } = writeFollowing(following) as Record<string, object[] | null>;
  const texts = applications!.map((one) => JSON.stringify(one)).sort();
  return { ...rest, wanted: wanted?.toSorted() ?? null, applications: texts };
};

test("of a log that grew the rows of what is new there are written, and nothing of other applications", async (t) => {
  const { follow, release, store, written } = await setup(t);
  const rows = followingRows(store, () => now);
  const first = await follow(undefined);
  await rows.write(first, "first");
  const shards = new Set(ids.map((id) => `applications-${id.slice(0, 2)}`));
  deepEqual(new Set(written.at(-1)), new Set(["checkpoint", "tree", ...shards]));
  await release(applications[2]!);
  const second = await follow(undefined, first);
  await rows.write(second, "second");
  deepEqual(written.at(-1), ["checkpoint", "tree", `applications-${ids[2]!.slice(0, 2)}`]);
  // A new process has other objects, which say the same.
  const kept = await readFollowing(await rows.readFollowing(), policy, now);
  await release(applications[4]!);
  await followingRows(store, () => now).write(await follow(undefined, kept), "third");
  deepEqual(written.at(-1), ["checkpoint", "tree", `applications-${ids[4]!.slice(0, 2)}`]);
});

test("what another replica writes while it is read is read anew", async (t) => {
  const { follow, release, store } = await setup(t);
  const rows = followingRows(store, () => now);
  const first = await follow(undefined);
  await rows.write(first, "first");
  await release(applications[2]!);
  const second = await follow(undefined, first);
  const read = store.read.bind(store);
  let between: (() => Promise<void>) | undefined = () => rows.write(second, "second");
  store.read = async (names) => {
    const write = names.some(({ key }) => key.startsWith("applications-")) ? between : undefined;
    if (write !== undefined) between = undefined;
    await write?.();
    return read(names);
  };
  const kept = await readFollowing(await rows.readFollowing(), policy, now);
  deepEqual(inOrder(kept), inOrder(second));
});

test("what is read back is what one reading said, whichever replicas follow which applications", async (t) => {
  const choice = fc.option(fc.uniqueArray(fc.constantFrom(...ids)), { nil: undefined });
  const step = fc.record({ replica: fc.nat(1), wanted: choice, release: fc.nat(ids.length - 1) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 6 }), async (steps) => {
      const { follow, release, store } = await setup(t);
      const replicas = [0, 1].map(() => ({
        rows: followingRows(store, () => now),
        before: undefined as Following | undefined,
      }));
      for (const { replica, wanted, release: which } of steps) {
        const one = replicas[replica]!;
        await release(applications[which]!);
        const following = await follow(wanted && new Set(wanted), one.before);
        await one.rows.write(following, "followed");
        one.before = following;
        for (const { rows } of replicas) {
          equal(await rows.readCheckpoint(), following.note);
          const kept = await readFollowing(await rows.readFollowing(), policy, now);
          deepEqual(inOrder(kept), inOrder(following));
        }
      }
    }),
    { numRuns: 15 },
  );
});

test("what is too much for one commit is written in several, whatever ends between two of them", async (t) => {
  const first = await setup(t);
  const whole = await first.follow(undefined);
  await followingRows(first.store, () => now, 1).write(whole, "whole");
  const shards = new Set(ids.map((id) => `applications-${id.slice(0, 2)}`));
  equal(first.written.length, shards.size);
  const written = first.written.map((keys) => keys.filter((key) => key.startsWith("applications-")));
  ok(written.every(({ length }) => length === 1));
  deepEqual(new Set(written.flat()), shards);
  const kept = await readFollowing(await followingRows(first.store, () => now).readFollowing(), policy, now);
  deepEqual(inOrder(kept), inOrder(whole));

  for (let commits = 0; commits < shards.size; commits++) {
    const { follow, release, store, written } = await setup(t);
    const commit = store.commit.bind(store);
    store.commit = (change) => {
      if (written.length === commits) throw new Error("the power is gone");
      return commit(change);
    };
    const following = await follow(undefined);
    await rejects(followingRows(store, () => now, 1).write(following, "broken off"), /the power is gone/);
    store.commit = commit;
    const next = followingRows(store, () => now, 1);
    equal(await next.readFollowing(), undefined, "a part is not read back");
    equal(await next.readCheckpoint(), commits === 0 ? undefined : following.note);
    // Who reads the log again writes what is missing.
    written.length = 0;
    await next.write(await follow(undefined), "gone on");
    equal(written.length, shards.size - commits);
    deepEqual(
      inOrder(await readFollowing(await next.readFollowing(), policy, now)),
      inOrder(await follow(undefined)),
    );
    await release(applications[0]!);
    const grown = await follow(undefined, following);
    await next.write(grown, "grown");
    deepEqual(inOrder(await readFollowing(await next.readFollowing(), policy, now)), inOrder(grown));
  }
});

test("replicas that write what they read at once, in pieces, leave what one of them said, whole", async (t) => {
  const { follow, release, store } = await setup(t);
  const before = await follow(undefined);
  const [small, large, equalOne] = [0, 1, 2].map(() => followingRows(store, () => now, 1));
  await release(applications[1]!);
  const after = await follow(undefined, before);
  await Promise.all([
    small!.write(before, "small"),
    large!.write(after, "large"),
    equalOne!.write(after, "equal"),
  ]);
  equal(await small!.readCheckpoint(), after.note);
  deepEqual(inOrder(await readFollowing(await small!.readFollowing(), policy, now)), inOrder(after));
});
