// SPDX-License-Identifier: Apache-2.0
/** A log of one application's life: written, witnessed, served, followed; and every way in which one of them cheats. */
import { deepEqual, equal, notEqual, ok, rejects } from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { cpSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import {
  type Envelope,
  identityPayloadType,
  leafHash,
  logEntry,
  readCheckpoint,
  readNote,
  readTrustPolicy,
  treeRoot,
  verifyConsistency,
  verifyLogged,
  writeEnvelope,
} from "@caisson/releases";
import { hashOf, keysOf, Owners } from "@caisson/releases/testing/owners";
import { signer } from "@caisson/releases/testing/signers";
import { Failure } from "@caisson/vocabulary/failure";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import fc from "fast-check";
import { fetchLog, type LogSource, openLogDirectory } from "./client.ts";
import { followLog, proveRelease, readFollowing, writeFollowing } from "./follow.ts";
import { type NoteSigningKey, noteSigner, noteSigningKey } from "./keys.ts";
import { serveLog, serveWitness } from "./server.ts";
import { Frontier, leafOf } from "./tree.ts";
import { Witness } from "./witness.ts";
import { LogWriter } from "./writer.ts";

const now = Date.parse("2026-06-01T12:00:00Z");
const newKey = (name: string, kind: "note" | "cosignature") =>
  noteSigner(name, kind, generateKeyPairSync("ed25519").privateKey);
const logKey = await newKey("log.example/one", "note");
const witnessKeys = await Promise.all(
  ["w1", "w2", "w3"].map((name) => newKey(`${name}.example`, "cosignature")),
);
const policyOf = (log: NoteSigningKey, quorum = "none", witnesses: readonly NoteSigningKey[] = []) =>
  readTrustPolicy(
    [
      `log ${log.verifier}`,
      ...witnesses.map(({ verifier }, i) => `witness w${i} ${verifier}`),
      ...(quorum === "none" ? [] : [`group q ${quorum} ${witnesses.map((_, i) => `w${i}`).join(" ")}`]),
      `quorum ${quorum === "none" ? "none" : "q"}`,
    ].join("\n"),
  );
const policy = policyOf(logKey);

const builder = signer("builder");
const owners = new Owners(now, "payments", { rebuild: keysOf(1, builder) });
const begin = (of = owners): Envelope => ({
  payload: of.first,
  payloadType: identityPayloadType,
  signatures: [],
});
const subjects: [string, string] = ["aa".repeat(32), "bb".repeat(32)];
const one = owners.release(subjects);
const two = owners.release(subjects, { release: 2, previous: hashOf(one.payload), minimum: 2 });

const place = (t: TestContext): string => {
  const directory = temporaryDirectory("log", t);
  return directory;
};

/** A log with an identity and two releases. */
async function life(directory: string): Promise<LogWriter> {
  const writer = await LogWriter.open(directory, logKey);
  await writer.add("identity", owners.id, begin());
  await writer.add("release", owners.id, one);
  await writer.add("release", owners.id, two);
  return writer;
}

test("the right edge of a tree has the root of the whole tree, at any size", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 300 }), async (size) => {
      const leaves = Array.from({ length: size }, (_, i) => leafOf(Uint8Array.of(i & 255, i >> 8)));
      const frontier = new Frontier();
      for (const leaf of leaves) frontier.add(leaf);
      const read = async (height: number, index: number): Promise<Uint8Array> => {
        const complete = new Frontier();
        for (const leaf of leaves.slice(index * 2 ** height, (index + 1) * 2 ** height)) complete.add(leaf);
        return complete.root();
      };
      equal(frontier.root().toHex(), (await treeRoot(read, size)).toHex());
    }),
    { numRuns: 30 },
  );
  deepEqual(leafOf(Uint8Array.of(1)), await leafHash(Uint8Array.of(1)));
});

