// SPDX-License-Identifier: Apache-2.0
/**
 * Who gets keys of an application that has an identity: machines that pass every other check, each with a bundle or secrets
 * of which one thing is wrong. Each is refused with exactly its code.
 */

import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import { createHash, generateKeyPairSync } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
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
import { deriveReleasedKey } from "@caisson/protocol/derivation";
import { verifySignature } from "@caisson/protocol/ed25519";
import { generateSealingKey, open, seal } from "@caisson/protocol/hpke";
import {
  answerTranscript,
  keyReleaseVersion,
  type ReleaseRequest,
  sealContext,
  sealingKeyTranscript,
  secretsContext,
} from "@caisson/protocol/key-release";
import {
  type Bundle,
  type Envelope,
  identityPayloadType,
  ReleaseError,
  readTrustPolicy,
  sealBinding,
  writeBundle,
  writeEnvelope,
} from "@caisson/releases";
import type { ProvenanceJudge } from "@caisson/releases/provenance";
import { hashOf, keysOf, Owners } from "@caisson/releases/testing/owners";
import { signer } from "@caisson/releases/testing/signers";
import { reportData } from "@caisson/verify/report-data";
import { Applications, type LogView } from "./applications.ts";
import { FollowedLog, type FollowingStore, followingRows } from "./followed-log.ts";
import { loadPolicies, type Policies } from "./policies.ts";
import { type ReleaseContext, releaseKeys } from "./release.ts";
import { Roots } from "./roots.ts";
import { applicationSealingKey, publishSealingKey } from "./secrets.ts";
import type { LogEntry } from "./store/entries.ts";
import { sqlite } from "./store/sqlite.ts";
import { type Commit, type Committed, openStore, type Store, storeKeys } from "./store/store.ts";
import { releaseContext } from "./testing/context.ts";
import { Machine } from "./testing/machine.ts";

const now = Date.parse("2026-06-01T12:00:00Z");
const day = 24 * 3600 * 1000;
const secret = new Uint8Array(32).map((_, i) => i);
const identity = storeKeys(secret).identity;
const kms = identity.publicKey.toHex();
const owners = new Owners(now);
const machine = new Machine(now, "payments", 0, { identity: owners.id });
const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const subjectsOf = (one: Machine): [string, string] => [hash(one.manifest), hash(one.description)];
const subjects = subjectsOf(machine);

const place = (t: TestContext): string => {
  const directory = mkdtempSync(join(tmpdir(), "caisson-kms-owners-"));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
};

function policiesOf(t: TestContext, of: Machine, rules: object = {}): Policies {
  const directory = place(t);
  const file = of.policyFile({ app: { identity: { id: of.app, ...rules } } });
  writeFileSync(join(directory, "app.json"), JSON.stringify(file));
  return loadPolicies(directory, kms, true);
}

/** A store in a file of its own, or what another one left in it. */
async function storeOf(t: TestContext, path = join(place(t), "store.sqlite")): Promise<Store> {
  const store = await openStore(sqlite(path), storeKeys(secret));
  t.after(() => store.close());
  return store;
}

interface Setup {
  context: ReleaseContext;
  log: LogEntry[];
}

async function setup(
  t: TestContext,
  policies: Policies,
  { path, log, clock = () => now }: With = {},
): Promise<Setup> {
  const entries: LogEntry[] = [];
  const store = await storeOf(t, path);
  const commit = async (change: Commit): Promise<Committed> => {
    const outcome = await store.commit(change);
    if (outcome === "done" && change.entry !== undefined) entries.push({ ...change.entry });
    return outcome;
  };
  const context = releaseContext(secret, {
    roots: new Roots(secret, store),
    identity,
    policies,
    store: { commit },
    applications: new Applications(store, log),
    now: clock,
  });
  return { context, log: entries };
}

interface With {
  path?: string;
  log?: LogView;
  clock?: () => number;
}

