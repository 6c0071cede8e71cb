// SPDX-License-Identifier: Apache-2.0
/**
 * Judging a release: two of three owners, a proof of logging that three witnesses cosigned, two rebuilds. How long it
 * takes, how many bytes carry it, and how both grow with the log.
 */

import { createHash } from "node:crypto";
import type { Row } from "@caisson/cli/commands/bench";
import {
  cosignedText,
  emptyFloor,
  followIdentity,
  judgeRelease,
  type LogProof,
  leafHash,
  logEntry,
  nodeHash,
  readEnvelope,
  readIdentity,
  readProof,
  readStatement,
  writeCanonical,
  writeCheckpoint,
  writeEnvelope,
  writeNoteKey,
  writeProof,
  writeSignature,
  writeStatement,
} from "@caisson/releases";
import { noteKeyOf, type Signer, signedBy, signer } from "@caisson/releases/testing/signers";

const now = Date.parse("2026-06-01T12:00:00Z");
const utf8 = (value: string) => new TextEncoder().encode(value);
const [log, ...witnesses] = ["log", "w1", "w2", "w3"].map((name) => signer(name));
const owners = [signer("a"), signer("b", "p256"), signer("c")];
const rebuilders = [signer("r1"), signer("r2"), signer("r3")];
const logKey = noteKeyOf("log.example", "note", log!);
const keysOf = (threshold: number, signers: readonly Signer[]) => ({
  threshold,
  keys: signers.map(({ publicKey }) => publicKey),
});
const measured = { manifest: "aa".repeat(32), description: "bb".repeat(32) };

async function firstDocument(): Promise<Uint8Array> {
  const lines = witnesses.map(async (one, i) => {
    const key = noteKeyOf(`w${i}.example`, "cosignature", one);
    return `witness w${i} ${await writeNoteKey(key)}\n`;
  });
  const group = "group all all w0 w1 w2\nquorum all\n";
  const policy = `log ${await writeNoteKey(logKey)}\n${(await Promise.all(lines)).join("")}${group}`;
  return writeCanonical({
    version: "caisson/identity/v1",
    name: "bench",
    generation: 0,
    previous: null,
    owners: keysOf(2, owners),
    stop: keysOf(1, [owners[0]!]),
    rebuild: keysOf(2, rebuilders),
    secrets: null,
    log: { policy },
    immutable: null,
  });
}

/** The proof that a payload is the first of 2^height entries, the others of which nobody needs. */
async function proofOf(payload: Uint8Array, height: number): Promise<LogProof> {
  const path = await Promise.all(Array.from({ length: height }, (_, i) => leafHash(Uint8Array.of(i))));
  let root = await leafHash(payload);
  for (const sibling of path) root = await nodeHash(root, sibling);
  const text = writeCheckpoint({ origin: "log.example", size: 2 ** height, root });
  const lines = [await writeSignature(logKey, log!.sign(utf8(text)))];
  for (const [i, one] of witnesses.entries()) {
    const time = new Uint8Array(8);
    new DataView(time.buffer).setBigUint64(0, BigInt(now / 1000));
    const signature = one.sign(utf8(cosignedText(text, now / 1000)));
    const key = noteKeyOf(`w${i}.example`, "cosignature", one);
    lines.push(await writeSignature(key, Uint8Array.of(...time, ...signature)));
  }
  return { index: 0, path, checkpoint: `${text}\n${lines.join("")}` };
}

/** Everything that travels with evidence, as text. */
async function bundle(first: Uint8Array, height: number) {
  const { hash: app } = await readIdentity(first);
  const release = signedBy(
    writeStatement("release", [measured.manifest, measured.description], {
      app,
      generation: 0,
      release: 1,
      previous: null,
      minimum: 1,
      notBefore: "2026-05-01T00:00:00Z",
      expires: "2026-08-01T00:00:00Z",
      notes: "",
    }),
    ...owners.slice(0, 2),
  );
  const named = createHash("sha256").update(release.payload).digest("hex");
  const facts = { app, release: named, lock: "01".repeat(32), toolchain: "02".repeat(32), caisson: "0.1.0" };
  const rebuild = writeStatement("rebuild", [measured.manifest], {
    ...facts,
    system: "Debian 13",
    finished: "2026-05-01T00:00:00Z",
  });
  return {
    app,
    release: JSON.stringify(writeEnvelope(release)),
    proof: writeProof(await proofOf(logEntry("release", app, named), height)),
    rebuilds: rebuilders.slice(0, 2).map((one) => JSON.stringify(writeEnvelope(signedBy(rebuild, one)))),
  };
}

/** Judges a bundle from its texts, as whoever gets it does; ms for one, of `times`. */
async function judged(
  first: Uint8Array,
  height: number,
  times: number,
): Promise<{ ms: number; bytes: number }> {
  const { app, release, proof, rebuilds } = await bundle(first, height);
  const once = async () => {
    const read = (text: string) => readEnvelope(JSON.parse(text));
    await judgeRelease(await readStatement("release", read(release)), {
      id: app,
      identity: await followIdentity(app, first, []),
      measured,
      now,
      floor: emptyFloor,
      proof: readProof(proof),
      maximumLogAgeMs: 1000,
      rebuilds: await Promise.all(rebuilds.map((text) => readStatement("rebuild", read(text)))),
    });
  };
  for (let i = 0; i < times / 5; i++) await once();
  const started = performance.now();
  for (let i = 0; i < times; i++) await once();
  const ms = (performance.now() - started) / times;
  return { ms, bytes: first.length + [release, proof, ...rebuilds].join("").length };
}

export async function* run(times = 500): AsyncIterable<Row> {
  const first = await firstDocument();
  const { ms, bytes } = await judged(first, 20, times);
  yield { name: "releases: judging a bundle, proof of 20 hashes", unit: "ms", ours: ms };
  yield { name: "releases: a bundle, with its identity", unit: "bytes", ours: bytes };
  const small = await judged(first, 10, times);
  for (const height of [17, 24]) {
    const grown = await judged(first, height, times);
    const entries = 2 ** height;
    const note = "peer: a log of 1024";
    yield {
      name: `releases: judging, a log of ${entries}`,
      unit: "ms",
      ours: grown.ms,
      peer: small.ms,
      note,
    };
    yield {
      name: `releases: a bundle, a log of ${entries}`,
      unit: "bytes",
      ours: grown.bytes,
      peer: small.bytes,
      note,
    };
  }
}