test("documents have their places, the same one when they come again, and a reopened log goes on", async (t) => {
  const directory = place(t);
  const writer = await life(directory);
  equal(writer.checkpoint.size, 3);
  equal(await writer.add("release", owners.id, one), 1);
  // Other signatures, same document.
  equal(await writer.add("release", owners.id, owners.release(subjects, {}, [owners.b, owners.c])), 1);
  const again = await LogWriter.open(directory, logKey);
  deepEqual(again.checkpoint, writer.checkpoint);
  equal(await again.add("revocation", owners.id, owners.revocation([1])), 3);
  equal((await again.application(owners.id))?.floor.minimum, 2);
});

test("what does not follow is refused with its code, and has no place", async (t) => {
  const directory = place(t);
  const writer = await life(directory);
  const other = new Owners(now, "other");
  for (const [kind, app, envelope, code] of [
    ["release", other.id, other.release(subjects), "identity/chain"],
    ["identity", owners.id, begin(other), "identity/chain"],
    ["identity", "00".repeat(32), begin(other), "identity/hash"],
    ["release", owners.id, owners.release(subjects, { release: 4 }), "release/previous"],
    [
      "release",
      owners.id,
      owners.release(subjects, { release: 2, previous: hashOf(one.payload), notes: "twin" }),
      "release/previous",
    ],
    ["revocation", owners.id, owners.revocation([1], [], other.stop), "release/signature"],
    ["release", owners.id, begin(), "envelope/malformed"],
  ] as const) {
    await rejects(writer.add(kind, app, envelope), { code });
  }
  equal(writer.checkpoint.size, 3);
});

test("a whole life is followed, in two steps, and proves its releases", async (t) => {
  const directory = place(t);
  const writer = await life(directory);
  const source = openLogDirectory(directory);
  const before = await followLog(source, policy, { now });
  deepEqual(
    [...before.applications.get(owners.id)!.releases],
    [
      [1, hashOf(one.payload)],
      [2, hashOf(two.payload)],
    ],
  );
  await writer.add("rebuild", owners.id, owners.rebuild(two, subjects[0], builder));
  await writer.add("revocation", owners.id, owners.revocation([2]));
  const after = await followLog(source, policy, { now, before });
  deepEqual([...after.applications.get(owners.id)!.floor.releases], [2]);
  equal(after.applications.get(owners.id)!.rebuilds.length, 1);
  equal(before.applications.get(owners.id)!.floor.releases.size, 0);
  const proof = await proveRelease(source, after, owners.id, hashOf(two.payload));
  await verifyLogged(logEntry("release", owners.id, hashOf(two.payload)), proof, policy, {
    now,
    maximumAgeMs: 1,
  });
  await rejects(proveRelease(source, after, owners.id, "00".repeat(32)), { code: "log/proof" });
});

test("what is kept of a reading is gone on from, and is not believed where its tree is not the signed one", async (t) => {
  const directory = place(t);
  const writer = await life(directory);
  const source = openLogDirectory(directory);
  const whole = await followLog(source, policy, { now });
  const kept = JSON.parse(JSON.stringify(writeFollowing(whole))) as Record<string, unknown>;
  deepEqual(await readFollowing(kept, policy, now), whole);
  await writer.add("revocation", owners.id, owners.revocation([2]));
  const before = await readFollowing(kept, policy, now);
  const after = await followLog(source, policy, { now, before });
  deepEqual(after, await followLog(source, policy, { now }));
  const peaks = [{ leaves: 3, hash: whole.checkpoint.root.toHex() }];
  for (const [field, value, code] of [
    ["version", "caisson/following/v2", "log-service/damaged"],
    ["peaks", [], "log-service/damaged"],
    ["peaks", (kept["peaks"] as object[]).toReversed(), "log-service/damaged"],
    ["peaks", peaks, "log-service/damaged"],
    ["note", "", "note/malformed"],
    ["note", after.note, "log-service/damaged"],
    ["note", whole.note.replace("\n3\n", "\n4\n"), "note/signature"],
    ["applications", [{}], "log/malformed"],
  ] as const) {
    await rejects(readFollowing({ ...kept, [field]: value }, policy, now), { code }, field);
  }
  const property = fc.asyncProperty(
    fc.constantFrom(...Object.keys(kept)),
    fc.jsonValue(),
    async (field, value) => {
      try {
        await readFollowing({ ...kept, [field]: value }, policy, now);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
      }
    },
  );
  await fc.assert(property, { numRuns: 200 });
});

