// SPDX-License-Identifier: Apache-2.0
/**
 * Judging a release: two of three owners, a proof of logging that three witnesses cosigned, two rebuilds. How long it
 * takes, how many bytes carry it, how both grow with the log; what a release costs a KMS; and how fast a log takes entries
 * that are on disk before they are answered.
 */
import { createHash, generateKeyPairSync } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Row } from "@caisson/cli/commands/bench";
import { Exchanges } from "@caisson/kms/testing/exchanges";
import { Machine } from "@caisson/kms/testing/machine";
import {
  type Following,
  Frontier,
  followLog,
  LogWriter,
  leafOf,
  type NoteSigningKey,
  noteSigner,
  openLogDirectory,
  readFollowing,
  writeFollowing,
} from "@caisson/log";
import {
  emptyFloor,
  identityPayloadType,
  judgeBundle,
  leafHash,
  logEntry,
  nodeHash,
  readBundle,
  readTrustPolicy,
  tilePath,
  tileWidth,
  writeBundle,
  writeCheckpoint,
  writeEntries,
} from "@caisson/releases";
import { hashOf, keysOf, Owners } from "@caisson/releases/testing/owners";
import { signer } from "@caisson/releases/testing/signers";
import { median } from "./figures/figures.ts";

const now = Date.parse("2026-06-01T12:00:00Z");
const rebuilders = ["r1", "r2", "r3"].map((name) => signer(name));
const newKey = (name: string, kind: "note" | "cosignature") =>
  noteSigner(name, kind, generateKeyPairSync("ed25519").privateKey);

/** An application whose releases are logged, witnessed by three and rebuilt by two. */
async function application() {
  const log = await newKey("log.example", "note");
  const witnesses = await Promise.all(
    ["w0", "w1", "w2"].map((name) => newKey(`${name}.example`, "cosignature")),
  );
  const lines = witnesses.map(({ verifier }, i) => `witness w${i} ${verifier}\n`).join("");
  const policy = `log ${log.verifier}\n${lines}group all all w0 w1 w2\nquorum all\n`;
  const owners = new Owners(now, "bench", { log: { policy }, rebuild: keysOf(2, ...rebuilders) });
  return { owners, log, witnesses };
}

/** A bundle whose proof shows that the release is the first of 2^height entries, the others of which nobody needs. */
async function bundleText(
  { owners, log, witnesses }: Awaited<ReturnType<typeof application>>,
  subjects: readonly [string, string],
  height: number,
  notes = "",
): Promise<string> {
  const release = owners.release(subjects, { notes });
  const path = await Promise.all(Array.from({ length: height }, (_, i) => leafHash(Uint8Array.of(i))));
  let root = await leafHash(logEntry("release", owners.id, hashOf(release.payload)));
  for (const sibling of path) root = await nodeHash(root, sibling);
  const text = writeCheckpoint({ origin: "log.example", size: 2 ** height, root });
  const signed = await Promise.all([log.line(text), ...witnesses.map((one) => one.line(text, now / 1000))]);
  const proof = { index: 0, path, checkpoint: `${text}\n${signed.join("")}` };
  const rebuilds = rebuilders.slice(0, 2).map((one) => owners.rebuild(release, subjects[0], one));
  return JSON.stringify(writeBundle(owners.bundle(release, undefined, { proof, rebuilds })));
}

/** Judges bundles from their texts, as whoever gets them does; ms for one, the median. */
async function judged(
  texts: readonly string[],
  id: string,
  measured: { manifest: string; description: string },
) {
  const once = (text: string) =>
    judgeBundle(readBundle(JSON.parse(text)), {
      id,
      measured,
      now,
      floor: emptyFloor,
      maximumLogAgeMs: 1000,
      rebuilds: [],
    });
  const spent: number[] = [];
  for (const text of texts) {
    const started = performance.now();
    await once(text);
    spent.push(performance.now() - started);
  }
  return median(spent);
}

