// SPDX-License-Identifier: Apache-2.0
/** Which releases run and which do not: a table, each correctly signed but for what its name says. */
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { leafHash } from "@caisson/vocabulary/merkle";
import fc from "fast-check";
import { writeCanonical } from "./canonical.ts";
import type { Envelope } from "./envelope.ts";
import { followIdentity, identityPayloadType, readIdentity } from "./identity.ts";
import { writeCheckpoint } from "./log/checkpoint.ts";
import { logEntry } from "./log/entry.ts";
import { writeNoteKey, writeSignature } from "./log/note.ts";
import { checkSuccessor, emptyFloor, type Floor, judgeRelease, raiseFloor, revoke } from "./release.ts";
import { readStatement, statementPayloadType, writeStatement } from "./statement.ts";
import { keysOf } from "./testing/owners.ts";
import { noteKeyOf, type Signer, signedBy, signer } from "./testing/signers.ts";

const [a, b, c] = [signer("a"), signer("b", "p256"), signer("c")];
const [stop, stranger] = [signer("stop"), signer("stranger")];
const [r1, r2, r3] = [signer("r1"), signer("r2"), signer("r3", "p256")];
const log = signer("log");
const logKey = noteKeyOf("log.example", "note", log);
const document = {
  version: "caisson/identity/v1",
  name: "payments",
  generation: 0,
  previous: null,
  owners: keysOf(2, a, b, c),
  stop: keysOf(1, stop),
  rebuild: keysOf(2, r1, r2, r3),
  secrets: null,
  log: { policy: `log ${await writeNoteKey(logKey)}\nquorum none\n` },
  immutable: null as string | null,
};
const identity = await readIdentity(writeCanonical(document));
const id = identity.hash;
const now = Date.parse("2026-06-01T12:00:00Z");
const measured = { manifest: "aa".repeat(32), description: "bb".repeat(32) };
const subjects = [measured.manifest, measured.description];
const predicate = {
  app: id,
  generation: 0,
  release: 5,
  previous: "cc".repeat(32),
  minimum: 3,
  notBefore: "2026-05-31T12:00:00Z",
  expires: "2026-06-01T12:00:01Z",
  notes: "",
};
const unsigned = (changes: object = {}, named = subjects) =>
  writeStatement("release", named, { ...predicate, ...changes });
const signed = (changes: object = {}, named = subjects) => signedBy(unsigned(changes, named), a, b);

const signedHash = createHash("sha256").update(signed().payload).digest("hex");
const rebuilt = (
  by: readonly Signer[],
  { manifest = measured.manifest, app = id, release = signedHash } = {},
) => {
  const facts = { app, release, lock: "01".repeat(32), toolchain: "02".repeat(32) };
  const more = { caisson: "0.1.0", system: "Debian 13", finished: "2026-05-31T12:00:00Z" };
  return readStatement(
    "rebuild",
    signedBy(writeStatement("rebuild", [manifest], { ...facts, ...more }), ...by),
  );
};

/** That the payload is the only release in the log. */
async function proofOf(payload: Uint8Array) {
  const entry = logEntry("release", id, createHash("sha256").update(payload).digest("hex"));
  const text = writeCheckpoint({ origin: "log.example", size: 1, root: await leafHash(entry) });
  const signature = log.sign(new TextEncoder().encode(text));
  return { index: 0, path: [], checkpoint: `${text}\n${await writeSignature(logKey, signature)}` };
}

interface Case {
  name: string;
  envelope?: Envelope;
  floor?: Partial<Floor>;
  judgement?: object;
  rebuilds?: ReturnType<typeof rebuilt>[];
  proof?: "missing" | "of another";
  code: string;
}

async function judge({ envelope = signed(), floor, judgement, rebuilds, proof }: Partial<Case>) {
  const release = await readStatement("release", envelope);
  return judgeRelease(release, {
    id,
    identity,
    measured,
    now,
    floor: { ...emptyFloor, ...floor },
    maximumLogAgeMs: 1000,
    rebuilds: await Promise.all(rebuilds ?? [r1, r2].map((one) => rebuilt([one], { release: release.hash }))),
    ...(proof !== "missing" && {
      proof: await proofOf(proof === undefined ? envelope.payload : new Uint8Array()),
    }),
    ...judgement,
  });
}

