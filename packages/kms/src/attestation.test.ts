// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { freeTcpPort } from "@caisson/host/ports";
import { generateSealingKey } from "@caisson/protocol/hpke";
import { serveCollateral } from "@caisson/simulated/collateral-server";
import { readPolicy } from "@caisson/verify";
import { releaseJudge } from "@caisson/verify/releases";
import fc from "fast-check";
import { askKms, attestationNonce, judgeKms } from "./attestation.ts";
import { checkGiver, type GuestKmsOptions, startGuestKms } from "./guest.ts";
import { dataFiles, openRootSecret } from "./root-secret.ts";
import { passShare, readShares } from "./shares.ts";
import { openLogStore } from "./store/open.ts";
import {
  admitReplicas,
  altered,
  evidenceOver,
  guestSocket,
  machine,
  now,
  owners,
  policy,
  release,
} from "./testing/guest-socket.ts";

const kmsVersion = "caisson/kms-attestation/v1";
const attestation = (of: Uint8Array, evidence: object) =>
  ({ version: kmsVersion, key: of.toHex(), evidence }) as const;
const identity = new Uint8Array(32).fill(7);
const nonce = new Uint8Array(32).fill(9);
const judgement = { policy: readPolicy(policy), now: new Date(now), releases: releaseJudge() };

async function judged(change: { provider?: string; nonce?: Uint8Array; as?: Uint8Array; td?: object } = {}) {
  const bound = attestationNonce(kmsVersion, change.nonce ?? nonce, identity);
  const evidence = await evidenceOver(bound, change.provider, change.td);
  const document = attestation(change.as ?? identity, evidence);
  return judgeKms(new TextEncoder().encode(JSON.stringify(document)), nonce, judgement);
}

test("a KMS in a released guest is accepted: the first, and one that joined itself", async () => {
  const first = await judged();
  deepEqual([first.report.codes, first.first, first.key], [[], true, identity.toHex()]);
  const second = await judged({ provider: identity.toHex() });
  deepEqual([second.report.codes, second.first], [[], false]);
});

for (const { name, change, code } of [
  { name: "that joined another KMS", change: { provider: "11".repeat(32) }, code: "keys/key-provider" },
  {
    name: "that answers an older nonce",
    change: { nonce: new Uint8Array(32) },
    code: "report-data/nonce",
  },
  {
    name: "that shows another's evidence as its own",
    change: { as: new Uint8Array(32).fill(8) },
    code: "report-data/nonce",
  },
  { name: "of an image that was not released", change: { td: altered }, code: "release/subject" },
]) {
  test(`no KMS ${name}`, async () => {
    const { report } = await judged(change);
    equal(report.verdict, "rejected");
    ok((report.codes as string[]).includes(code), report.codes.join());
  });
}

test("what is not an attestation is refused by name, wherever it was cut or altered", async () => {
  const text = JSON.stringify(
    attestation(identity, await evidenceOver(attestationNonce(kmsVersion, nonce, identity))),
  );
  const bytes = new TextEncoder().encode(text);
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 1), async (end) => {
      await rejects(judgeKms(bytes.subarray(0, end), nonce, judgement), { code: "kms/attestation" });
    }),
    { numRuns: 50 },
  );
  for (const wrong of ["[]", "null", '{"version":"x"}', text.replace(identity.toHex(), "zz".repeat(32))]) {
    const asked = judgeKms(new TextEncoder().encode(wrong), nonce, judgement);
    await rejects(asked, { code: "kms/attestation" });
  }
});

test("a giver is the KMS that was measured, in a guest that is accepted", async () => {
  checkGiver(await judged(), identity.toHex(), "http://giver");
  const [other, rejected] = [await judged(), await judged({ td: altered })];
  throws(() => checkGiver(other, "11".repeat(32), "http://giver"), { code: "kms/giver" });
  throws(() => checkGiver(rejected, identity.toHex(), "http://giver"), { code: "kms/giver" });
});

