// SPDX-License-Identifier: Apache-2.0
/**
 * The life of an application as drills on real machines: an image, its upgrade by other owners, the way back, a
 * revocation. Two of three owners sign; the KMS follows a log that a witness saw.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { type Built, readSpec } from "@caisson/image";
import {
  followLog,
  LogWriter,
  noteSigner,
  openLogDirectory,
  proveRelease,
  serveWitness,
  Witness,
} from "@caisson/log";
import { judgeFresh } from "@caisson/machine/relying-party";
import { type ImageOwners, type Session, startSession } from "@caisson/machine/session";
import { description } from "@caisson/protocol/guest-config";
import { seal } from "@caisson/protocol/hpke";
import { composeHash } from "@caisson/protocol/identity";
import {
  type Envelope,
  identityPayloadType,
  readTrustPolicy,
  sealBinding,
  writeBundle,
} from "@caisson/releases";
import { hashOf, keysOf, Owners } from "@caisson/releases/testing/owners";
import { readPolicy, readReferences } from "@caisson/verify";
import { toHex } from "@caisson/vocabulary/bytes";
import { references, shape } from "../support/image.ts";

const repository = new URL("../../", import.meta.url).pathname;
const place = mkdtempSync(join(tmpdir(), "caisson-drills-"));
const state = join(place, "state");
const limitMs = 600_000;

const newKey = (name: string, kind: "note" | "cosignature") =>
  noteSigner(name, kind, generateKeyPairSync("ed25519").privateKey);
const logKey = await newKey("log.example/drills", "note");
const witnessKey = await newKey("witness.example", "cosignature");
const policyText = `log ${logKey.verifier}\nwitness w ${witnessKey.verifier}\nquorum w\n`;
const policy = readTrustPolicy(policyText);
const owners = new Owners(Date.now(), "drill", { log: { policy: policyText } });
const rotated = owners.rotation({ owners: keysOf(2, owners.b, owners.c) });

/** What the application shows of itself: whose key it has, and what it was given. */
const application = `
import { createHash } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
const { createServer, request } = process.getBuiltinModule("node:http");
const call = (method, path, body) => new Promise((resolve, reject) => {
  const sent = request({ socketPath: "/run/caisson.sock", method, path }, async (response) => {
    let text = "";
    for await (const chunk of response) text += chunk;
    resolve(JSON.parse(text));
  });
  sent.once("error", reject).end(body && JSON.stringify(body));
});
const attempt = (action) => { try { return action(); } catch (error) { return error.code; } };
createServer(async (incoming, outgoing) => {
  const url = new URL(incoming.url, "http://x");
  if (url.pathname.startsWith("/.well-known")) {
    outgoing.end(JSON.stringify(await call("POST", "/evidence", { nonce: url.searchParams.get("nonce") })));
    return;
  }
  const { key } = await call("POST", "/key", { path: "data", purpose: "disk" });
  outgoing.end(JSON.stringify({
    key: createHash("sha256").update(key).digest("hex"),
    secret: readFileSync("/run/secrets/DB_URL", "utf8"),
    mode: (statSync("/run/secrets/DB_URL").mode & 0o777).toString(8),
    owner: statSync("/run/secrets/DB_URL").uid === process.getuid(),
    writing: attempt(() => writeFileSync("/run/secrets/DB_URL", "x")) ?? "written",
    token: process.env.API_TOKEN,
    others: Object.values(process.env).some((value) => value.includes("hunter2")),
  }));
}).listen(8080);
`;

/** An image of the application; another limit makes it another description. */
async function imageWith(name: string, memory: string): Promise<Built> {
  const directory = join(place, name);
  cpSync(join(repository, "examples/hello"), directory, {
    recursive: true,
    filter: (path) => !path.endsWith("/out"),
  });
  writeFileSync(join(directory, "app/server.mjs"), application);
  writeFileSync(join(directory, "identity.json"), owners.first);
  const spec = readFileSync(join(directory, "caisson.yaml"), "utf8").replace("256MiB", memory);
  const lines = "  identity: ./identity.json\n  secrets: [DB_URL, { name: TOKEN, environment: API_TOKEN }]\n";
  writeFileSync(join(directory, "caisson.yaml"), spec + lines);
  return prepare(await readSpec(directory), "development", {}, new Progress());
}