test("only applications that are wanted are fetched", async (t) => {
  const directory = place(t);
  await life(directory);
  const read: string[] = [];
  const inner = openLogDirectory(directory);
  const source: LogSource = {
    name: "log",
    read: (path, limit) => (read.push(path), inner.read(path, limit)),
  };
  const { applications, checkpoint } = await followLog(source, policy, { now, wanted: new Set() });
  deepEqual([applications.size, checkpoint.size], [0, 3]);
  ok(!read.some((path) => path.startsWith("envelope/")));
});

test("more than one tile: entries that come together share commits; proofs and prefixes hold", async (t) => {
  const directory = place(t);
  const writer = await LogWriter.open(directory, logKey);
  const many = Array.from({ length: 600 }, (_, i) => new Owners(now, `app-${i}`));
  const places = await Promise.all(many.map((of) => writer.add("identity", of.id, begin(of))));
  deepEqual(
    places,
    many.map((_, i) => i),
  );
  const first = await followLog(openLogDirectory(directory), policy, { now, wanted: new Set() });
  const [size, root] = [first.checkpoint.size, first.checkpoint.root];
  equal(size, 600);
  for (const old of [1, 255, 256, 257, 512, 599]) {
    const prefix = new Frontier();
    for (const of of many.slice(0, old)) prefix.add(leafOf(logEntry("identity", of.id, hashOf(of.first))));
    const proof = await writer.consistency(old, size);
    ok(await verifyConsistency({ size: old, root: prefix.root() }, { size, root }, proof));
  }
  deepEqual((await LogWriter.open(directory, logKey)).checkpoint.root, root);
  deepEqual(readdirSync(join(directory, "tile/0")).sort(), ["000", "001", "002.p"]);
});

test("a start reads the right edge alone; what is known beside it is made again where it is lost or old", async (t) => {
  const directory = place(t);
  const known = join(directory, "known.sqlite");
  const writer = await LogWriter.open(directory, logKey);
  const many = Array.from({ length: 300 }, (_, i) => new Owners(now, `app-${i}`));
  const add = (to: LogWriter, of: Owners) => to.add("identity", of.id, begin(of));
  for (const of of many.slice(0, 30)) await add(writer, of);
  await writer.close();
  const old = readFileSync(known);
  const next = await LogWriter.open(directory, logKey);
  await Promise.all(many.slice(30).map((of) => add(next, of)));
  await next.close();
  for (const before of [() => {}, () => unlinkSync(known), () => writeFileSync(known, old)]) {
    before();
    const again = await LogWriter.open(directory, logKey);
    deepEqual(again.checkpoint, next.checkpoint);
    equal(await add(again, many[7]!), 7);
    await rejects(again.add("release", many[8]!.id, one), { code: "release/app" });
    await again.close();
  }
  // Nothing of the first tile is needed to go on.
  rmSync(join(directory, "tile/entries/000"));
  rmSync(join(directory, "tile/0/000"));
  rmSync(join(directory, "envelope"), { recursive: true });
  const last = await LogWriter.open(directory, logKey);
  equal(await last.add("release", many[9]!.id, many[9]!.release(subjects)), 300);
  await last.close();
  const altered = join(directory, "tile/0/001.p/45");
  const bytes = readFileSync(altered);
  bytes[3]! ^= 1;
  writeFileSync(altered, bytes);
  await rejects(LogWriter.open(directory, logKey), { code: "log-service/damaged" });
  writeFileSync(known, "not a database, and long enough to be taken for one".repeat(100));
  await rejects(LogWriter.open(directory, logKey), { code: "log-service/damaged" });
});

