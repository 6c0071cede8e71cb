// SPDX-License-Identifier: Apache-2.0
/**
 * What a KMS costs that follows a log of many applications with identities: the first reading, the one of every minute,
 * and a start that goes on from what another process kept. The log is in memory: its own costs are not a part of this.
 */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import type { Row } from "@caisson/cli/commands/bench";
import { type Backend, openStore, type Store, storeKeys } from "@caisson/kms";
import { FollowedLog } from "@caisson/kms/followed-log";
import { followingRows } from "@caisson/kms/following-rows";
import { Frontier, type LogSource, leafOf, type NoteSigningKey, noteSigner } from "@caisson/log";
import {
  type EntryKind,
  type Envelope,
  identityPayloadType,
  logEntry,
  readTrustPolicy,
  tilePath,
  tileWidth,
  writeCheckpoint,
  writeEntries,
  writeEnvelope,
} from "@caisson/releases";
import { hashOf, Owners } from "@caisson/releases/testing/owners";
import { besideFirst, processorTime } from "../figures/figures.ts";

const now = Date.now();
const newKey = (name: string, kind: "note" | "cosignature") =>
  noteSigner(name, kind, generateKeyPairSync("ed25519").privateKey);
const subjects = ["aa".repeat(32), "bb".repeat(32)] as const;

/** A log whose entries are where nobody writes them on a disk. */
class LogInMemory implements LogSource {
  readonly name = "a log in memory";
  readonly policy: string;
  readonly #log: NoteSigningKey;
  readonly #witnesses: readonly NoteSigningKey[];
  readonly #entries: Uint8Array[] = [];
  readonly #frontier = new Frontier();
  readonly #envelopes = new Map<string, Uint8Array>();

  private constructor(log: NoteSigningKey, witnesses: readonly NoteSigningKey[]) {
    this.#log = log;
    this.#witnesses = witnesses;
    const lines = witnesses.map(({ verifier }, i) => `witness w${i} ${verifier}\n`).join("");
    this.policy = `log ${log.verifier}\n${lines}group all all w0 w1 w2\nquorum all\n`;
  }

  static async make(): Promise<LogInMemory> {
    const names = ["w0", "w1", "w2"];
    const witnesses = await Promise.all(names.map((name) => newKey(`${name}.example`, "cosignature")));
    return new LogInMemory(await newKey("log.example", "note"), witnesses);
  }

  add(kind: EntryKind, app: string, envelope: Envelope): void {
    const hash = hashOf(envelope.payload);
    const entry = logEntry(kind, app, hash);
    this.#entries.push(entry);
    this.#frontier.add(leafOf(entry));
    this.#envelopes.set(
      `envelope/${hash}`,
      new TextEncoder().encode(JSON.stringify(writeEnvelope(envelope))),
    );
  }

  async read(path: string): Promise<Uint8Array | undefined> {
    if (path === "checkpoint") return this.#checkpoint();
    const envelope = this.#envelopes.get(path);
    if (envelope !== undefined) return envelope;
    for (let tile = 0; tile * tileWidth < this.#entries.length; tile++) {
      const entries = this.#entries.slice(tile * tileWidth, (tile + 1) * tileWidth);
      if (path === tilePath("entries", tile, entries.length)) return writeEntries(entries);
    }
    return undefined;
  }

  async #checkpoint(): Promise<Uint8Array> {
    const tree = { origin: this.#log.key.name, size: this.#entries.length, root: this.#frontier.root() };
    const text = writeCheckpoint(tree);
    const lines = [
      this.#log.line(text),
      ...this.#witnesses.map((one) => one.line(text, Math.floor(now / 1000))),
    ];
    return new TextEncoder().encode(`${text}\n${(await Promise.all(lines)).join("")}`);
  }
}

/** `at` opens a database of its own for each count, the first of which the others are beside. */
export async function* followedLogs(
  what: string,
  counts: readonly number[],
  at: (count: number) => () => Promise<Backend>,
): AsyncIterable<Row> {
  yield* besideFirst(
    counts,
    (count) => costOf(count, at(count)),
    [
      ["a log read for the first time", "ms", "first"],
      ["the same log a minute later", "ms", "again"],
      ["with one release more", "ms", "more"],
      ["a start that goes on from there", "ms", "start"],
    ],
    (text, count) => `${what}: ${text}, ${count} applications followed`,
  );
}

async function costOf(count: number, open: () => Promise<Backend>) {
  const log = await LogInMemory.make();
  const applications = Array.from(
    { length: count },
    (_, i) => new Owners(now, `app-${i}`, { log: { policy: log.policy } }),
  );
  const releases = applications.map((owners) => owners.release(subjects));
  for (const [i, { id, first }] of applications.entries()) {
    log.add("identity", id, { payload: first, payloadType: identityPayloadType, signatures: [] });
    log.add("release", id, releases[i]!);
  }
  const say = (event: string, fields: Record<string, string | number>) => {
    if (event === "log-followed" && fields.applications === count) return;
    throw new Error(`${event}: ${JSON.stringify(fields)}`);
  };
  const keys = storeKeys(randomBytes(32));
  const stores: Store[] = [];
  const follow = async () => {
    const store = await openStore(await open(), keys);
    stores.push(store);
    const policy = readTrustPolicy(log.policy);
    const kms = keys.identity.publicKey.toHex();
    const followed = new FollowedLog(
      { source: log, policy },
      kms,
      followingRows(store, () => now),
      () => now,
      say,
    );
    followed.want(new Set(applications.map(({ id }) => id)));
    return followed;
  };
  try {
    const followed = await follow();
    const first = await processorTime(() => followed.update());
    const again = await processorTime(() => followed.update());
    const previous = hashOf(releases[0]!.payload);
    log.add("release", applications[0]!.id, applications[0]!.release(subjects, { release: 2, previous }));
    const more = await processorTime(() => followed.update());
    const other = await follow();
    const start = await processorTime(() => other.update());
    return { first, again, more, start };
  } finally {
    for (const store of stores) await store.close();
  }
}