interface Given {
  of?: Machine;
  bundle?: Bundle;
  secrets?: Envelope;
}

/** One request of a machine in good order but for what is given; the answer, and what its seals hold. */
async function ask(
  { context }: Setup,
  { of = machine, bundle, secrets }: Given,
): Promise<{
  code?: string;
  message?: string;
  key?: string;
  secrets?: Record<string, string>;
  hash?: string;
}> {
  const pair = generateSealingKey();
  const exchange = {
    nonce: context.nonces.issue(context.now()),
    identityKey: identity.publicKey,
    ephemeralKey: pair.publicKey,
  };
  const { nonce, identityKey: kmsIdentityKey, ephemeralKey } = exchange;
  const data = await reportData(keyReleaseVersion, { nonce, kmsIdentityKey, ephemeralKey });
  const state = { ...of.booted(kms), ...(bundle !== undefined && { release: writeBundle(bundle) }) };
  const request: ReleaseRequest = {
    version: keyReleaseVersion,
    nonce: nonce.toHex(),
    ephemeralKey: ephemeralKey.toHex(),
    evidence: await of.evidence(state, data),
    ...(secrets !== undefined && { secrets: writeEnvelope(secrets) }),
  };
  const { answer } = await releaseKeys(context, request);
  ok(
    verifySignature(
      identity.publicKey,
      answerTranscript(exchange, answer),
      Uint8Array.fromHex(answer.signature),
    ),
  );
  if (answer.outcome === "denied") return { code: answer.code, message: answer.message };
  const bytes = (sealed: { enc: string; ciphertext: string }) => ({
    enc: Uint8Array.fromHex(sealed.enc),
    ciphertext: Uint8Array.fromHex(sealed.ciphertext),
  });
  const key = open(pair, bytes(answer.sealed), sealContext(exchange, answer)).subarray(0, 32).toHex();
  if (answer.secrets === undefined) return { key };
  const context2 = secretsContext(exchange, answer, answer.secrets.hash);
  const opened = new TextDecoder().decode(open(pair, bytes(answer.secrets), context2));
  return { key, secrets: JSON.parse(opened) as Record<string, string>, hash: answer.secrets.hash };
}

const first = owners.release(subjects);
const second = owners.release(subjects, { release: 2, previous: hashOf(first.payload), minimum: 2 });
const bundleOf = (release: Envelope, changes: Partial<Bundle> = {}, of = machine) =>
  owners.bundle(release, of.manifest, changes);

test("a released image gets its application's keys, and the log says which release it was", async (t) => {
  const kmsOf = await setup(t, policiesOf(t, machine));
  const { key } = await ask(kmsOf, { bundle: bundleOf(first) });
  const app = Uint8Array.fromHex(owners.id);
  const wanted = { app, instance: new Uint8Array(), purpose: "application", version: 1 } as const;
  equal(key, deriveReleasedKey(secret, wanted).toHex());
  equal(kmsOf.log[0]!.reason, `release 1 ${hashOf(first.payload)}`);
});

test("another image and another description of the same application have the same keys", async (t) => {
  const kmsOf = await setup(t, policiesOf(t, machine));
  const other = new Machine(now, "payments-next", 0, { identity: owners.id });
  notEqual(subjectsOf(other)[1], subjects[1]);
  const next = owners.release(subjectsOf(other), { release: 2, previous: hashOf(first.payload) });
  const before = await ask(kmsOf, { bundle: bundleOf(first) });
  deepEqual(await ask(kmsOf, { of: other, bundle: bundleOf(next, {}, other) }), before);
});

