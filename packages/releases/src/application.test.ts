// SPDX-License-Identifier: Apache-2.0
/** What may follow what in an application's life, and that bundles of it are judged as their parts are. */
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { type Application, advance, beginApplication } from "./application.ts";
import { type Bundle, judgeBundle, readBundle, writeBundle } from "./bundle.ts";
import { writeCanonical } from "./canonical.ts";
import { type Envelope, writeEnvelope } from "./envelope.ts";
import { ReleaseError } from "./errors.ts";
import { identityPayloadType, readIdentity } from "./identity.ts";
import { readApplication, writeApplication } from "./kept-application.ts";
import { entryKinds, logEntry, readLogEntry } from "./log/entry.ts";
import { emptyFloor } from "./release.ts";
import { judgeSecrets, readSecrets, writeSecrets } from "./secrets.ts";
import { readStatement, writeStatement } from "./statement.ts";
import { keysOf } from "./testing/owners.ts";
import { type Signer, signedBy, signer } from "./testing/signers.ts";

const [a, b, c, stop, builder, giver] = ["a", "b", "c", "stop", "builder", "giver"].map((one) => signer(one));
const document = {
  version: "caisson/identity/v1",
  name: "payments",
  generation: 0,
  previous: null as string | null,
  owners: keysOf(2, a!, b!),
  stop: keysOf(1, stop!),
  rebuild: keysOf(1, builder!),
  secrets: keysOf(1, giver!),
  log: null,
  immutable: null,
};
const first = writeCanonical(document);
const { hash: id } = await readIdentity(first);
const measured = { manifest: "aa".repeat(32), description: "bb".repeat(32) };
const now = Date.parse("2026-06-01T12:00:00Z");

const release = (n: number, previous: string | null, changes: object = {}, by: Signer[] = [a!, b!]) =>
  signedBy(
    writeStatement("release", [measured.manifest, measured.description], {
      app: id,
      generation: 0,
      release: n,
      previous,
      minimum: 1,
      notBefore: "2026-05-01T00:00:00Z",
      expires: "2026-08-01T00:00:00Z",
      notes: "",
      ...changes,
    }),
    ...by,
  );
const hashOf = async (envelope: Envelope) => (await readStatement("release", envelope)).hash;
const revocation = (changes: object = {}, by = stop!) =>
  signedBy(
    writeStatement("revocation", [id], { app: id, releases: [1], generations: [], reason: "", ...changes }),
    by,
  );
const rebuild = (release: string, manifest = measured.manifest, by = builder!, finished = "00") =>
  signedBy(
    writeStatement("rebuild", [manifest], {
      app: id,
      release,
      lock: "01".repeat(32),
      toolchain: "02".repeat(32),
      caisson: "0.1.0",
      system: "Debian 13",
      finished: `2026-05-31T12:00:${finished}Z`,
    }),
    by,
  );
const secretsDocument = {
  app: id,
  kms: "0a".repeat(32),
  keyVersion: 1,
  number: 1,
  previous: null as string | null,
  minimumRelease: 1,
  expires: "2026-08-01T00:00:00Z",
  entries: { DB_URL: { enc: "03".repeat(32), ciphertext: "04".repeat(20) } },
};
const secrets = (changes: object = {}, by = giver!) =>
  signedBy(writeSecrets({ ...secretsDocument, ...changes }), by);
const handover = signedBy(
  {
    payload: writeCanonical({ ...document, generation: 1, previous: id, owners: keysOf(2, b!, c!) }),
    payloadType: identityPayloadType,
  },
  a!,
  b!,
  c!,
);

const one = release(1, null);
const two = release(2, await hashOf(one), { minimum: 2 });
const begun = await beginApplication(first);
const released = await advance(begun, "release", one);
const upgraded = await advance(released, "release", two);

test("a life: releases, a handover, a revocation, rebuilds, secrets", async () => {
  let life: Application = upgraded;
  equal(life.floor.minimum, 2);
  life = await advance(life, "rebuild", rebuild(await hashOf(two)));
  life = await advance(life, "secrets", secrets());
  const { hash } = await readSecrets(secrets(), id, life.identity);
  life = await advance(life, "secrets", secrets({ number: 2, previous: hash }));
  // Another KMS has a row of its own.
  life = await advance(life, "secrets", secrets({ kms: "0b".repeat(32) }));
  life = await advance(life, "revocation", revocation());
  life = await advance(life, "identity", handover);
  const third = release(3, await hashOf(two), { generation: 1, minimum: 2 }, [b!, c!]);
  life = await advance(life, "release", third);
  deepEqual([...life.releases.keys()], [1, 2, 3]);
  equal(life.floor.generation, 1);
  deepEqual([...life.floor.releases], [1]);
  deepEqual(
    [...life.secrets.values()].map(({ number }) => number),
    [2, 1],
  );
  equal(life.rebuilds.length, 1);
  deepEqual(await readApplication(JSON.parse(JSON.stringify(writeApplication(life)))), life);
  // A minimum leaves rebuilds behind that nobody will ask about.
  const fourth = release(4, await hashOf(third), { generation: 1, minimum: 3 }, [b!, c!]);
  deepEqual((await advance(life, "release", fourth)).rebuilds, []);
});

