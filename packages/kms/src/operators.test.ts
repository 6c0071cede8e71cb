// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { type Envelope, type PublicKey, signedBytes, writeEnvelope } from "@caisson/releases";
import fc from "fast-check";
import { type OperatorRequest, operatorEnvelope } from "./operator-request.ts";
import { Administration, type SignedReading } from "./operators.ts";
import { readOnlySqlite, sqlite } from "./store/sqlite.ts";
import { type Commit, openStore, type Store, storeKeys } from "./store/store.ts";
import { verifyReleaseLog } from "./store/verify.ts";
import { Machine } from "./testing/machine.ts";
import { VolumeBook } from "./volumes/book.ts";

const now = 1_790_000_000_000;
const keys = storeKeys(new Uint8Array(32).fill(1));
const kms = keys.identity.publicKey.toHex();
const machine = new Machine(now);

function operator(): { publicKey: PublicKey; sign: (envelope: Envelope) => Envelope } {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const key = publicKey.export({ format: "der", type: "spki" }).subarray(12).toString("hex");
  return {
    publicKey: { type: "ed25519", key },
    sign: (envelope) => ({
      ...envelope,
      signatures: [...envelope.signatures, new Uint8Array(sign(null, signedBytes(envelope), privateKey))],
    }),
  };
}

const [one, two, three, stranger] = [operator(), operator(), operator(), operator()];
const threeKeys = [one, two, three].map(({ publicKey }) => publicKey);
const policy = (changes = {}) => JSON.stringify({ ...machine.policyFile(), ...changes });

const common = { version: "caisson/kms-request/v1", kms, expires: now + 1000 } as const;
const handover = (to: PublicKey[], threshold: number): OperatorRequest => ({
  ...common,
  action: "operators/set",
  replaces: 1,
  operators: { keys: to, threshold },
});

function request(changes: Partial<OperatorRequest> = {}): OperatorRequest {
  const common = { version: "caisson/kms-request/v1", kms, expires: now + 1000, replaces: 0 } as const;
  return {
    ...common,
    action: "policy/set",
    app: machine.app,
    policy: policy(),
    ...changes,
  } as OperatorRequest;
}

type Manifests = ReturnType<SignedReading["manifests"]>;
const readingWith = (manifests: Manifests = new Map()): SignedReading => ({
  manifests: () => manifests,
  identityKey: kms,
  development: true,
});

const signed = (document: OperatorRequest, by = [one, two]) =>
  writeEnvelope(by.reduce((envelope, { sign }) => sign(envelope), operatorEnvelope(document)));

async function setup(t: TestContext) {
  const path = join(mkdtempSync(join(tmpdir(), "caisson-kms-operators-")), "log.sqlite");
  t.after(() => rmSync(join(path, ".."), { recursive: true }));
  const open = async () => {
    const store = await openStore(sqlite(path), keys);
    t.after(() => store.close());
    const reading = readingWith();
    return { store, administration: new Administration(store, reading, () => now) };
  };
  const { store, administration } = await open();
  equal(await administration.begin({ keys: threeKeys, threshold: 2 }), true);
  return { path, store, administration, open };
}

/** `count` applications, and what signs the policy of one of them in the place of its version `replaces`. */
function signedApps(administration: Administration, count: number) {
  const apps = Array.from({ length: count }, (_, i) => new Machine(now, `app ${i}`));
  const set = (i: number, replaces: number) => {
    const app = apps[i]!.app;
    const file = JSON.stringify({ ...apps[i]!.policyFile(), keyVersion: replaces + 1 });
    return administration.apply(signed(request({ app, policy: file, replaces })));
  };
  return { apps, set };
}

test("a replica that follows reads what changed, and no row grows with all applications", async (t) => {
  const { store, administration, open } = await setup(t);
  const { apps, set } = signedApps(administration, 40);
  for (const i of apps.keys()) await set(i, 0);
  const other = await open();
  const read: string[] = [];
  const reads = other.store.read.bind(other.store);
  other.store.read = (names) => {
    read.push(...names.map(({ key }) => key));
    return reads(names);
  };
  equal(await other.administration.refresh(), true);
  equal(other.administration.inForce.policies.size, 40);
  deepEqual(new Set(apps.map(({ app }) => app).filter((app) => !read.includes(app))), new Set());

  read.length = 0;
  await set(3, 1);
  await administration.apply(signed({ ...common, action: "policy/remove", app: apps[4]!.app, replaces: 1 }));
  equal(await other.administration.refresh(), true);
  const shards = new Set([3, 4].map((i) => `index-${apps[i]!.app.slice(0, 2)}`));
  deepEqual(new Set(read), new Set(["index", ...shards, apps[3]!.app]));
  const { policies } = other.administration.inForce;
  deepEqual(
    [policies.get(apps[3]!.app)?.keyVersion, policies.has(apps[4]!.app), policies.size],
    [2, false, 39],
  );
  // What a release compares names shards, of which there are 256 at most.
  const [index] = await store.read([{ table: "policies", key: "index" }]);
  for (const shard of Object.keys(JSON.parse(new TextDecoder().decode(index!.value))))
    match(shard, /^[0-9a-f]{2}$/);
});