const stranger = new Owners(now, "stranger");
const rotated = owners.rotation({ owners: keysOf(2, owners.b, owners.c) });
const unlike = new TextEncoder().encode(
  new TextDecoder().decode(machine.manifest).replace("a3".repeat(48), "a4".repeat(48)),
);
const denied: [name: string, given: Given, code: string, rules?: object][] = [
  ["a stranger's image that passes every other check: no release", {}, "release/missing"],
  ["one owner", { bundle: bundleOf(owners.release(subjects, {}, [owners.a])) }, "release/signature"],
  [
    "one owner twice",
    { bundle: bundleOf(owners.release(subjects, {}, [owners.b, owners.b])) },
    "release/signature",
  ],
  [
    "a stranger's signatures",
    { bundle: bundleOf(owners.release(subjects, {}, [stranger.a, stranger.b])) },
    "release/signature",
  ],
  [
    "a stranger's identity",
    { bundle: stranger.bundle(stranger.release(subjects), machine.manifest) },
    "identity/hash",
  ],
  ["a release of another application", { bundle: bundleOf(stranger.release(subjects)) }, "release/app"],
  [
    "another image, whose manifest the bundle has",
    { bundle: owners.bundle(owners.release([hash(unlike), subjects[1]]), unlike) },
    "release/subject",
  ],
  [
    "the released manifest beside a release of another",
    { bundle: bundleOf(owners.release(["00".repeat(32), subjects[1]])) },
    "release/subject",
  ],
  [
    "the right manifest with another description",
    { bundle: bundleOf(owners.release([subjects[0], "00".repeat(32)])) },
    "release/subject",
  ],
  ["subjects exchanged", { bundle: bundleOf(owners.release([subjects[1], subjects[0]])) }, "release/subject"],
  ["no manifest", { bundle: owners.bundle(first) }, "release/subject"],
  [
    "expired",
    { bundle: bundleOf(owners.release(subjects, { expires: "2026-06-01T12:00:00Z" })) },
    "release/expired",
  ],
  [
    "not yet valid",
    { bundle: bundleOf(owners.release(subjects, { notBefore: "2026-06-01T12:00:01Z" })) },
    "release/not-yet-valid",
  ],
  [
    "revoked by what it carries",
    { bundle: bundleOf(first, { revocations: [owners.revocation([1])] }) },
    "release/revoked",
  ],
  [
    "a generation left out",
    { bundle: bundleOf(first, { generations: [owners.rotation({}, new Uint8Array(rotated.payload))] }) },
    "identity/chain",
  ],
  [
    "a handover that too few signed",
    { bundle: bundleOf(first, { generations: [{ ...rotated, signatures: rotated.signatures.slice(2) }] }) },
    "identity/threshold",
  ],
  [
    "a release of the generation before",
    { bundle: bundleOf(first, { generations: [rotated] }) },
    "release/generation",
  ],
  [
    "below the operator's minimum",
    { bundle: bundleOf(first) },
    "release/below-minimum",
    { minimumRelease: 2 },
  ],
  ["no log where one is required", { bundle: bundleOf(first) }, "log/proof", { requireLog: true }],
  [
    "no rebuilds where some are required",
    { bundle: bundleOf(first) },
    "rebuild/threshold",
    { requireRebuilds: 1 },
  ],
];
for (const [name, given, code, rules] of denied) {
  test(`denied: ${name}`, async (t) => {
    const answer = await ask(await setup(t, policiesOf(t, machine, rules)), given);
    equal(answer.code, code, answer.message ?? "released");
  });
}