test("a release in good order runs", async () => {
  const { logged } = await judge({});
  equal(logged?.checkpoint.size, 1);
  await judge({ envelope: signedBy(unsigned(), stranger, c, b) });
  await judge({ rebuilds: [rebuilt([r1, r3])] });
});

const cases: Case[] = [
  { name: "one owner of two", envelope: signedBy(unsigned(), a), code: "release/signature" },
  { name: "one owner twice", envelope: signedBy(unsigned(), b, b), code: "release/signature" },
  {
    name: "a stop key in an owner's place",
    envelope: signedBy(unsigned(), a, stop),
    code: "release/signature",
  },
  {
    name: "owners' signatures over another payload",
    envelope: { ...unsigned({ release: 6 }), signatures: signed().signatures },
    code: "release/signature",
  },
  {
    name: "a release of another application",
    envelope: signed({ app: "00".repeat(32) }),
    code: "release/app",
  },
  { name: "another generation", envelope: signed({ generation: 1 }), code: "release/generation" },
  { name: "a later generation that was hidden", floor: { generation: 1 }, code: "release/generation" },
  { name: "subjects exchanged", envelope: signed({}, subjects.toReversed()), code: "release/subject" },
  {
    name: "the right image with another description",
    envelope: signed({}, [measured.manifest, "00".repeat(32)]),
    code: "release/subject",
  },
  {
    name: "another image with the right description",
    envelope: signed({}, ["00".repeat(32), measured.description]),
    code: "release/subject",
  },
  {
    name: "not yet valid",
    envelope: signed({ notBefore: "2026-06-01T12:00:01Z", expires: "2027-01-01T00:00:00Z" }),
    code: "release/not-yet-valid",
  },
  {
    name: "expired this second",
    envelope: signed({ expires: "2026-06-01T12:00:00Z" }),
    code: "release/expired",
  },
  { name: "a clock set back", judgement: { now: now - 2 * 24 * 3600_000 }, code: "release/not-yet-valid" },
  { name: "no proof that it is logged", proof: "missing", code: "log/proof" },
  { name: "a proof of another release", proof: "of another", code: "log/proof" },
  { name: "below the minimum of a later release", floor: { minimum: 6 }, code: "release/below-minimum" },
  { name: "below its own minimum", envelope: signed({ minimum: 6 }), code: "release/below-minimum" },
  { name: "revoked", floor: { releases: new Set([5]) }, code: "release/revoked" },
  { name: "of a revoked generation", floor: { generations: new Set([0]) }, code: "release/revoked" },
  { name: "one rebuild of two", rebuilds: [rebuilt([r1])], code: "rebuild/threshold" },
  { name: "one rebuilder twice", rebuilds: [rebuilt([r1]), rebuilt([r1, r1])], code: "rebuild/threshold" },
  {
    name: "a rebuild with more signatures than rebuilders",
    rebuilds: [rebuilt([r1, r2, r3, a])],
    code: "envelope/malformed",
  },
  { name: "a rebuild by an owner", rebuilds: [rebuilt([r1]), rebuilt([a])], code: "rebuild/threshold" },
  {
    name: "a rebuild for another application",
    rebuilds: [rebuilt([r1]), rebuilt([r2], { app: "00".repeat(32) })],
    code: "rebuild/threshold",
  },
  {
    name: "a third rebuilder who got another image",
    rebuilds: [rebuilt([r1]), rebuilt([r2]), rebuilt([r3], { manifest: "00".repeat(32) })],
    code: "rebuild/differs",
  },
];
for (const one of cases) test(`refused: ${one.name}`, () => rejects(judge(one), { code: one.code }));

