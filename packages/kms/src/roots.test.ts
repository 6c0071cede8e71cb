// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notDeepEqual, rejects, throws } from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { deriveApplicationKey } from "@caisson/protocol/derivation";
import { writeEnvelope } from "@caisson/releases";
import { signedBy, signer } from "@caisson/releases/testing/signers";
import { type OperatorRequest, operatorEnvelope } from "./operator-request.ts";
import { openRoot, rootKeyName, takeRoot } from "./root-handover.ts";
import { createRootSecret, dataFiles, openRootSecret } from "./root-secret.ts";
import { mostRoots, readRoots, rotate, rotateRoot } from "./roots.ts";
import { startKms } from "./server.ts";
import { openLogStore } from "./store/open.ts";
import { readOnlySqlite } from "./store/sqlite.ts";
import { verifyReleaseLog } from "./store/verify.ts";
import { Machine } from "./testing/machine.ts";

const now = Date.now();
const day = 24 * 3600 * 1000;
const machine = new Machine(now);
const [ada, bob] = [signer("ada"), signer("bob")];

/** A KMS whose clock stands where `clock.now` says; its policies are files, or its operators'. */
async function setup(t: TestContext, { operators = false } = {}) {
  const place = mkdtempSync(join(tmpdir(), "caisson-kms-roots-"));
  const [data, policies] = [join(place, "data"), join(place, "policies")];
  mkdirSync(policies);
  createRootSecret(data, { development: true });
  const clock = { now };
  const name = (root?: number) =>
    writeFileSync(
      join(policies, "app.json"),
      JSON.stringify({ ...machine.policyFile({ secureTime: "any" }), ...(root && { root }) }),
    );
  name();
  const options = { data, policies, host: "127.0.0.1", port: 0, development: true, ownApp: machine.app };
  const kms = await startKms({
    ...options,
    now: () => clock.now,
    ...(operators && { operators: { keys: [ada.publicKey, bob.publicKey], threshold: 2 } }),
  });
  t.after(async () => {
    await kms.close();
    rmSync(place, { recursive: true });
  });
  const secret = openRootSecret(data, { development: true });
  /** The application's key, at a time. */
  const key = async (at = clock.now) => {
    clock.now = at;
    const { applicationKey } = await requestKeys({
      post: httpPost(kms.url, 10_000),
      identityKey: Uint8Array.fromHex(kms.identityKey),
      evidence: (reportData) => machine.evidence(machine.booted(kms.identityKey), reportData),
      now: () => clock.now,
      toleranceMs: 5000,
    });
    return applicationKey;
  };
  /** What a policy names, from now on. */
  const use = async (root: number) => {
    name(root);
    equal(await kms.reload(), true);
  };
  const withStore = async <T>(what: (store: Awaited<ReturnType<typeof openLogStore>>) => Promise<T>) => {
    const store = await openLogStore(data, [], secret);
    try {
      return await what(store);
    } finally {
      await store.close();
    }
  };
  return { kms, clock, secret, key, use, data, withStore };
}

test("old and new derive while both are in force, and each policy says which", async (t) => {
  const { kms, key, use, withStore, data, secret } = await setup(t);
  const before = await key();
  const rotation = { from: now + day, until: now + 10 * day };
  deepEqual(await withStore((store) => rotateRoot(store, rotation, now)), [
    { number: 1, from: 0, until: now + 10 * day },
    { number: 2, from: now + day, until: null },
  ]);
  equal(await kms.reload(), true);
  // A day that comes changes nobody's key.
  deepEqual(await key(now + 2 * day), before);
  await use(2);
  await rejects(key(now + day / 2), { denial: "root/not-yet" });
  const after = await key(now + 2 * day);
  notDeepEqual(after, before);
  // It goes on after the first has ended, and so does the handover to replicas, whose keys follow from it.
  deepEqual(await key(now + 20 * day), after);
  const own = deriveApplicationKey(after, rootKeyName.path, rootKeyName.purpose);
  deepEqual(await takeRoot(kms.url, own, kms.identityKey), secret);
  await use(1);
  deepEqual(await key(now + 9 * day), before);
  await rejects(key(now + 10 * day), { denial: "root/retired" });
  await use(3);
  await rejects(key(), { denial: "root/unknown" });
  const reasons: string[] = [];
  await verifyReleaseLog(readOnlySqlite(join(data, dataFiles.releaseLog)), {}, (_, { outcome, reason }) => {
    if (outcome === "changed") reasons.push(reason);
  });
  const [from, until] = [new Date(rotation.from), new Date(rotation.until)].map((date) => date.toISOString());
  deepEqual(reasons, [`root/rotate 2 from ${from}, 1 until ${until}`]);
});