test("a change that comes while another is followed is followed, too, and nothing else is read again", async (t) => {
  const { administration, open } = await setup(t);
  const { apps, set } = signedApps(administration, 20);
  for (const i of apps.keys()) await set(i, 0);
  const other = await open();
  await other.administration.refresh();

  await set(3, 1);
  const read: string[] = [];
  const reads = other.store.read.bind(other.store);
  other.store.read = async (names) => {
    // Its shard is of another version than the index that was read.
    if (names.some(({ key }) => key.startsWith("index-")) && read.length === 1) await set(3, 2);
    read.push(...names.map(({ key }) => key));
    return reads(names);
  };
  equal(await other.administration.refresh(), true);
  equal(other.administration.inForce.policies.get(apps[3]!.app)?.keyVersion, 3);
  const shard = `index-${apps[3]!.app.slice(0, 2)}`;
  deepEqual(read, ["index", shard, "index", shard, apps[3]!.app]);
});

test("what enough operators signed is in force, at another replica too, and in the log", async (t) => {
  const { path, administration, open } = await setup(t);
  const other = (await open()).administration;
  deepEqual(
    (await administration.apply(signed(request()))).signers,
    [one, two].map(({ publicKey }) => publicKey.key),
  );
  equal(administration.inForce.policies.get(machine.app)?.keyVersion, 1);
  equal(await other.refresh(), true);
  equal(await other.refresh(), false);
  equal(other.inForce.policies.get(machine.app)?.keyVersion, 1);
  deepEqual(await other.policyFile(machine.app), { version: 1, policy: policy() });

  await other.apply(signed(request({ replaces: 1, policy: policy({ keyVersion: 2 }) }), [two, three]));
  await administration.refresh();
  equal(administration.inForce.policies.get(machine.app)?.keyVersion, 2);
  await administration.apply(signed({ ...common, action: "policy/remove", app: machine.app, replaces: 2 }));
  equal(administration.inForce.policies.size, 0);
  equal(await administration.policyFile(machine.app), undefined);
  // What was removed can be set again; its row goes on counting.
  await administration.apply(signed(request({ replaces: 3 })));
  equal(administration.inForce.policies.size, 1);
  const reasons: string[] = [];
  await verifyReleaseLog(readOnlySqlite(path), {}, (_, { reason, app }) =>
    reasons.push(`${reason} ${app.toHex()}`),
  );
  const app = machine.app;
  deepEqual(reasons, [
    "operators/begin ",
    `policy/set ${app}`,
    `policy/set ${app}`,
    `policy/remove ${app}`,
    `policy/set ${app}`,
  ]);
});

test("a policy that cannot be read at one replica is left out there, and holds up no other", async (t) => {
  const { store, administration, open } = await setup(t);
  const out: string[] = [];
  const files = new Map();
  const leftOut = (app: string, { code }: { code: string }) => void out.push(`${app} ${code}`);
  const other = new Administration(store, { ...readingWith(files), leftOut }, () => now);
  const manifest = { name: "manifests/a.json", app: undefined, references: [] };
  const here = new Administration(
    (await open()).store,
    readingWith(new Map([["ab".repeat(32), manifest]])),
    () => now,
  );
  await here.refresh(true);
  const named = policy({ manifests: ["ab".repeat(32)] });
  await rejects(administration.apply(signed(request({ policy: named }))), { code: "policy/malformed" });
  await here.apply(signed(request({ policy: named })));
  const second = new Machine(now, "second");
  const policyOfSecond = JSON.stringify(second.policyFile());
  await here.apply(signed(request({ app: second.app, policy: policyOfSecond } as Partial<OperatorRequest>)));
  equal(await other.refresh(), true);
  deepEqual([...other.inForce.policies.apps()], [second.app]);
  deepEqual(other.inForce.guard, here.inForce.guard);
  deepEqual(out, [`${machine.app} policy/malformed`]);
  // Whoever says that files are done is told; then they are there.
  await rejects(other.refresh(true), { code: "policy/malformed" });
  files.set("ab".repeat(32), manifest);
  equal(await other.refresh(), false);
  equal(await other.refresh(true), true);
  equal(other.inForce.policies.size, 2);
});

test("a request works once", async (t) => {
  const { administration } = await setup(t);
  const first = signed(request());
  await administration.apply(first);
  await rejects(administration.apply(first), { code: "operators/conflict" });
});