/** The KMS that opens a guest's volume. */
const onVolume = { url: "http://127.0.0.1:1", identity: "11".repeat(32) };

test("a KMS on a volume keeps its root secret there, and says which KMS opens the volume", async (t) => {
  const upstream = onVolume.identity;
  const guest = await guestSocket(t, { kms: onVolume });
  const start = (more: Partial<GuestKmsOptions> = {}) => guest.start(0, { persistent: true, ...more });
  // No identity that the host could take back.
  guest.checkpoints.away = true;
  await rejects(start(), { code: "kms/guest" });
  guest.checkpoints.away = false;
  const kms = await start();
  ok(guest.checkpoints.number >= 2, "the secret, and the first operators");
  const secret = readFileSync(join(guest.data, dataFiles.rootSecret));
  const open = await askKms(kms.url, judgement);
  deepEqual(open.report.codes, ["keys/key-provider"]);
  const named = { ...judgement.policy, keyProviders: [{ name: "kms", id: upstream }] as const };
  const shown = await askKms(kms.url, { ...judgement, policy: readPolicy(named) });
  deepEqual([shown.report.codes, shown.first, shown.upstream], [[], false, upstream]);
  equal((await fetch(new URL("/v1/root", kms.url))).status, 404, "it gives its root secret to nobody");
  await kms.close();
  const again = await start();
  equal(again.identityKey, kms.identityKey);
  deepEqual(readFileSync(join(guest.data, dataFiles.rootSecret)), secret);
});

test("a KMS on a volume has no database and no replicas, and needs another KMS", async (t) => {
  const guest = await guestSocket(t, { kms: onVolume });
  const refused = { code: "kms/guest" };
  await rejects(guest.start(0, { persistent: true, databases: ["postgresql://db/kms"] }), refused);
  await rejects(guest.start(0, { persistent: true, peers: ["http://replica"] }), refused);
  const alone = await guestSocket(t, {});
  await rejects(alone.start(0, { persistent: true }), { ...refused, message: /no KMS opens a volume/ });
  throws(() => openRootSecret(alone.data, { development: true }), { code: "root-secret/missing" });
});

test("a guest without a key provider makes the root secret, and gives it to nobody without a policy", async (t) => {
  const first = await guestSocket(t, {});
  const kms = await first.start();
  equal(readFileSync(join(first.data, dataFiles.rootSecret)).length, 32);
  const shown = await askKms(kms.url, judgement);
  deepEqual([shown.report.codes, shown.first, shown.key], [[], true, kms.identityKey]);
  // It has no policy for its replicas yet: judged and accepted, and then it gives nothing.
  const replica = await guestSocket(t, { kms: { url: kms.url, identity: kms.identityKey } });
  await rejects(replica.start(), { code: "kms/guest", message: /app\/unknown/ });
  throws(() => openRootSecret(replica.data, { development: true }), { code: "root-secret/missing" });
});

test("a KMS in a guest fetches collateral from the source that it names, and needs none of a guest's", async (t) => {
  const { collateral } = machine.booted("00".repeat(32));
  const server = await serveCollateral({ "CA1550000000/standard": collateral! });
  t.after(() => server.close());
  const guest = await guestSocket(t, {});
  await rejects(guest.start(0, { collateralSource: "ftp://nobody" }), { code: "collateral/source" });
  mkdirSync(join(guest.files, "collateral"));
  await rejects(guest.start(0, { collateralSource: server.url }), { code: "collateral/duplicate" });
  rmSync(join(guest.files, "collateral"), { recursive: true });
  const kms = await guest.start(0, { collateralSource: server.url });
  equal(await admitReplicas(kms), 200);
  const state = { ...machine.booted(kms.identityKey), release, collateral: undefined };
  const keys = await requestKeys({
    post: httpPost(kms.url, 10_000),
    identityKey: Uint8Array.fromHex(kms.identityKey),
    evidence: (bound) => machine.evidence(state, bound),
    now: Date.now,
    toleranceMs: 5000,
  });
  equal(keys.app, owners.id);
  ok(server.asked.length > 0);
  // A replica judges by it whom it joins, before it serves anybody.
  server.asked.length = 0;
  const replica = await guestSocket(t, { kms: { url: kms.url, identity: kms.identityKey } });
  const joined = await replica.start(0, { collateralSource: server.url });
  equal(joined.identityKey, kms.identityKey);
  ok(server.asked.length > 0);
});