test("a policy may ask who built an image: beside its owners, never instead of them", async (t) => {
  const workflow = "https://github.com/o/r/.github/workflows/w.yml@refs/tags/*";
  const rules = { profile: "public", root: { kind: "pinned" }, workflow };
  const policies = policiesOf(t, machine, { provenance: rules });
  const asked: unknown[] = [];
  const provenance: ProvenanceJudge = async (bundle, question) => {
    asked.push([bundle, question]);
    if ((bundle as { good?: boolean }).good !== true)
      throw new ReleaseError("provenance/signature", "it is not");
    return { profile: "public", workflow };
  };
  const kmsOf = await setup(t, policies);
  const judging = { ...kmsOf, context: { ...kmsOf.context, provenance } };
  const built = { provenance: { good: true } };
  ok((await ask(judging, { bundle: bundleOf(first, built) })).key);
  deepEqual(asked, [[built.provenance, { ...rules, manifest: subjects[0] }]]);
  const codes = [
    [judging, bundleOf(first), "provenance/missing"],
    [judging, bundleOf(first, { provenance: {} }), "provenance/signature"],
    [judging, bundleOf(owners.release(subjects, {}, [owners.a]), built), "release/signature"],
    // One that cannot judge it.
    [kmsOf, bundleOf(first, built), "provenance/missing"],
  ] as const;
  for (const [who, bundle, code] of codes) equal((await ask(who, { bundle })).code, code);
  // Who does not ask for it is not told.
  ok((await ask(await setup(t, policiesOf(t, machine)), { bundle: bundleOf(first, built) })).key);
});

test("a bundle that is nothing of the kind is refused as such", async (t) => {
  const kmsOf = await setup(t, policiesOf(t, machine));
  const { code } = await ask(kmsOf, {
    bundle: { ...bundleOf(first), identity: new TextEncoder().encode("x") },
  });
  equal(code, "identity/malformed");
});

test("what was proved is not forgotten: minimum, revocation, generation; not by a new process either", async (t) => {
  const path = join(place(t), "store.sqlite");
  const policies = policiesOf(t, machine);
  const one = await setup(t, policies, { path });
  ok((await ask(one, { bundle: bundleOf(second) })).key);
  equal((await ask(one, { bundle: bundleOf(first) })).code, "release/below-minimum");
  const again = await setup(t, policies, { path });
  equal((await ask(again, { bundle: bundleOf(first) })).code, "release/below-minimum");
  const third = owners.release(subjects, { release: 3, previous: hashOf(second.payload), minimum: 2 });
  ok((await ask(again, { bundle: bundleOf(third, { revocations: [owners.revocation([2])] }) })).key);
  equal((await ask(again, { bundle: bundleOf(second) })).code, "release/revoked");
  const byNew = { generation: 1, release: 4, previous: hashOf(third.payload), minimum: 2 };
  const fourth = owners.release(subjects, byNew, [owners.b, owners.c]);
  ok((await ask(again, { bundle: bundleOf(fourth, { generations: [rotated] }) })).key);
  const last = await setup(t, policies, { path });
  equal((await ask(last, { bundle: bundleOf(third) })).code, "release/generation");
});

test("signatures that were verified once are not what a release is judged by: time and what was learnt are", async (t) => {
  const clock = { ms: now };
  const kmsOf = await setup(t, policiesOf(t, machine), { clock: () => clock.ms });
  // The machine's own evidence stays good for an hour, so the release ends before it.
  const expires = new Date(now + 60_000).toISOString().replace(".000", "");
  const notBefore = new Date(now).toISOString().replace(".000", "");
  const short = owners.release(subjects, { notBefore, expires });
  const bundle = bundleOf(short);
  for (let i = 0; i < 2; i++) ok((await ask(kmsOf, { bundle })).key);
  clock.ms = now + 60_000;
  equal((await ask(kmsOf, { bundle })).code, "release/expired");
  clock.ms = now - 1000;
  equal((await ask(kmsOf, { bundle })).code, "release/not-yet-valid");
  clock.ms = now;
  const revoked = bundleOf(short, { revocations: [owners.revocation([1])] });
  equal((await ask(kmsOf, { bundle: revoked })).code, "release/revoked");
  ok((await ask(kmsOf, { bundle })).key);
  ok((await ask(kmsOf, { bundle: bundleOf(second) })).key);
  equal((await ask(kmsOf, { bundle })).code, "release/below-minimum");
});