test("a rebuilder's many results are two at most, and of a release that is there", async () => {
  let life = upgraded;
  const of = await hashOf(two);
  const said = (subject: string, finished: string) =>
    advance(life, "rebuild", rebuild(of, subject, builder!, finished));
  life = await said(measured.manifest, "01");
  equal((await said(measured.manifest, "02")).rebuilds.length, 1);
  life = await said("0c".repeat(32), "03");
  for (const other of ["0c", "0d", "0e"]) equal((await said(other.repeat(32), "04")).rebuilds.length, 2);
  // Of a release that the minimum has left behind nothing is kept.
  equal((await advance(life, "rebuild", rebuild(await hashOf(one)))).rebuilds.length, 2);
  await rejects(advance(life, "rebuild", rebuild("0f".repeat(32))), { code: "log/proof" });
});

test("what was known of an application: any JSON in its fields is read, or refused with a code", async () => {
  const known = JSON.parse(JSON.stringify(writeApplication(upgraded))) as object;
  const property = fc.asyncProperty(
    fc.constantFrom(...Object.keys(known)),
    fc.jsonValue(),
    async (field, value) => {
      try {
        await readApplication({ ...known, [field]: value });
      } catch (error) {
        if (!(error instanceof ReleaseError)) throw error;
      }
    },
  );
  await fc.assert(property, { numRuns: 300 });
});

const refused: [
  name: string,
  from: Application,
  kind: (typeof entryKinds)[number],
  envelope: Envelope,
  code: string,
][] = [
  ["a release left out", begun, "release", two, "release/previous"],
  ["the same release again", released, "release", one, "release/previous"],
  [
    "a second release of a number",
    released,
    "release",
    release(1, null, { notes: "other" }),
    "release/previous",
  ],
  [
    "a minimum that falls",
    upgraded,
    "release",
    release(3, await hashOf(two), { minimum: 1 }),
    "release/previous",
  ],
  ["one owner alone", begun, "release", release(1, null, {}, [a!]), "release/signature"],
  ["one owner twice", begun, "release", release(1, null, {}, [a!, a!]), "release/signature"],
  [
    "a release of another application",
    begun,
    "release",
    release(1, null, { app: "00".repeat(32) }),
    "release/app",
  ],
  [
    "a release of a later generation",
    begun,
    "release",
    release(1, null, { generation: 1 }),
    "release/generation",
  ],
  ["a revocation by an owner", begun, "revocation", revocation({}, a), "release/signature"],
  ["a revocation as release", begun, "release", revocation(), "release/malformed"],
  ["a release as revocation", begun, "revocation", one, "release/malformed"],
  [
    "a rebuild by an owner",
    released,
    "rebuild",
    rebuild(await hashOf(one), undefined, a),
    "rebuild/threshold",
  ],
  ["secrets by an owner", begun, "secrets", secrets({}, a), "secrets/signature"],
  ["unsigned secrets", begun, "secrets", { ...secrets(), signatures: [] }, "secrets/signature"],
  [
    "secrets left out",
    begun,
    "secrets",
    secrets({ number: 2, previous: "00".repeat(32) }),
    "secrets/previous",
  ],
  [
    "secrets with a number left out",
    begun,
    "secrets",
    secrets({ number: 2, previous: null }),
    "secrets/previous",
  ],
  ["secrets of another application", begun, "secrets", secrets({ app: "00".repeat(32) }), "secrets/app"],
  [
    "a handover without the old owner",
    begun,
    "identity",
    { ...handover, signatures: handover.signatures.slice(1) },
    "identity/threshold",
  ],
  ["a handover again", await advance(begun, "identity", handover), "identity", handover, "identity/chain"],
];
for (const [name, from, kind, envelope, code] of refused) {
  test(`does not follow: ${name}`, () => rejects(advance(from, kind, envelope), { code }));
}

test("an application does not begin with a later generation", () =>
  rejects(beginApplication(handover.payload), { code: "identity/chain" }));

test("entries of a log have one spelling each", () => {
  for (const kind of entryKinds) {
    const entry = { kind, app: id, hash: "07".repeat(32) };
    deepEqual(readLogEntry(logEntry(kind, entry.app, entry.hash)), entry);
  }
  const good = logEntry("release", id, "07".repeat(32));
  const property = fc.property(fc.nat(good.length - 73), fc.integer({ min: 1, max: 255 }), (at, change) => {
    const bytes = Uint8Array.from(good);
    bytes[at]! ^= change;
    throws(() => readLogEntry(bytes), { code: "log/malformed" });
  });
  fc.assert(property);
  for (let end = 0; end < good.length; end++) {
    throws(() => readLogEntry(good.subarray(0, end)), { code: "log/malformed" });
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      throws(() => readLogEntry(bytes), { code: "log/malformed" });
    }),
  );
});

const bundle: Bundle = {
  identity: first,
  generations: [],
  release: one,
  rebuilds: [rebuild(await hashOf(one))],
  revocations: [],
};
const asked = { id, measured, now, floor: emptyFloor, maximumLogAgeMs: 1000, rebuilds: [] };