test("nothing is taken from a KMS that is not in such a guest", async (t) => {
  const other = await (await guestSocket(t, { td: altered })).start();
  const replica = await guestSocket(t, { kms: { url: other.url, identity: other.identityKey } });
  await rejects(replica.start(), { code: "kms/giver" });
  throws(() => openRootSecret(replica.data, { development: true }), { code: "root-secret/missing" });
  const pretended = await guestSocket(t, { kms: { url: other.url, identity: "22".repeat(32) } });
  await rejects(pretended.start(), { code: "kms/giver" });
});

/** A keeper's share for the guest at `url`, or another text, as it is sent; its answer. */
async function give(url: string, share: object | string): Promise<[number, string | undefined]> {
  const body = typeof share === "string" ? share : JSON.stringify(share);
  const answer = await fetch(new URL("/v1/shares", url), { method: "POST", body });
  const said = (await answer.json()) as { error?: { code: string }; given?: number };
  return [answer.status, said.error?.code ?? String(said.given)];
}

/** The address of a guest that recovers, once it answers. */
async function recovering(port: number): Promise<string> {
  const url = `http://127.0.0.1:${port}`;
  for (const until = performance.now() + 60_000; performance.now() < until; ) {
    const answered = await fetch(url).then(
      () => true,
      () => new Promise((resolve) => setTimeout(resolve, 50, false)),
    );
    if (answered) return url;
  }
  throw new Error("it does not answer");
}

/** A KMS of two of three keepers' that is gone, and another guest of its image, with its shares. */
async function lostToKeepers(t: TestContext, about: Parameters<typeof guestSocket>[1], persistent = false) {
  const [ada, bob, cleo] = [generateSealingKey(), generateSealingKey(), generateSealingKey()];
  const lost = await guestSocket(t, about);
  const named = Object.entries({ ada, bob, cleo }).map(([name, { publicKey }]) => ({
    name,
    key: publicKey.toHex(),
  }));
  writeFileSync(join(lost.files, "keepers.json"), JSON.stringify({ threshold: 2, keepers: named }));
  const before = await lost.start(0, { persistent });
  const published = await (await fetch(new URL("/v1/shares", before.url))).text();
  await before.close();
  const found = await guestSocket(t, about);
  writeFileSync(join(found.files, "shares.json"), published);
  return { before, lost, found, document: readShares(published), ada, bob, cleo };
}

const rootIn = (data: string) => readFileSync(join(data, dataFiles.rootSecret));

test("keepers whose guests are all gone recover the root secret into a new one, and nobody else can", async (t) => {
  const { before, lost, found, document, ada, bob, cleo } = await lostToKeepers(t, {});
  const port = await freeTcpPort();
  const started = found.start(port);
  const url = await recovering(port);
  const judgedGuest = await askKms(url, judgement, "caisson/kms-recovery/v1");
  deepEqual([judgedGuest.report.codes, judgedGuest.first], [[], true]);
  const share = (name: string, own: typeof ada, to = judgedGuest.key) => passShare(document, name, own, to);
  // It is not a KMS that serves, and takes nothing but what the KMS made, for itself.
  await rejects(askKms(url, judgement), { code: "kms/attestation" });
  deepEqual(await give(url, "{}"), [400, "shares/malformed"]);
  deepEqual(await give(url, "x".repeat(9000)), [413, "http/too-large"]);
  deepEqual(await give(url, share("ada", ada, cleo.publicKey.toHex())), [400, "shares/wrong"]);
  deepEqual(await give(url, { ...share("ada", ada), name: "bob" }), [400, "shares/wrong"]);
  deepEqual(await give(url, share("ada", ada)), [200, "1"]);
  deepEqual(await give(url, share("ada", ada)), [200, "1"]);
  deepEqual(await give(url, share("bob", bob)), [200, "2"]);
  const after = await started;
  equal(after.identityKey, before.identityKey);
  deepEqual(rootIn(found.data), rootIn(lost.data));
});