/** The digests that a release names. */
const subjectsOf = ({ payload }: Envelope): string[] =>
  (
    JSON.parse(new TextDecoder().decode(payload)) as { subject: { digest: { sha256: string } }[] }
  ).subject.map(({ digest }) => digest.sha256);

let log: LogWriter;
let witness: { url: string; close(): Promise<void> };
let images: { old: Built; next: Built };
/** Releases and sets of secrets in the order in which they were signed. */
const releases: Envelope[] = [];
const sets: Envelope[] = [];

before(async () => {
  witness = await serveWitness(new Witness(join(place, "witness"), witnessKey, [logKey.key]), "127.0.0.1", 0);
  log = await LogWriter.open(join(place, "log"), logKey, [{ url: witness.url, key: witnessKey.key }]);
  await log.add("identity", owners.id, {
    payload: owners.first,
    payloadType: identityPayloadType,
    signatures: [],
  });
  images = { old: await imageWith("old", "256MiB"), next: await imageWith("next", "320MiB") };
});
after(async () => {
  await witness.close();
  rmSync(place, { recursive: true, force: true });
});

/** Owners who release an image, or have released it, under a generation. */
function signing(
  release: (subjects: [string, string]) => Envelope,
  generations: readonly Envelope[],
): ImageOwners {
  return {
    id: owners.id,
    async release(manifest, description) {
      const envelope = release([hashOf(manifest), description]);
      if (!releases.includes(envelope)) {
        releases.push(envelope);
        await log.add("release", owners.id, envelope);
      }
      const number = releases.indexOf(envelope) + 1;
      const source = openLogDirectory(join(place, "log"));
      const following = await followLog(source, policy, { now: Date.now() });
      const proof = await proveRelease(source, following, owners.id, hashOf(envelope.payload));
      return { number, bundle: writeBundle(owners.bundle(envelope, manifest, { generations, proof })) };
    },
    async secrets(names, { kms, keyVersion, key }) {
      const number = sets.length + 1;
      const about = { app: owners.id, kms, keyVersion, number };
      const entries = names.map((name) => {
        const value = new TextEncoder().encode(`${name} hunter2 ${number}`);
        const { enc, ciphertext } = seal(Uint8Array.fromHex(key), value, sealBinding(about, name));
        return [name, { enc: enc.toHex(), ciphertext: ciphertext.toHex() }] as const;
      });
      const previous = sets.at(-1);
      const changes = {
        number,
        keyVersion,
        previous: previous === undefined ? null : hashOf(previous.payload),
      };
      const set = owners.secrets(kms, Object.fromEntries(entries), changes, [owners.b, owners.c]);
      sets.push(set);
      await log.add("secrets", owners.id, set);
      return set;
    },
  };
}

const start = async ({ directory, manifest }: Built, by: ImageOwners): Promise<Session> =>
  startSession({
    image: directory,
    manifest,
    shape,
    references: await references(directory),
    state,
    owners: by,
    follow: { source: openLogDirectory(join(place, "log")), policy },
    limitMs,
  });

interface Seen {
  key: string;
  secret: string;
  mode: string;
  owner: boolean;
  writing: string;
  token: string;
  others: boolean;
}

