// SPDX-License-Identifier: Apache-2.0
/** What a crash leaves of a log: of a process that is killed, and of a machine whose disk had only what was synchronized. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import {
  cpSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import test, { type TestContext } from "node:test";
import { identityPayloadType, readTrustPolicy } from "@caisson/releases";
import { Owners } from "@caisson/releases/testing/owners";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import fc from "fast-check";
import { openLogDirectory } from "./client.ts";
import { verifyLog } from "./follow.ts";
import { noteSigner, noteSigningKey } from "./keys.ts";
import { LogWriter } from "./writer.ts";

const now = Date.parse("2026-06-01T12:00:00Z");
const key = await noteSigner("log.example/crash", "note", generateKeyPairSync("ed25519").privateKey);
const policy = readTrustPolicy(`log ${key.verifier}\nquorum none\n`);

const place = (t: TestContext): string => {
  const directory = temporaryDirectory("crash", t);
  return directory;
};

const addIdentity = (writer: LogWriter, name: string): Promise<number> => {
  const { id, first } = new Owners(now, name);
  return writer.add("identity", id, { payload: first, payloadType: identityPayloadType, signatures: [] });
};

/** A log of so many entries, a commit each, as a crash finds it. */
async function written(t: TestContext, entries: number): Promise<string> {
  const directory = place(t);
  const writer = await LogWriter.open(directory, key);
  for (let i = 0; i < entries; i++) await addIdentity(writer, `app-${i}`);
  return directory;
}

/** Files that a commit does not synchronize. */
const unsettled = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter(
      (path) =>
        !["committed", "journal", "known.sqlite"].includes(path) && statSync(join(directory, path)).isFile(),
    )
    .map((path) => join(directory, path))
    .sort();

/** What a disk can have of a file that was never synchronized. */
const damages: readonly ((path: string) => void)[] = [
  () => {},
  unlinkSync,
  (path) => truncateSync(path, Math.floor(statSync(path).size / 2)),
  (path) => writeFileSync(path, new Uint8Array(statSync(path).size)),
];

/** That a log goes on from so many entries, and that every file of it is whole. */
async function goesOn(directory: string, entries: number): Promise<void> {
  const again = await LogWriter.open(directory, key);
  equal(again.checkpoint.size, entries);
  equal(await addIdentity(again, "one-more"), entries);
  const { checkpoint, passedOver } = await verifyLog(openLogDirectory(directory), policy, now);
  deepEqual([checkpoint.size, passedOver], [entries + 1, []]);
  await again.close();
}

test("files that were never synchronized come back from the journal, whatever a crash left of them", async (t) => {
  const whole = await written(t, 7);
  const files = unsettled(whole).length;
  ok(files > 15);
  const damage = fc.array(fc.integer({ min: 0, max: damages.length - 1 }), {
    minLength: files,
    maxLength: files,
  });
  await fc.assert(
    fc.asyncProperty(damage, async (choices) => {
      const directory = place(t);
      cpSync(whole, directory, { recursive: true });
      unsettled(directory).forEach((path, i) => damages[choices[i]!]!(path));
      await goesOn(directory, 7);
    }),
    { numRuns: 20 },
  );
});

test("a journal that ends anywhere has its whole records; what was published is not lost by that", async (t) => {
  const whole = await written(t, 3);
  const journal = readFileSync(join(whole, "journal"));
  const ends = [0];
  for (let at = 0; journal.readUInt32BE(at) > 0; ends.push(at)) at += 36 + journal.readUInt32BE(at);
  equal(ends.length, 4);
  for (let size = 0; size <= ends[3]!; size += 97) {
    const directory = place(t);
    cpSync(whole, directory, { recursive: true });
    // Of what was written behind it the disk has nothing, or the file not even the room.
    if (size % 2 === 0) truncateSync(join(directory, "journal"), size);
    else writeFileSync(join(directory, "journal"), Buffer.from(journal).fill(0, size));
    const entries = ends.filter((end) => end <= size).length - 1;
    if (entries < 3) await rejects(LogWriter.open(directory, key), { code: "log-service/damaged" });
    // Nobody saw it: the machine ended before the commit did.
    unlinkSync(join(directory, "checkpoint"));
    await goesOn(directory, entries);
  }
});

test("a torn record behind whole ones is cut off; one that is followed by whole ones is damage", async (t) => {
  const whole = await written(t, 3);
  const torn = place(t);
  cpSync(whole, torn, { recursive: true });
  const path = join(whole, "journal");
  const bytes = readFileSync(path);
  const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
  writeFileSync(join(torn, "journal"), Buffer.from(bytes).fill(7, end, end + 50));
  await goesOn(torn, 3);
  bytes[100]! ^= 1;
  writeFileSync(path, bytes);
  await rejects(LogWriter.open(whole, key), { code: "log-service/damaged" });
});

test("a crash between synchronized files and the journal's new beginning counts nothing twice", async (t) => {
  const whole = await written(t, 3);
  const journal = readFileSync(join(whole, "journal"));
  await (await LogWriter.open(whole, key)).close();
  ok(readFileSync(join(whole, "journal")).every((byte) => byte === 0));
  writeFileSync(join(whole, "journal"), journal);
  await goesOn(whole, 3);
});

/** Adds documents until it is killed, and says the index of each that was answered. */
const child = `
const [at, name] = process.argv.slice(1);
const { LogWriter } = await import("${new URL("./writer.ts", import.meta.url)}");
const { noteSigningKey } = await import("${new URL("./keys.ts", import.meta.url)}");
const { Owners } = await import("${new URL("../../releases/src/testing/owners.ts", import.meta.url)}");
const writer = await LogWriter.open(at + "/log", await noteSigningKey(at + "/key"));
for (let i = 0; ; i++) {
  const { id, first } = new Owners(${now}, name + i);
  const envelope = { payload: first, payloadType: "${identityPayloadType}", signatures: [] };
  console.log(await writer.add("identity", id, envelope));
}
`;

test("a process that is killed, twice and at any moment, has every entry that it answered", async (t) => {
  const directory = place(t);
  const own = await noteSigningKey(join(directory, "key"), { name: "log.example/killed", kind: "note" });
  let answered = -1;
  for (const [name, wanted] of [
    ["a", 40],
    ["b", 300],
  ] as const) {
    const arguments_ = ["--input-type=module", "-e", child, "--", directory, name];
    const writing = spawn(process.execPath, arguments_, {
      stdio: ["ignore", "pipe", "inherit"],
      timeout: 60_000,
    });
    for await (const line of createInterface({ input: writing.stdout })) {
      answered = Number(line);
      if (answered === wanted) writing.kill("SIGKILL");
    }
    if (writing.exitCode === null && writing.signalCode === null) await once(writing, "exit");
    equal(writing.signalCode, "SIGKILL");
  }
  const again = await LogWriter.open(join(directory, "log"), own);
  ok(again.checkpoint.size > answered && answered >= 300, `${again.checkpoint.size} entries, ${answered}`);
  const source = openLogDirectory(join(directory, "log"));
  const { checkpoint } = await verifyLog(source, readTrustPolicy(`log ${own.verifier}\nquorum none\n`), now);
  deepEqual(checkpoint, again.checkpoint);
  await again.close();
});