/** Asks a witness about a log's newest checkpoint. */
const body = (old: number, note: string, proof: readonly Uint8Array[] = []) =>
  [`old ${old}`, ...proof.map((hash) => hash.toBase64()), "", note].join("\n");

test("a witness cosigns what continues what it saw, and nothing else", async (t) => {
  const directory = place(t);
  const writer = await life(directory);
  const note = readFileSync(join(directory, "checkpoint"), "utf8");
  const seen = place(t);
  const witness = new Witness(seen, witnessKeys[0]!, [logKey.key], () => now);
  equal((await witness.add(body(1, note))).status, 409);
  const answer = await witness.add(body(0, note));
  equal(answer.status, 200);
  const cosigned = readNote(note + answer.body);
  equal(cosigned.signatures.length, 2);
  // Again: the same tree at a later time.
  equal((await witness.add(body(3, note))).status, 200);
  await writer.add("revocation", owners.id, owners.revocation([1]));
  const later = readFileSync(join(directory, "checkpoint"), "utf8");
  deepEqual(await witness.add(body(0, later)), { status: 409, body: "3\n" });
  equal((await witness.add(body(3, later, [new Uint8Array(32)]))).status, 422);
  equal((await witness.add(body(3, later))).status, 422);
  // A new process knows what the old one saw.
  const again = new Witness(seen, witnessKeys[0]!, [logKey.key], () => now);
  equal((await again.add(body(3, later, await writer.consistency(3, 4)))).status, 200);
  equal((await again.add(body(4, note))).status, 400);

  const stranger = await newKey("log.example/one", "note");
  const forged = note.split("\n\n")[0]!;
  equal((await again.add(body(4, `${forged}\n\n${await stranger.line(`${forged}\n`)}`))).status, 403);
  const unknown = await newKey("log.example/two", "note");
  const other = `${forged.replace("/one", "/two")}\n`;
  equal((await again.add(body(0, `${other}\n${await unknown.line(other)}`))).status, 404);
  for (const bad of [
    "",
    "old 3",
    "old -1\n\nx",
    "old 03\n\nx",
    `old 3\nAAAA\n\n${later}`,
    `old 4\n\n${forged}`,
  ]) {
    equal((await again.add(bad)).status, 400, bad);
  }
});

test("two histories of one size: the witness cosigns one of them", async (t) => {
  const [left, right] = [place(t), place(t)];
  await life(left);
  const forked = await LogWriter.open(right, logKey);
  for (const name of ["x", "y", "z"]) {
    const of = new Owners(now, name);
    await forked.add("identity", of.id, begin(of));
  }
  const witness = new Witness(place(t), witnessKeys[0]!, [logKey.key], () => now);
  const notes = [left, right].map((at) => readFileSync(join(at, "checkpoint"), "utf8"));
  equal((await witness.add(body(0, notes[0]!))).status, 200);
  equal((await witness.add(body(3, notes[1]!))).status, 409);
  // Who followed the one is shown the other.
  const before = await followLog(openLogDirectory(left), policy, { now });
  await forked.add("identity", owners.id, begin());
  await rejects(followLog(openLogDirectory(right), policy, { now, before }), { code: "log-service/fork" });
  const known = before.checkpoint;
  await rejects(followLog(openLogDirectory(right), policy, { now, known }), { code: "log-service/fork" });
});

