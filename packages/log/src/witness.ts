// SPDX-License-Identifier: Apache-2.0
/**
 * Witnesses (https://c2sp.org/tlog-witness): who remembers of each log the largest tree that it saw, and cosigns only
 * what continues that. Two histories of one log cannot both be cosigned by one witness.
 *
 * Invariant: what was seen is on disk before the cosignature leaves.
 */

import { hash } from "node:crypto";
import { join } from "node:path";
import {
  type Note,
  type NoteKey,
  readCheckpoint,
  readNote,
  signersOfNote,
  verifyConsistency,
  writeCheckpoint,
} from "@caisson/releases";
import { firstBytes } from "@caisson/vocabulary/body";
import { equal, fromBase64, toBase64 } from "@caisson/vocabulary/bytes";
import { Durable, readIfThere } from "./files.ts";
import type { NoteSigningKey } from "./keys.ts";

/** Hashes in a request's proof, at most (the specification's limit). */
const longestRequest = 63;

/** What a witness answers: an HTTP status and a body. */
export interface WitnessAnswer {
  status: 200 | 400 | 403 | 404 | 409 | 422;
  body: string;
}

const refuse = (status: WitnessAnswer["status"], body: string): WitnessAnswer => ({
  status,
  body: `${body}\n`,
});

export class Witness {
  readonly #directory: string;
  readonly #key: NoteSigningKey;
  readonly #logs: readonly NoteKey[];
  readonly #now: () => number;
  /** One request at a time: what was seen is compared and replaced in one step. */
  #last: Promise<unknown> = Promise.resolve();

  /** `logs` are the keys of the logs that it watches; `now` in ms. */
  constructor(
    directory: string,
    key: NoteSigningKey,
    logs: readonly NoteKey[],
    now: () => number = Date.now,
  ) {
    this.#directory = directory;
    this.#key = key;
    this.#logs = logs;
    this.#now = now;
  }

  /** The answer to the body of an add-checkpoint request. */
  add(body: string): Promise<WitnessAnswer> {
    const answer = this.#last.then(() => this.#add(body));
    this.#last = answer.catch(() => {});
    return answer;
  }

  async #add(body: string): Promise<WitnessAnswer> {
    const request = parseRequest(body);
    if (request === undefined)
      return refuse(400, "a request is a line of old, hashes, an empty line, a checkpoint");
    const { old, proof, note } = request;
    let checkpoint: ReturnType<typeof readCheckpoint>;
    try {
      checkpoint = readCheckpoint(note.text);
    } catch {
      return refuse(400, "the note is not a checkpoint");
    }
    const keys = this.#logs.filter(({ name }) => name === checkpoint.origin);
    if (keys.length === 0) return refuse(404, "this witness does not watch that log");
    let signed: boolean;
    try {
      signed = (await signersOfNote(note, keys)).length > 0;
    } catch {
      signed = false;
    }
    if (!signed) return refuse(403, "the log did not sign this checkpoint");
    if (old > checkpoint.size) return refuse(400, "old is larger than the checkpoint");
    const path = join(this.#directory, hash("sha256", checkpoint.origin));
    const before = readIfThere(path);
    const seen =
      before === undefined
        ? { origin: checkpoint.origin, size: 0, root: checkpoint.root }
        : readCheckpoint(new TextDecoder().decode(before));
    if (old !== seen.size) return refuse(409, `${seen.size}`);
    if (old === checkpoint.size && old > 0 && !equal(seen.root, checkpoint.root)) {
      return refuse(409, `${seen.size}`);
    }
    if (old > 0 || proof.length > 0) {
      const continues = old > 0 && (await verifyConsistency(seen, checkpoint, proof));
      if (!continues) return refuse(422, "the proof does not show that the log was only added to");
    }
    const durable = new Durable();
    durable.write(path, writeCheckpoint(checkpoint));
    durable.sync();
    return { status: 200, body: await this.#key.line(note.text, Math.floor(this.#now() / 1000)) };
  }
}

function parseRequest(body: string): { old: number; proof: Uint8Array[]; note: Note } | undefined {
  const end = body.indexOf("\n\n");
  const [first = "", ...lines] = body.slice(0, Math.max(0, end)).split("\n");
  const old = /^old (0|[1-9]\d{0,15})$/.exec(first)?.[1];
  if (old === undefined || lines.length > longestRequest) return undefined;
  const proof = lines.map((line) => fromBase64(line));
  if (proof.some((one) => one?.length !== 32)) return undefined;
  try {
    return { old: Number(old), proof: proof as Uint8Array[], note: readNote(body.slice(end + 2)) };
  } catch {
    return undefined;
  }
}

/** A witness that a log asks: its prefix, and the key under which it answers. */
export interface WitnessAddress {
  url: string;
  key: NoteKey;
}

const askLimitMs = 5_000;
const answerLimit = 4096;

/** The lines of those witnesses that cosign; others are left out, which readers see as a quorum that is missing. */
export async function askWitnesses(
  witnesses: readonly WitnessAddress[],
  note: string,
  consistency: (first: number, second: number) => Promise<Uint8Array[]>,
): Promise<string[]> {
  const { size } = readCheckpoint(readNote(note).text);
  const lines = await Promise.all(
    witnesses.map(async ({ url, key }) => {
      try {
        let old = await seenBy(url, size, note, consistency, undefined);
        if (typeof old === "number" && old <= size) old = await seenBy(url, size, note, consistency, old);
        if (typeof old !== "string") return [];
        const own = (await signersOfNote(readNote(note + old), [key])).length === 1;
        return own ? [old] : [];
      } catch {
        return [];
      }
    }),
  );
  return lines.flat();
}

/** The cosignature, or the size that the witness has seen instead. */
async function seenBy(
  url: string,
  size: number,
  note: string,
  consistency: (first: number, second: number) => Promise<Uint8Array[]>,
  known: number | undefined,
): Promise<string | number | undefined> {
  const old = known ?? size;
  const proof = await consistency(old, size);
  const body = [`old ${old}`, ...proof.map(toBase64), "", note].join("\n");
  const address = new URL("add-checkpoint", url.endsWith("/") ? url : `${url}/`);
  const response = await fetch(address, {
    method: "POST",
    body,
    redirect: "error",
    signal: AbortSignal.timeout(askLimitMs),
  });
  const { bytes, more } = await firstBytes(response.body, answerLimit);
  const text = new TextDecoder().decode(bytes);
  if (more) return undefined;
  if (response.status === 200) return text;
  return response.status === 409 && /^\d{1,16}\n?$/.test(text) && known === undefined
    ? Number(text)
    : undefined;
}