test("keepers recover a KMS whose volume is lost onto a new one, once; what it opens is marked as restored", async (t) => {
  const { before, lost, found, document, ada, cleo } = await lostToKeepers(t, { kms: onVolume }, true);
  const port = await freeTcpPort();
  const started = found.start(port, { persistent: true, restoredBefore: 2 });
  const url = await recovering(port);
  // Who opens the new volume is for the keepers to name.
  const open = await askKms(url, judgement, "caisson/kms-recovery/v1");
  deepEqual(open.report.codes, ["keys/key-provider"]);
  const keyProviders = [{ name: "kms", id: onVolume.identity }];
  const named = { ...judgement, policy: readPolicy({ ...policy, keyProviders }) };
  const judgedGuest = await askKms(url, named, "caisson/kms-recovery/v1");
  deepEqual([judgedGuest.report.codes, judgedGuest.upstream], [[], onVolume.identity]);
  equal(found.checkpoints.number, 0, "nothing is there that could be kept");
  for (const [name, own] of Object.entries({ ada, cleo })) {
    equal((await give(url, passShare(document, name, own, judgedGuest.key)))[0], 200);
  }
  const after = await started;
  ok(found.checkpoints.number >= 1);
  equal(after.identityKey, before.identityKey);
  deepEqual(rootIn(found.data), rootIn(lost.data));
  await after.close();
  const store = await openLogStore(found.data, [], openRootSecret(found.data, { development: true }));
  const [mark] = await store.read([{ table: "volumes", key: "restored" }]);
  match(new TextDecoder().decode(mark!.value), /"restores":3}/);
  await store.close();
  // It starts again without its keepers; on another KMS's volume it does not.
  const again = await found.start(0, { persistent: true });
  equal(again.identityKey, before.identityKey);
  await again.close();
  const other = await guestSocket(t, { kms: onVolume });
  await (await other.start(0, { persistent: true })).close();
  writeFileSync(join(other.files, "shares.json"), JSON.stringify(document));
  await rejects(other.start(0, { persistent: true }), { code: "root-secret/exists" });
});

test("a guest that joined another KMS is not one to give shares to", async () => {
  const bound = attestationNonce("caisson/kms-recovery/v1", nonce, identity);
  const evidence = await evidenceOver(bound, identity.toHex());
  const document = { version: "caisson/kms-recovery/v1", key: identity.toHex(), evidence };
  const bytes = new TextEncoder().encode(JSON.stringify(document));
  const { report } = await judgeKms(bytes, nonce, judgement, "caisson/kms-recovery/v1");
  deepEqual(report.codes, ["keys/key-provider"]);
});

test("an image says which guests are replicas: its own application's", async (t) => {
  const guest = await guestSocket(t, { kms: { url: "http://127.0.0.1:9", identity: "22".repeat(32) } });
  writeFileSync(join(guest.files, "peers.json"), JSON.stringify(machine.policyFile().policy));
  await rejects(guest.start(), { code: "policy/malformed" });
  rmSync(join(guest.files, "peers.json"));
  await rejects(guest.start(), { code: "policy/none" });
});

test("outside of a guest it says so", async () => {
  const options = { files: "/nowhere", data: "/nowhere", databases: [], host: "127.0.0.1", port: 0 };
  await rejects(startGuestKms({ ...options, socket: "/nowhere/guest.sock" }), { code: "kms/guest" });
});