test("a root is random, and what anybody may know of it says nothing of its secret", async (t) => {
  const { kms, withStore, secret } = await setup(t);
  await withStore((store) => rotateRoot(store, { from: now, until: now + day }, now));
  const answer = await (await fetch(new URL("/v1/roots", kms.url))).text();
  deepEqual(JSON.parse(answer), {
    version: 1,
    roots: [
      { number: 1, from: 0, until: now + day },
      { number: 2, from: now, until: null },
    ],
  });
  equal(answer.includes(secret.toHex()), false);
});

const dated = (from: number, until: number) => ({ from, until });
for (const { name, rotation } of [
  { name: "begins in the past", rotation: dated(now - 1, now + day) },
  { name: "leaves no overlap", rotation: dated(now + day, now + day) },
  { name: "ends the old one before the new one begins", rotation: dated(now + 2 * day, now + day) },
]) {
  test(`no rotation that ${name}`, () => {
    throws(() => rotate(undefined, rotation, now), { code: "root/dates" });
  });
}

test("roots come in their order, and not without end", async (t) => {
  const { withStore } = await setup(t);
  await withStore(async (store) => {
    await rotateRoot(store, dated(now + 2 * day, now + 3 * day), now);
    await rejects(rotateRoot(store, dated(now + day, now + 9 * day), now), { code: "root/dates" });
    for (let number = 3; number <= mostRoots; number++) {
      await rotateRoot(store, dated(now + number * day, now + (number + 1) * day), now);
    }
    equal((await readRoots(store)).roots.length, mostRoots);
    const more = rotateRoot(store, dated(now + 100 * day, now + 101 * day), now);
    await rejects(more, { code: "root/dates" });
  });
});

test("operators sign a rotation, which works once", async (t) => {
  const { kms, withStore } = await setup(t, { operators: true });
  const asked: OperatorRequest = {
    version: "caisson/kms-request/v1",
    action: "root/rotate",
    kms: kms.identityKey,
    replaces: 0,
    expires: now + day,
    from: now + day,
    until: now + 2 * day,
  };
  const send = async (...by: (typeof ada)[]) => {
    const body = JSON.stringify(writeEnvelope(signedBy(operatorEnvelope(asked), ...by)));
    const answer = await fetch(new URL("/v1/admin", kms.url), { method: "POST", body });
    return [answer.status, ((await answer.json()) as { error?: { code: string } }).error?.code];
  };
  deepEqual(await send(ada), [403, "operators/signatures"]);
  deepEqual(await send(ada, bob), [200, undefined]);
  deepEqual(await send(ada, bob), [409, "operators/conflict"]);
  equal((await withStore(readRoots)).roots.length, 2);
});

test("a replica opens what an older root sealed only as that root's", async (t) => {
  const { kms, key, use, withStore } = await setup(t);
  const before = deriveApplicationKey(await key(), rootKeyName.path, rootKeyName.purpose);
  await withStore((store) => rotateRoot(store, dated(now, now + day), now));
  await use(2);
  const document = await (await fetch(new URL("/v1/root", kms.url))).json();
  throws(() => openRoot(document, before, kms.identityKey), { code: "root-secret/sealed" });
});