test("a bundle that was refused teaches nothing", async (t) => {
  const kmsOf = await setup(t, policiesOf(t, machine));
  const high = owners.release(subjects, { release: 9, minimum: 9 }, [owners.a]);
  equal((await ask(kmsOf, { bundle: bundleOf(high) })).code, "release/signature");
  ok((await ask(kmsOf, { bundle: bundleOf(first) })).key);
});

test("keys that rest on what is not on disk do not leave", async (t) => {
  const kmsOf = await setup(t, policiesOf(t, machine));
  const full = { commit: () => Promise.reject(new Error("full")) };
  const answer = await ask(
    { ...kmsOf, context: { ...kmsOf.context, store: full } },
    { bundle: bundleOf(second) },
  );
  equal(answer.code, "log/unavailable");
});

test("what another replica learnt meanwhile counts before keys leave", async (t) => {
  const path = join(place(t), "store.sqlite");
  const policies = policiesOf(t, machine);
  const [one, other] = [await setup(t, policies, { path }), await setup(t, policies, { path })];
  let isFirst = true;
  const slow = {
    commit: async (change: Commit) => {
      if (isFirst) {
        isFirst = false;
        ok((await ask(other, { bundle: bundleOf(second) })).key);
      }
      return one.context.store.commit(change);
    },
  };
  const answer = await ask({ ...one, context: { ...one.context, store: slow } }, { bundle: bundleOf(first) });
  equal(answer.code, "release/below-minimum");
});

test("a policy for 32 bytes names the identity, and one for 20 does not", (t) => {
  const without = machine.policyFile();
  const directory = place(t);
  const refused = (file: object) => {
    writeFileSync(join(directory, "app.json"), JSON.stringify(file));
    try {
      loadPolicies(directory, kms, true);
    } catch (error) {
      return (error as { code: string }).code;
    }
    return "accepted";
  };
  equal(refused(without), "policy/malformed");
  equal(refused(machine.policyFile({ app: { identity: { id: "00".repeat(32) } } })), "policy/malformed");
  const plain = new Machine(now);
  equal(refused(plain.policyFile({ app: { identity: { id: owners.id } } })), "policy/malformed");
});

// Secrets.

const withSecrets = new Machine(now, "payments", 0, {
  identity: owners.id,
  secrets: [{ name: "DB_URL" }, { name: "TOKEN", environment: "API_TOKEN" }],
});
const sealedRelease = owners.release(subjectsOf(withSecrets), { release: 1 });
const sealingKey = publishSealingKey(secret, identity, Uint8Array.fromHex(owners.id), 1);
const values = { DB_URL: "postgres://hunter2", TOKEN: "t0ken" };

function sealed(
  names: Record<string, string>,
  binding: Partial<Parameters<typeof sealBinding>[0]> = {},
  boundName: (name: string) => string = (name) => name,
) {
  const about = { app: owners.id, kms, keyVersion: 1, number: 1, ...binding };
  return Object.fromEntries(
    Object.entries(names).map(([name, value]) => {
      const { enc, ciphertext } = seal(
        Uint8Array.fromHex(sealingKey.key),
        new TextEncoder().encode(value),
        sealBinding(about, boundName(name)),
      );
      return [name, { enc: enc.toHex(), ciphertext: ciphertext.toHex() }];
    }),
  );
}
const good = owners.secrets(kms, sealed(values));
const askSecrets = (kmsOf: Setup, secrets: Envelope | undefined, changes: Partial<Bundle> = {}) =>
  ask(kmsOf, {
    of: withSecrets,
    bundle: bundleOf(sealedRelease, changes, withSecrets),
    ...(secrets !== undefined && { secrets }),
  });