test("a bundle is judged as what it carries, and says what is known since", async () => {
  const written = JSON.parse(
    JSON.stringify(writeBundle({ ...bundle, manifest: new TextEncoder().encode("{}") })),
  );
  const { release: accepted, floor } = await judgeBundle(readBundle(written), asked);
  equal(accepted.predicate.release, 1);
  deepEqual(floor, { ...emptyFloor, identity: id, minimum: 1 });
});

test("another document of the newest generation than the known one is refused", async () => {
  const known = { ...emptyFloor, identity: "0a".repeat(32) };
  await rejects(judgeBundle(bundle, { ...asked, floor: known }), { code: "identity/chain" });
  await judgeBundle(bundle, { ...asked, floor: { ...known, identity: id } });
});

test("what a bundle carries against itself counts", async () => {
  await rejects(judgeBundle({ ...bundle, revocations: [revocation()] }, asked), { code: "release/revoked" });
  await rejects(judgeBundle({ ...bundle, revocations: [revocation({}, a)] }, asked), {
    code: "release/signature",
  });
  await rejects(judgeBundle({ ...bundle, rebuilds: [] }, asked), { code: "rebuild/threshold" });
  const other = await readStatement("rebuild", rebuild(await hashOf(one), "00".repeat(32)));
  // Hidden by whoever carries the bundle, and known from a log.
  await rejects(judgeBundle(bundle, { ...asked, rebuilds: [other] }), { code: "rebuild/differs" });
  await rejects(judgeBundle({ ...bundle, identity: new TextEncoder().encode("{}") }, asked), {
    code: "identity/malformed",
  });
  await rejects(judgeBundle(bundle, { ...asked, id: "00".repeat(32) }), { code: "identity/hash" });
});

const written = JSON.parse(JSON.stringify(writeBundle(bundle))) as Record<string, unknown>;
for (const [name, value] of [
  ["another version", { ...written, version: "caisson/bundle/v2" }],
  ["an unknown field", { ...written, more: 1 }],
  ["a prototype", JSON.parse('{"__proto__":{},"version":"caisson/bundle/v1"}')],
  ["no identity", { ...written, identity: undefined }],
  ["too many rebuilds", { ...written, rebuilds: Array(33).fill(writeEnvelope(one)) }],
  ["a list", []],
  ["nothing", null],
] as const) {
  test(`not a bundle: ${name}`, () => throws(() => readBundle(value), { code: "bundle/malformed" }));
}

test("any JSON in a bundle's fields: read, or refused with a code", () => {
  const property = fc.property(fc.constantFrom(...Object.keys(written)), fc.jsonValue(), (field, value) => {
    try {
      readBundle({ ...written, [field]: value });
    } catch (error) {
      if (!(error instanceof ReleaseError)) throw error;
    }
  });
  fc.assert(property, { numRuns: 500 });
});

test("permuted, doubled and foreign signatures change nothing; a lost one is missed", async () => {
  const extra = signedBy(one, c!).signatures;
  const all = fc.shuffledSubarray([...one.signatures, ...one.signatures, ...extra], { minLength: 1 });
  const property = fc.asyncProperty(all, async (signatures) => {
    const have = one.signatures.filter((signature) => signatures.includes(signature)).length;
    const judged = judgeBundle({ ...bundle, release: { ...one, signatures } }, asked);
    if (have === 2) await judged;
    else await rejects(judged, { code: "release/signature" });
  });
  await fc.assert(property, { numRuns: 60 });
});

const set = await readSecrets(
  secrets({ number: 3, previous: "05".repeat(32), minimumRelease: 2 }),
  id,
  begun.identity,
);
const wanted = {
  kms: secretsDocument.kms,
  keyVersion: 1,
  release: 2,
  names: ["DB_URL"],
  newest: undefined as { number: number; hash: string } | undefined,
  now,
};

test("a set in good order is given; so is the one that is known", () => {
  judgeSecrets(set, wanted);
  judgeSecrets(set, { ...wanted, newest: { number: 3, hash: set.hash } });
  judgeSecrets(set, { ...wanted, newest: { number: 2, hash: "05".repeat(32) } });
});

for (const [name, change, code] of [
  ["of another KMS", { kms: "00".repeat(32) }, "secrets/kms"],
  ["for another key", { keyVersion: 2 }, "secrets/key-version"],
  ["expired this second", { now: Date.parse(secretsDocument.expires) }, "secrets/expired"],
  ["replayed", { newest: { number: 4, hash: "00".repeat(32) } }, "secrets/old"],
  ["of a number that another set has", { newest: { number: 3, hash: "00".repeat(32) } }, "secrets/previous"],
  ["for later releases", { release: 1 }, "secrets/release"],
  ["with one too few", { names: ["DB_URL", "TOKEN"] }, "secrets/names"],
  ["with one too many", { names: [] }, "secrets/names"],
] as const) {
  test(`secrets not given: ${name}`, () =>
    throws(() => judgeSecrets(set, { ...wanted, ...change }), { code }));
}