/** Entries a second, on disk each before it is answered: `together` of them asked for at a time. */
async function appends(count: number, together: number): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "caisson-bench-log-"));
  try {
    const writer = await LogWriter.open(directory, await newKey("log.example", "note"));
    const all = Array.from({ length: count }, (_, i) => new Owners(now, `app-${i}`));
    const started = performance.now();
    for (let at = 0; at < count; at += together) {
      await Promise.all(
        all
          .slice(at, at + together)
          .map(({ id, first }) =>
            writer.add("identity", id, { payload: first, payloadType: identityPayloadType, signatures: [] }),
          ),
      );
    }
    // What is synchronized later counts, too.
    await writer.close();
    return count / ((performance.now() - started) / 1000);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/**
 * A log of so many entries as far as whoever goes on from it reads it: the right edge, of entries that nobody needs. No
 * machine here writes ten million.
 */
async function edgeOfLog(directory: string, size: number, key: NoteSigningKey): Promise<Following> {
  await (await LogWriter.open(directory, key)).close();
  const app = new Owners(now, "edge");
  const entries = Array.from({ length: size % tileWidth }, (_, i) =>
    logEntry("identity", app.id, hashOf(Uint8Array.of(i))),
  );
  const levels = Array.from({ length: Math.ceil(Math.log2(size) / 8) }, (_, level) => {
    const width = Math.floor(size / tileWidth ** level) % tileWidth;
    const hashes =
      level === 0
        ? entries.map(leafOf)
        : Array.from({ length: width }, (_, i) => leafOf(Uint8Array.of(level, i)));
    return { level, hashes, leaves: tileWidth ** level };
  });
  const put = (path: string, content: Uint8Array) => {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), content);
  };
  for (const { level, hashes, leaves } of levels) {
    const tile = Math.floor(size / leaves / tileWidth);
    if (hashes.length > 0) put(tilePath(level, tile, hashes.length), Buffer.concat(hashes));
  }
  put(tilePath("entries", Math.floor(size / tileWidth), entries.length), writeEntries(entries));
  const frontier = Frontier.of(levels);
  const checkpoint = { origin: key.key.name, size, root: frontier.root() };
  const text = writeCheckpoint(checkpoint);
  const note = `${text}\n${await key.line(text)}`;
  for (const name of ["committed", "checkpoint"]) writeFileSync(join(directory, name), note);
  const known = new DatabaseSync(join(directory, "known.sqlite"));
  known.prepare("INSERT OR REPLACE INTO tree VALUES (1, ?)").run(note);
  known.close();
  return {
    checkpoint,
    note,
    seen: undefined,
    frontier,
    wanted: undefined,
    applications: new Map(),
    passedOver: [],
  };
}