/** Boots until the application answers, judges its evidence from outside, and ends the machine. */
async function runs(built: Built, by: ImageOwners): Promise<Seen> {
  const session = await start(built, by);
  try {
    const ready = await session.vm.event(({ kind }) => kind === "ready");
    ok(ready?.kind === "ready", readFileSync(join(session.state, "console.log"), "utf8").slice(-2000));
    const report = await judgeFresh(await session.evidence(), {
      policy: readPolicy(session.policy),
      references: readReferences(session.references, "prediction"),
      collateral: session.collateral,
      now: new Date(),
    });
    equal(report.verdict, "accepted", report.codes.join());
    deepEqual(report.release?.hash, hashOf(releases.at(-1)!.payload));
    const measured = session.vm.events.find(
      (event) => event.kind === "measured" && event.event === "secrets",
    );
    equal(measured?.kind === "measured" && measured.payload, hashOf(sets.at(-1)!.payload));
    const answer = await fetch(session.url!, { signal: AbortSignal.timeout(30_000) });
    return (await answer.json()) as Seen;
  } catch (error) {
    // What the machine said last says why.
    process.stderr.write(readFileSync(join(session.state, "console.log"), "utf8").slice(-4000));
    throw error;
  } finally {
    await session.stop();
    ok(!readFileSync(join(session.state, "console.log"), "utf8").includes("hunter2"));
  }
}

/** Boots until the machine ends because its KMS gives it nothing; why. */
async function refused(built: Built, by: ImageOwners): Promise<string> {
  const session = await start(built, by);
  try {
    await session.vm.ended;
    const failed = session.vm.events.findLast((event) => event.kind === "stage" && event.state === "failed");
    ok(!session.vm.events.some((event) => event.kind === "measured" && event.event === "system-ready"));
    return failed?.kind === "stage" && failed.state === "failed" ? failed.reason : "it ran";
  } finally {
    await session.stop();
  }
}

const byOld = signing((subjects) => releases[0] ?? owners.release(subjects), []);
let first: Seen;

test("a released image has its key and its secrets, each for its user alone", async () => {
  first = await runs(images.old, byOld);
  match(first.key, /^[0-9a-f]{64}$/);
  equal(first.secret, "DB_URL hunter2 1");
  equal(first.token, "TOKEN hunter2 1");
  deepEqual([first.mode, first.owner], ["400", true]);
  ok(["EACCES", "EROFS", "EPERM"].includes(first.writing), first.writing);
});

const byNew = signing(
  (subjects) => {
    const known = releases.find((one) => one !== releases[0] && subjectsOf(one).join() === subjects.join());
    if (known !== undefined) return known;
    const number = releases.length + 1;
    const changes = {
      release: number,
      generation: 1,
      previous: hashOf(releases.at(-1)!.payload),
      minimum: number === 3 ? 3 : 1,
    };
    return owners.release(subjects, changes, [owners.b, owners.c]);
  },
  [rotated],
);

test("another image, released by other owners after a handover, reads what the old one derived", async () => {
  // As an administrator would have it tonight.
  mkdirSync(join(place, "backup"));
  cpSync(join(state, "kms"), join(place, "backup/kms"), { recursive: true });
  await log.add("identity", owners.id, rotated);
  // The new owners renew what runs, then release what is to follow it.
  const manifest = readFileSync(join(images.old.directory, "manifest.json"));
  const renewed = await byNew.release(
    manifest,
    toHex(composeHash(description(images.old.manifest.guest))),
    0,
  );
  equal(renewed.number, 2);
  const upgraded = await runs(images.next, byNew);
  equal(upgraded.key, first.key);
  equal(upgraded.secret, "DB_URL hunter2 2");
});

test("the old image gets nothing, from a KMS that was put back to yesterday's copy either", async () => {
  rmSync(join(state, "kms"), { recursive: true });
  cpSync(join(place, "backup/kms"), join(state, "kms"), { recursive: true });
  equal(await refused(images.old, byNew), "keys/denied/release/below-minimum");
});

test("a revoked release gets nothing as soon as the KMS has read its log", async () => {
  await log.add("revocation", owners.id, owners.revocation([3]));
  equal(await refused(images.next, byNew), "keys/denied/release/revoked");
});