test("the sealing key is the application's own, and signed by the KMS", () => {
  const signature = Uint8Array.fromHex(sealingKey.signature);
  ok(verifySignature(identity.publicKey, sealingKeyTranscript(sealingKey), signature));
  const other = publishSealingKey(secret, identity, Uint8Array.fromHex(stranger.id), 1);
  const later = publishSealingKey(secret, identity, Uint8Array.fromHex(owners.id), 2);
  equal(new Set([sealingKey.key, other.key, later.key]).size, 3);
  equal(applicationSealingKey(secret, Uint8Array.fromHex(owners.id), 1).publicKey.toHex(), sealingKey.key);
});

test("secrets are opened and sealed again to the guest that declares them; no log has a value", async (t) => {
  const kmsOf = await setup(t, policiesOf(t, withSecrets));
  const answer = await askSecrets(kmsOf, good);
  equal(answer.hash, hashOf(good.payload));
  const opened = Object.entries(answer.secrets ?? {}).map(([name, hex]) => [
    name,
    Buffer.from(hex, "hex").toString(),
  ]);
  deepEqual(Object.fromEntries(opened), values);
  const logged = JSON.stringify(kmsOf.log);
  ok(logged.includes(`secrets 1 ${hashOf(good.payload)}: DB_URL TOKEN`));
  for (const value of Object.values(values))
    ok(!logged.includes(value) && !logged.includes(Buffer.from(value).toString("hex")));
});

test("an image that declares no secrets is given none, whatever is brought", async (t) => {
  const answer = await ask(await setup(t, policiesOf(t, machine)), {
    bundle: bundleOf(first),
    secrets: good,
  });
  equal(answer.secrets, undefined);
  ok(answer.key);
});

const moved = sealed(values);
const otherOwners = new Owners(now, "other");
const secretCases: [name: string, secrets: Envelope | undefined, code: string][] = [
  ["none", undefined, "secrets/missing"],
  ["a set that the host made", owners.secrets(kms, sealed(values), {}, []), "secrets/signature"],
  ["a set that too few signed", owners.secrets(kms, sealed(values), {}, [owners.a]), "secrets/signature"],
  [
    "a set of another application",
    otherOwners.secrets(kms, sealed(values, { app: otherOwners.id })),
    "secrets/app",
  ],
  ["a set for another KMS", owners.secrets("00".repeat(32), sealed(values)), "secrets/kms"],
  [
    "a set for another version of the key",
    owners.secrets(kms, sealed(values), { keyVersion: 2 }),
    "secrets/key-version",
  ],
  [
    "an expired set",
    owners.secrets(kms, sealed(values), { expires: "2026-06-01T12:00:00Z" }),
    "secrets/expired",
  ],
  ["a set for later releases", owners.secrets(kms, sealed(values), { minimumRelease: 2 }), "secrets/release"],
  ["one secret too few", owners.secrets(kms, sealed({ TOKEN: "t" })), "secrets/names"],
  ["one secret too many", owners.secrets(kms, sealed({ ...values, MORE: "m" })), "secrets/names"],
  ["entries exchanged", owners.secrets(kms, { DB_URL: moved.TOKEN!, TOKEN: moved.DB_URL! }), "secrets/seal"],
  [
    "an entry of an older number",
    owners.secrets(kms, sealed(values), { number: 2, previous: "00".repeat(32) }),
    "secrets/seal",
  ],
  [
    "an entry sealed for another application",
    owners.secrets(kms, sealed(values, { app: stranger.id })),
    "secrets/seal",
  ],
  [
    "an entry sealed for another KMS",
    owners.secrets(kms, sealed(values, { kms: "00".repeat(32) })),
    "secrets/seal",
  ],
];
for (const [name, secrets, code] of secretCases) {
  test(`no keys either: ${name}`, async (t) => {
    const answer = await askSecrets(await setup(t, policiesOf(t, withSecrets)), secrets);
    equal(answer.code, code, answer.message ?? "released");
  });
}