const refusals: { name: string; document: object; code: string }[] = [
  { name: "one operator of two", document: signed(request(), [one]), code: "operators/signatures" },
  { name: "one operator twice", document: signed(request(), [one, one]), code: "operators/signatures" },
  {
    name: "an operator and a stranger",
    document: signed(request(), [one, stranger]),
    code: "operators/signatures",
  },
  {
    name: "more signatures than there are operators, enough of them good",
    document: signed(request(), [one, two, stranger, stranger]),
    code: "operators/signatures",
  },
  { name: "too late", document: signed(request({ expires: now - 1 })), code: "operators/expired" },
  { name: "another KMS", document: signed(request({ kms: "00".repeat(32) })), code: "operators/other-kms" },
  {
    name: "a policy of another app",
    document: signed(request({ app: "00".repeat(20) })),
    code: "policy/malformed",
  },
  {
    name: "a policy that cannot be read",
    document: signed(request({ policy: "app: [" })),
    code: "policy/malformed",
  },
  {
    name: "a version that is not there",
    document: signed(request({ replaces: 5 })),
    code: "operators/conflict",
  },
  { name: "no envelope", document: {}, code: "envelope/malformed" },
  {
    name: "more operators needed than there are",
    document: signed(handover([one.publicKey], 2)),
    code: "operators/malformed",
  },
];
for (const { name, document, code } of refusals) {
  test(`refused: ${name}`, async (t) => {
    const { administration, store } = await setup(t);
    const before = store.head.sequence;
    await rejects(administration.apply(document), { code });
    equal((await store.refresh()).sequence, before);
  });
}

test("refused: any byte of a signed request changed", async (t) => {
  const { administration } = await setup(t);
  const envelope = [one, two].reduce((e, { sign }) => sign(e), operatorEnvelope(request()));
  await fc.assert(
    fc.asyncProperty(fc.nat(envelope.payload.length * 8 - 1), async (bit) => {
      const payload = Uint8Array.from(envelope.payload);
      payload[bit >> 3]! ^= 1 << (bit & 7);
      await rejects(administration.apply(writeEnvelope({ ...envelope, payload })));
    }),
    { numRuns: 60 },
  );
});

test("operators name others, whose signatures count from then on; the first cannot be named again", async (t) => {
  const { administration } = await setup(t);
  await administration.apply(signed(handover([stranger.publicKey], 1)));
  await rejects(administration.apply(signed(request())), { code: "operators/signatures" });
  await administration.apply(signed(request(), [stranger]));
  equal(await administration.begin({ keys: threeKeys, threshold: 1 }), false);
  equal((await administration.operators())?.version, 2);
});

test("operators that are replaced meanwhile name no others: whose signatures count is compared in the commit", async (t) => {
  const { store, open } = await setup(t);
  const other = (await open()).administration;
  // Signed by those in force for the list that comes after them, and on its way while another request makes that list.
  const late = signed({ ...handover(threeKeys, 1), replaces: 2 });
  const slow = {
    ...store,
    read: store.read.bind(store),
    commit: async (change: Commit) => {
      await other.apply(signed(handover([stranger.publicKey], 1)));
      return store.commit(change);
    },
  } as Store;
  const reading = readingWith();
  await rejects(new Administration(slow, reading, () => now).apply(late), { code: "operators/conflict" });
  deepEqual((await other.operators())?.keys, [stranger.publicKey]);
});

test("operators' word about a volume is taken once, and is in the log", async (t) => {
  const { path, store } = await setup(t);
  const book = new VolumeBook(store, new Uint8Array(32).fill(1), keys.identity, () => now);
  const reading = readingWith();
  const administration = new Administration(store, reading, () => now, book);
  const key = { owner: machine.app, seed: "11".repeat(20), name: "data" };
  await book.open(key, undefined);
  const { volume } = (await book.list())[0]!;
  const word = (
    operation: "allow" | "suspect" | "delete",
    replaces: number,
    of = volume,
  ): OperatorRequest => ({
    ...common,
    action: "volume/operate",
    volume: of,
    operation,
    replaces,
  });
  await rejects(administration.apply(signed(word("suspect", 0), [one])), { code: "operators/signatures" });
  const suspected = signed(word("suspect", 0));
  deepEqual((await administration.apply(suspected)).version, 1);
  equal((await book.find(volume)).suspect, true);
  // Anchors and openings come meanwhile; what counts is how many words there were.
  await administration.apply(signed(word("allow", 1)));
  await rejects(administration.apply(suspected), { code: "operators/conflict" });
  equal((await book.find(volume)).suspect, false);
  await rejects(administration.apply(signed(word("allow", 2, "00".repeat(32)))), { code: "volumes/unknown" });
  equal(await book.operations(), 2);
  const reasons: string[] = [];
  await verifyReleaseLog(
    readOnlySqlite(path),
    {},
    (_, { reason }) => void reasons.push(reason.split(":")[0]!),
  );
  const named = `volume ${volume.slice(0, 16)}`;
  deepEqual(reasons, ["operators/begin", `${named} opened`, `${named} suspect`, `${named} allow`]);
});