test("another image of an older release's sources stops no newer one", async () => {
  const older = rebuilt([r3], { manifest: "00".repeat(32), release: "dd".repeat(32) });
  await judge({ rebuilds: [rebuilt([r1]), rebuilt([r2]), older] });
  // Nor does an agreeing one count for another release.
  const agreeing = rebuilt([r2], { release: "dd".repeat(32) });
  await rejects(judge({ rebuilds: [rebuilt([r1]), agreeing] }), { code: "rebuild/threshold" });
});

test("what was verified once is judged anew: by the time, and by what is known", async () => {
  for (let i = 0; i < 2; i++) await judge({});
  const at = (ms: number) => judge({ judgement: { now: ms } });
  await rejects(at(now + 365 * 24 * 3600_000), { code: "release/expired" });
  await rejects(judge({ floor: { ...emptyFloor, releases: new Set([5]) } }), { code: "release/revoked" });
  await rejects(judge({ floor: { ...emptyFloor, minimum: 6 } }), { code: "release/below-minimum" });
  await judge({});
});

test("whoever asks may demand more than the owners promised", async () => {
  const demand = (demands: object) => judge({ judgement: { demands } });
  await demand({ minimumRelease: 5, requireLog: true, requireRebuilds: 2 });
  await rejects(demand({ minimumRelease: 6 }), { code: "release/below-minimum" });
  await rejects(demand({ requireRebuilds: 3 }), { code: "rebuild/threshold" });
  const unlogged = { ...identity, document: { ...identity.document, log: null } };
  await judge({ judgement: { identity: unlogged } });
  const demands = { requireLog: true };
  await rejects(judge({ judgement: { identity: unlogged, demands } }), { code: "log/proof" });
});

test("a log that was followed says what is in it", async () => {
  const followed = (releases: [number, string][], seen = now) =>
    judge({ proof: "missing", judgement: { followed: { releases: new Map(releases), seen } } });
  await followed([[5, signedHash]]);
  await rejects(followed([]), { code: "log/proof" });
  await rejects(followed([[5, "00".repeat(32)]]), { code: "release/previous" });
  await rejects(followed([[5, signedHash]], now - 1001), { code: "log/age" });
  await followed([[5, signedHash]], now + 300_000);
  await rejects(followed([[5, signedHash]], now + 300_001), { code: "log/age" });
});

test("another image that a stranger built stops nothing", async () => {
  await judge({
    rebuilds: [rebuilt([r1]), rebuilt([r2]), rebuilt([stranger], { manifest: "00".repeat(32) })],
  });
});

test("an immutable application runs with its description alone", async () => {
  const fixed = (immutable: string) => ({ ...identity, document: { ...identity.document, immutable } });
  await judge({ judgement: { identity: fixed(measured.description) } });
  await rejects(judge({ judgement: { identity: fixed("00".repeat(32)) } }), { code: "release/subject" });
});

test("owners of the generation before sign nothing any more", async () => {
  const second = writeCanonical({ ...document, generation: 1, previous: id, owners: keysOf(2, b, c) });
  const handover = signedBy({ payload: second, payloadType: identityPayloadType }, a, b, c);
  const next = await followIdentity(id, writeCanonical(document), [handover]);
  const envelope = (...by: Signer[]) => signedBy(unsigned({ generation: 1 }), ...by);
  await judge({ envelope: envelope(b, c), judgement: { identity: next } });
  await rejects(judge({ envelope: envelope(a, b), judgement: { identity: next } }), {
    code: "release/signature",
  });
  await rejects(judge({ judgement: { identity: next } }), { code: "release/generation" });
});

const revocation = (by: Signer, changes: object = {}, subject = id) => {
  const what = { app: id, releases: [5], generations: [], reason: "CVE" };
  return readStatement(
    "revocation",
    signedBy(writeStatement("revocation", [subject], { ...what, ...changes }), by),
  );
};