test("a log that lost its end, or swapped, withheld or altered something, is not believed", async (t) => {
  const directory = place(t);
  const writer = await life(directory);
  const old = place(t);
  cpSync(directory, old, { recursive: true });
  await writer.add("revocation", owners.id, owners.revocation([2]));
  const source = openLogDirectory(directory);
  const before = await followLog(source, policy, { now });
  await rejects(followLog(openLogDirectory(old), policy, { now, before }), { code: "log-service/shrunk" });
  await rejects(followLog(openLogDirectory(old), policy, { now, known: before.checkpoint }), {
    code: "log-service/shrunk",
  });

  const revoked = hashOf(owners.revocation([2]).payload);
  const path = join(directory, "envelope", revoked);
  const whole = readFileSync(path);
  unlinkSync(path);
  await rejects(followLog(source, policy, { now }), { code: "log-service/envelope" });
  // Who does not want the application does not miss it.
  await followLog(source, policy, { now, wanted: new Set() });
  writeFileSync(path, JSON.stringify(writeEnvelope(one)));
  await rejects(followLog(source, policy, { now }), { code: "log-service/envelope" });
  writeFileSync(path, whole);
  await writer.close();
  const entries = join(directory, "tile/entries/000.p/4");
  const altered = readFileSync(entries);
  altered[altered.length - 1]! ^= 1;
  writeFileSync(entries, altered);
  await rejects(followLog(source, policy, { now }), (error: { code: string }) =>
    ["log-service/fork", "log-service/envelope"].includes(error.code),
  );
  await rejects(LogWriter.open(directory, logKey), { code: "log-service/damaged" });
});

test("a log of another key is not gone on with", async (t) => {
  const directory = place(t);
  await life(directory);
  await rejects(LogWriter.open(directory, await newKey("log.example/one", "note")), {
    code: "note/signature",
  }).catch(() => rejects(LogWriter.open(directory, witnessKeys[0]!), { code: "log-service/key" }));
});

test("served, witnessed by two of three over HTTP, and followed under that quorum", async (t) => {
  const directory = place(t);
  const witnesses = await Promise.all(
    witnessKeys.map((key) => serveWitness(new Witness(place(t), key, [logKey.key]), "127.0.0.1", 0)),
  );
  for (const one of witnesses) t.after(() => one.close());
  await witnesses[2]!.close();
  const addresses = witnesses.map(({ url }, i) => ({ url, key: witnessKeys[i]!.key }));
  const writer = await LogWriter.open(directory, logKey, addresses);
  const server = await serveLog(writer, directory, "127.0.0.1", 0);
  t.after(() => server.close());
  const add = async (kind: string, envelope: object, app = owners.id) => {
    const response = await fetch(new URL("add", server.url), {
      method: "POST",
      body: JSON.stringify({ kind, app, envelope }),
    });
    return [response.status, await response.json()];
  };
  deepEqual(await add("identity", writeEnvelope(begin())), [200, { index: 0 }]);
  deepEqual(await add("release", writeEnvelope(one)), [200, { index: 1 }]);
  const [status, refused] = await add("release", writeEnvelope(owners.release(subjects, { release: 3 })));
  deepEqual([status, (refused as { error: { code: string } }).error.code], [422, "release/previous"]);
  equal((await add("nonsense", {}))[0], 400);
  equal((await fetch(new URL("add", server.url), { method: "POST", body: "x".repeat(300_000) })).status, 413);

  const source = fetchLog(server.url);
  const following = await followLog(source, policyOf(logKey, "2", witnessKeys), { now: Date.now() });
  equal(following.checkpoint.size, 2);
  ok(Date.now() - following.seen! < 60_000);
  await rejects(followLog(source, policyOf(logKey, "3", witnessKeys), { now: Date.now() }), {
    code: "log/quorum",
  });
  for (const path of [
    "committed",
    "journal",
    "..%2fcommitted",
    "tile/0/../../committed",
    "envelope/x",
    "tile/0/1",
  ]) {
    equal((await fetch(new URL(path, server.url))).status, 404, path);
  }
  await server.close();
  await rejects(followLog(source, policy, { now }), { code: "log-service/unreachable" });
});

test("a key's file is made once, is its owner's alone, and stays", async (t) => {
  const path = join(place(t), "key");
  await rejects(noteSigningKey(path), { code: "log-service/key" });
  const made = await noteSigningKey(path, { name: "log.example", kind: "note" });
  equal((await noteSigningKey(path)).verifier, made.verifier);
  notEqual((await newKey("log.example", "note")).verifier, made.verifier);
  equal(readCheckpoint("log.example\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n").size, 0);
});