test("an old set is not given again, nor another one of its number, nor a revoked release's", async (t) => {
  const path = join(place(t), "store.sqlite");
  const kmsOf = await setup(t, policiesOf(t, withSecrets), { path });
  const next = owners.secrets(kms, sealed(values, { number: 2 }), {
    number: 2,
    previous: hashOf(good.payload),
  });
  ok((await askSecrets(kmsOf, good)).key);
  ok((await askSecrets(kmsOf, next)).key);
  equal((await askSecrets(kmsOf, good)).code, "secrets/old");
  const twin = owners.secrets(kms, sealed(values, { number: 2 }), { number: 2, previous: "00".repeat(32) });
  equal((await askSecrets(kmsOf, twin)).code, "secrets/previous");
  equal((await askSecrets(kmsOf, next, { revocations: [owners.revocation([1])] })).code, "release/revoked");
  ok(!readFileSync(path, "utf8").includes("hunter2"));
});

test("secrets of named keys alone, where the identity names some", async (t) => {
  const giver = signer("giver");
  const strict = new Owners(now, "strict", { secrets: keysOf(1, giver) });
  const of = new Machine(now, "strict", 0, { identity: strict.id, secrets: [{ name: "DB_URL" }] });
  const key = publishSealingKey(secret, identity, Uint8Array.fromHex(strict.id), 1);
  const { enc, ciphertext } = seal(
    Uint8Array.fromHex(key.key),
    new TextEncoder().encode("v"),
    sealBinding({ app: strict.id, kms, keyVersion: 1, number: 1 }, "DB_URL"),
  );
  const entries = { DB_URL: { enc: enc.toHex(), ciphertext: ciphertext.toHex() } };
  const bundle = strict.bundle(strict.release(subjectsOf(of)), of.manifest);
  const kmsOf = await setup(t, policiesOf(t, of));
  const bySome = strict.secrets(kms, entries, {}, [giver]);
  ok((await ask(kmsOf, { of, bundle, secrets: bySome })).secrets);
  equal((await ask(kmsOf, { of, bundle, secrets: strict.secrets(kms, entries) })).code, "secrets/signature");
});

test("a clock set back: a release is for later", async (t) => {
  const policies = policiesOf(t, machine);
  const early = await setup(t, policies, { clock: () => now - 2 * day });
  const { code } = await ask(early, { bundle: bundleOf(first) });
  // The whole machine's collateral is younger, too.
  ok(code?.endsWith("not-yet-valid") === true, `${code}`);
});

// A log that the KMS follows.

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
    new Witness(place(t), witnessKey, [logKey.key], () => clock.ms),
    "127.0.0.1",
    0,
  );
  t.after(() => witness.close());
  const directory = place(t);
  const writer = await LogWriter.open(directory, logKey, [{ url: witness.url, key: witnessKey.key }]);
  await writer.add("identity", loggers.id, firstDocument);
  await writer.add("release", loggers.id, l1);
  const policies = policiesOf(t, loggedMachine, rules);
  const follow = (kept: FollowingStore = inMemory(), source = openLogDirectory(directory)) =>
    new FollowedLog(
      { source, policy: readTrustPolicy(logPolicy) },
      kms,
      kept,
      () => clock.ms,
      () => {},
    );
  const kmsWith = (log: FollowedLog) => setup(t, policies, { log, clock: () => clock.ms });
  const asks = (kmsOf: Setup, release: Envelope, changes: Partial<Bundle> = {}) =>
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
  const kmsOf = await setup(t, policiesOf(t, of), { log });
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
  const alone = await setup(t, policiesOf(t, machine));
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
  const yesterday = place(t);
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

test("without a followed log the bundle proves that a release is logged, by the identity's own policy", async (t) => {
  const { directory, asks, writer } = await logged(t);
  const source = openLogDirectory(directory);
  const policy = readTrustPolicy(logPolicy);
  const following = await followLog(source, policy, { now });
  const proof = await proveRelease(source, following, loggers.id, hashOf(l1.payload));
  const kmsOf = await setup(t, policiesOf(t, loggedMachine));
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