test("stop keys revoke, and what they revoked stays so", async () => {
  const floor = await revoke(emptyFloor, await revocation(stop), { id, identity });
  const more = await revoke(floor, await revocation(stop, { releases: [7] }), { id, identity });
  deepEqual([...more.releases], [5, 7]);
  await rejects(judge({ floor: more }), { code: "release/revoked" });
  await rejects(revoke(emptyFloor, await revocation(a), { id, identity }), { code: "release/signature" });
  const foreign = await revocation(stop, { app: "00".repeat(32) }, "00".repeat(32));
  await rejects(revoke(emptyFloor, foreign, { id, identity }), { code: "release/app" });
});

test("no kind of statement is read as another", async () => {
  for (const [kind, envelope] of [
    ["release", (await revocation(stop)).envelope],
    ["revocation", signed()],
    ["rebuild", signed()],
  ] as const) {
    await rejects(readStatement(kind, envelope), { code: "release/malformed" });
  }
});

const chain = async (n: number, previous: string | null, minimum = 1) =>
  readStatement("release", signed({ release: n, previous, minimum }));

test("releases follow one another by number and by hash, and the minimum does not fall", async () => {
  const one = await chain(1, null);
  checkSuccessor(undefined, one);
  equal(one.hash, createHash("sha256").update(one.envelope.payload).digest("hex"));
  const two = await chain(2, one.hash, 2);
  checkSuccessor(one, two);
  equal(raiseFloor(raiseFloor(emptyFloor, two), one).minimum, 2);
  for (const [before, next] of [
    [undefined, two],
    [one, await chain(3, one.hash)],
    [one, await chain(2, "00".repeat(32))],
    [one, await chain(2, null)],
    [two, await chain(3, two.hash, 1)],
    [two, await chain(3, two.hash, 4)],
    [one, one],
  ] as const) {
    throws(() => checkSuccessor(before, next), { code: "release/previous" });
  }
});

const payload = unsigned().payload;
const raw = JSON.parse(new TextDecoder().decode(payload)) as Record<string, unknown>;
const bad: [name: string, change: object][] = [
  [
    "a third subject",
    { subject: [...(raw.subject as object[]), { name: "x", digest: { sha256: "00".repeat(32) } }] },
  ],
  ["one subject", { subject: (raw.subject as object[]).slice(1) }],
  ["subjects without names", { subject: subjects.map((sha256) => ({ digest: { sha256 } })) }],
  ["subjects in another order", { subject: (raw.subject as object[]).toReversed() }],
  [
    "a second digest",
    {
      subject: subjects.map((sha256, i) => ({
        name: ["manifest", "description"][i],
        digest: { sha256, sha512: "00" },
      })),
    },
  ],
  ["another predicate", { predicateType: "https://slsa.dev/provenance/v1" }],
  ["another type of statement", { _type: "https://in-toto.io/Statement/v0.1" }],
  ["release 0", { predicate: { ...predicate, release: 0 } }],
  ["a date that does not exist", { predicate: { ...predicate, expires: "2026-02-30T00:00:00Z" } }],
  ["an unknown field", { predicate: { ...predicate, more: 1 } }],
  ["notes with controls", { predicate: { ...predicate, notes: "\u001b[2J" } }],
  ["notes that turn the direction of text", { predicate: { ...predicate, notes: "\u202e" } }],
  ["more than 16 KiB", { predicate: { ...predicate, notes: "x".repeat(16 * 1024) } }],
];
for (const [name, change] of bad) {
  test(`malformed: ${name}`, () => {
    const envelope = signedBy(
      { payload: writeCanonical({ ...raw, ...change }), payloadType: statementPayloadType },
      a,
      b,
    );
    return rejects(readStatement("release", envelope), { code: "release/malformed" });
  });
}

test("a bit of a signed release changed: refused", async () => {
  const { signatures } = signed();
  const property = fc.asyncProperty(fc.nat(payload.length - 1), fc.nat(7), async (at, bit) => {
    const changed = Uint8Array.from(payload);
    changed[at]! ^= 1 << bit;
    const envelope = { payload: changed, payloadType: statementPayloadType, signatures };
    await rejects(judge({ envelope }), (error: { code: string }) => error.code.startsWith("release/"));
  });
  await fc.assert(property, { numRuns: 200 });
});
