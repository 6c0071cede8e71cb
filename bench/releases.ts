// SPDX-License-Identifier: Apache-2.0
/**
 * Judging a release: two of three owners, a proof of logging that three witnesses cosigned, two rebuilds. How long it
 * takes, how many bytes carry it, how both grow with the log; what a release costs a KMS; and how fast a log takes entries
 * that are on disk before they are answered.
 */
import { createHash, generateKeyPairSync } from "node:crypto";
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Row } from "@caisson/cli/commands/bench";
import { Exchanges } from "@caisson/kms/testing/exchanges";
import { Machine } from "@caisson/kms/testing/machine";
import { LogWriter, noteSigner } from "@caisson/log";
import {
  emptyFloor,
  identityPayloadType,
  judgeBundle,
  leafHash,
  logEntry,
  nodeHash,
  readBundle,
  writeBundle,
  writeCheckpoint,
} from "@caisson/releases";
import { hashOf, keysOf, Owners } from "@caisson/releases/testing/owners";
import { signer } from "@caisson/releases/testing/signers";

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
): Promise<string> {
  const release = owners.release(subjects);
  const path = await Promise.all(Array.from({ length: height }, (_, i) => leafHash(Uint8Array.of(i))));
  let root = await leafHash(logEntry("release", owners.id, hashOf(release.payload)));
  for (const sibling of path) root = await nodeHash(root, sibling);
  const text = writeCheckpoint({ origin: "log.example", size: 2 ** height, root });
  const signed = await Promise.all([log.line(text), ...witnesses.map((one) => one.line(text, now / 1000))]);
  const proof = { index: 0, path, checkpoint: `${text}\n${signed.join("")}` };
  const rebuilds = rebuilders.slice(0, 2).map((one) => owners.rebuild(release, subjects[0], one));
  return JSON.stringify(writeBundle(owners.bundle(release, undefined, { proof, rebuilds })));
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** Judges a bundle from its text, as whoever gets it does; ms for one, the median of `times`. */
async function judged(
  text: string,
  id: string,
  measured: { manifest: string; description: string },
  times: number,
) {
  const once = () =>
    judgeBundle(readBundle(JSON.parse(text)), {
      id,
      measured,
      now,
      floor: emptyFloor,
      maximumLogAgeMs: 1000,
      rebuilds: [],
    });
  for (let i = 0; i < times / 5; i++) await once();
  const spent: number[] = [];
  for (let i = 0; i < times; i++) {
    const started = performance.now();
    await once();
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

/** Processor ms of one release by a KMS, with and without an identity; the median of `times`. */
async function kmsCost(times: number): Promise<{ plain: number; released: number }> {
  const app = await application();
  const released = new Machine(now, "bench", 0, { identity: app.owners.id });
  const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  const subjects = [hash(released.manifest), hash(released.description)] as const;
  const bundle = {
    ...(JSON.parse(await bundleText(app, subjects, 20)) as object),
    manifest: new TextDecoder().decode(released.manifest),
  };
  const one = async (machine: Machine, release: object | undefined) => {
    const exchanges = await Exchanges.open(machine, now);
    try {
      const spent: number[] = [];
      for (let i = 0; i < times; i++) {
        const request = await exchanges.request(release);
        const before = performance.now();
        const answer = await exchanges.answer(request);
        spent.push(performance.now() - before);
        if (answer.outcome !== "released") throw new Error(answer.message);
      }
      return median(spent);
    } finally {
      await exchanges.close();
    }
  };
  return { plain: await one(new Machine(now), undefined), released: await one(released, bundle) };
}

export async function* run(times = 500): AsyncIterable<Row> {
  const app = await application();
  const measured = { manifest: "aa".repeat(32), description: "bb".repeat(32) };
  const subjects = [measured.manifest, measured.description] as const;
  const of = async (height: number) => {
    const text = await bundleText(app, subjects, height);
    return { ms: await judged(text, app.owners.id, measured, times), bytes: text.length };
  };
  const { ms, bytes } = await of(20);
  yield { name: "releases: judging a bundle, proof of 20 hashes", unit: "ms", ours: ms, limit: 3 };
  yield { name: "releases: a bundle without manifest", unit: "bytes", ours: bytes, limit: 12_000 };
  const small = await of(10);
  for (const height of [17, 24]) {
    const grown = await of(height);
    const [name, note] = [`a log of ${2 ** height}`, "peer: a log of 1024"];
    yield { name: `releases: judging, ${name}`, unit: "ms", ours: grown.ms, peer: small.ms, note };
    yield { name: `releases: a bundle, ${name}`, unit: "bytes", ours: grown.bytes, peer: small.bytes, note };
  }
  const { plain, released } = await kmsCost(Math.max(9, times / 5));
  const more = released - plain;
  yield {
    name: "releases: more for a KMS",
    unit: "ms",
    ours: more,
    limit: 2,
    note: `${plain.toFixed(2)} ms without an identity`,
  };
  const disk = syncs(200);
  const note = "peer: writes with fsync";
  yield {
    name: "releases: appends, one at a time",
    unit: "/s",
    ours: await appends(Math.max(20, times), 1),
    peer: disk,
    limit: 200,
    note: `${note}; limit: at least`,
  };
  yield {
    name: "releases: appends, 64 at a time",
    unit: "/s",
    ours: await appends(Math.max(64, 2 * times), 64),
    limit: 200,
    note: "limit: at least",
  };
}