/** How long a writer needs to start on a log of `size` entries, and who kept a reading of it to read ten more; ms. */
async function starts(size: number, times: number): Promise<{ writer: number; follower: number }> {
  const directory = mkdtempSync(join(tmpdir(), "caisson-bench-start-"));
  try {
    const key = await newKey("log.example", "note");
    const kept = JSON.stringify(writeFollowing(await edgeOfLog(directory, size, key)));
    const policy = readTrustPolicy(`log ${key.verifier}\nquorum none\n`);
    const spent: Record<"writer" | "follower", number[]> = { writer: [], follower: [] };
    for (let i = 0; i < times; i++) {
      const started = performance.now();
      const writer = await LogWriter.open(directory, key);
      spent.writer.push(performance.now() - started);
      if (i === 0) {
        for (const { id, first } of Array.from({ length: 10 }, (_, one) => new Owners(now, `more-${one}`))) {
          await writer.add("identity", id, {
            payload: first,
            payloadType: identityPayloadType,
            signatures: [],
          });
        }
      }
      await writer.close();
    }
    for (let i = 0; i < times; i++) {
      const started = performance.now();
      const before = await readFollowing(JSON.parse(kept), policy, now);
      const { checkpoint } = await followLog(openLogDirectory(directory), policy, { now, before });
      spent.follower.push(performance.now() - started);
      if (checkpoint.size !== size + 10) throw new Error(`${checkpoint.size} entries`);
    }
    return { writer: median(spent.writer), follower: median(spent.follower) };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** What the disk allows: small writes a second with an fsync each. */
function syncs(count: number): number {
  const directory = mkdtempSync(join(tmpdir(), "caisson-bench-sync-"));
  const file = openSync(join(directory, "file"), "w");
  try {
    const started = performance.now();
    for (let i = 0; i < count; i++) {
      writeSync(file, "one entry of some hundred bytes".repeat(5));
      fsyncSync(file);
    }
    return count / ((performance.now() - started) / 1000);
  } finally {
    closeSync(file);
    rmSync(directory, { recursive: true });
  }
}

/**
 * Processor ms of one release by a KMS: without an identity, with one, and with a bundle of which it has seen nothing. One
 * after the other, `times` each, so that all have the same machine; medians.
 */
async function kmsCost(times: number): Promise<{ plain: number; again: number; first: number }> {
  const app = await application();
  const released = new Machine(now, "bench", 0, { identity: app.owners.id });
  const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  const subjects = [hash(released.manifest), hash(released.description)] as const;
  const bundleOf = async (notes: string) => ({
    ...(JSON.parse(await bundleText(app, subjects, 20, notes)) as object),
    manifest: new TextDecoder().decode(released.manifest),
  });
  const known = await bundleOf("known");
  const [without, withOne] = [
    await Exchanges.open(new Machine(now), now),
    await Exchanges.open(released, now),
  ];
  const spend = async (exchanges: Exchanges, release: object | undefined): Promise<number> => {
    const request = await exchanges.request(release);
    const before = process.cpuUsage();
    const answer = await exchanges.answer(request);
    const { user, system } = process.cpuUsage(before);
    if (answer.outcome !== "released") throw new Error(answer.message);
    return (user + system) / 1000;
  };
  const spent: Record<"plain" | "again" | "first", number[]> = { plain: [], again: [], first: [] };
  try {
    for (let i = 0; i < times; i++) {
      spent.plain.push(await spend(without, undefined));
      spent.again.push(await spend(withOne, known));
      spent.first.push(await spend(withOne, await bundleOf(`${i}`)));
    }
  } finally {
    await Promise.all([without.close(), withOne.close()]);
  }
  const { plain, again, first } = spent;
  return { plain: median(plain), again: median(again), first: median(first) };
}

export async function* run(times = 500): AsyncIterable<Row> {
  const app = await application();
  const measured = { manifest: "aa".repeat(32), description: "bb".repeat(32) };
  const subjects = [measured.manifest, measured.description] as const;
  // No signature is one that was judged before.
  let judgements = 0;
  const of = async (height: number) => {
    const notes = Array.from({ length: times }, () => `${judgements++}`);
    const texts = await Promise.all(notes.map((one) => bundleText(app, subjects, height, one)));
    const ms = await judged(texts, app.owners.id, measured);
    const again = await judged(Array<string>(times).fill(texts.at(-1)!), app.owners.id, measured);
    return { ms, again, bytes: texts[0]!.length };
  };
  await of(20);
  const { ms, again, bytes } = await of(20);
  yield { name: "releases: judging a bundle, proof of 20 hashes", unit: "ms", ours: ms, limit: 3 };
  yield {
    name: "releases: judging it again",
    unit: "ms",
    ours: again,
    peer: ms,
    note: "peer: the first time; signatures that were verified are remembered",
  };
  yield { name: "releases: a bundle without manifest", unit: "bytes", ours: bytes, limit: 12_000 };
  const small = await of(10);
  for (const height of [17, 24]) {
    const grown = await of(height);
    const [name, note] = [`a log of ${2 ** height}`, "peer: a log of 1024"];
    yield { name: `releases: judging, ${name}`, unit: "ms", ours: grown.ms, peer: small.ms, note };
    yield { name: `releases: a bundle, ${name}`, unit: "bytes", ours: grown.bytes, peer: small.bytes, note };
  }
  const kms = await kmsCost(Math.max(9, times / 5));
  const note = `processor time; ${kms.plain.toFixed(2)} ms without an identity`;
  yield { name: "releases: more for a KMS", unit: "ms", ours: kms.again - kms.plain, limit: 2, note };
  yield {
    name: "releases: more for a KMS, a release it has not seen",
    unit: "ms",
    ours: kms.first - kms.plain,
    peer: kms.again - kms.plain,
    note: "peer: one that it has",
  };
  const few = await starts(1000, Math.max(5, times / 20));
  for (const size of [1e5, 1e7]) {
    const grown = await starts(size, Math.max(5, times / 20));
    const about = { unit: "ms", note: "peer: a log of 1000" } as const;
    yield {
      name: `releases: a writer's start, a log of ${size}`,
      ...about,
      ours: grown.writer,
      peer: few.writer,
    };
    yield {
      name: `releases: reading on, a log of ${size}`,
      ...about,
      ours: grown.follower,
      peer: few.follower,
    };
  }
  const disk = syncs(200);
  yield {
    name: "releases: appends, one at a time",
    unit: "/s",
    ours: await appends(Math.max(20, times), 1),
    peer: disk,
    limit: 200,
    note: "peer: writes with fsync; limit: at least",
  };
  yield {
    name: "releases: appends, 64 at a time",
    unit: "/s",
    ours: await appends(Math.max(64, 2 * times), 64),
    limit: 200,
    note: "limit: at least",
  };
}
