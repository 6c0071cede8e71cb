// SPDX-License-Identifier: Apache-2.0
/**
 * That an entry is in a log, and that the witnesses of a policy have seen it: `c2sp.org/tlog-proof@v1`, one text that
 * needs keys alone to be verified.
 */
import { fromBase64, toBase64 } from "@caisson/vocabulary/bytes";
import { leafHash, longestProof, verifyInclusion } from "@caisson/vocabulary/merkle";
import { ReleaseError } from "../errors.ts";
import { type Checkpoint, isDecimal, readCheckpoint } from "./checkpoint.ts";
import { type Note, readNote, signersOfNote } from "./note.ts";
import { isQuorum, type TrustPolicy } from "./policy.ts";

const header = "c2sp.org/tlog-proof@v1";

export interface LogProof {
  index: number;
  path: readonly Uint8Array[];
  /** The signed checkpoint, verbatim. */
  checkpoint: string;
}

const malformed = (what: string) => new ReleaseError("log/malformed", `the proof: ${what}`);

/** Reads a proof's text. Extra data, which nobody signed, is refused. Throws ReleaseError "log/malformed". */
export function readProof(text: string): LogProof {
  const end = text.indexOf("\n\n");
  if (end < 0) throw malformed("there is no empty line before the checkpoint");
  const [first, indexLine = "", ...lines] = text.slice(0, end).split("\n");
  const index = /^index (\d+)$/.exec(indexLine)?.[1] ?? "";
  if (first !== header || !isDecimal(index)) throw malformed(`it begins with ${header} and a line of index`);
  if (lines.length > longestProof) throw malformed(`it has ${lines.length} hashes`);
  const path = lines.map((line) => {
    const hash = fromBase64(line);
    if (hash?.length === 32) return hash;
    throw malformed("a hash is 32 bytes in base64");
  });
  return { index: Number(index), path, checkpoint: text.slice(end + 2) };
}

export function writeProof({ index, path, checkpoint }: LogProof): string {
  return [header, `index ${index}`, ...path.map(toBase64), "", checkpoint].join("\n");
}

/** What is known once a proof was verified. */
export interface Logged {
  checkpoint: Checkpoint;
  /** When the newest quorum says that it saw the checkpoint, ms since 1970; undefined where the policy needs none. */
  seen: number | undefined;
}

/** How far ahead of ours a witness's clock may be, in ms. */
const futureSkewMs = 300_000;

/**
 * That `entry` is in a log of the policy, in a tree that its quorum saw at most `maximumAgeMs` ago. Throws ReleaseError
 * `log/…` or `note/…`.
 */
export async function verifyLogged(
  entry: Uint8Array,
  proof: LogProof,
  policy: TrustPolicy,
  { now, maximumAgeMs }: { now: number; maximumAgeMs: number },
): Promise<Logged> {
  const { checkpoint, seen } = await verifyCheckpoint(readNote(proof.checkpoint), policy, now);
  checkAge(seen, now, maximumAgeMs);
  const place = { index: proof.index, leaf: await leafHash(entry) };
  if (await verifyInclusion(place, checkpoint, proof.path)) return { checkpoint, seen };
  throw new ReleaseError("log/proof", `the proof does not show that this is entry ${proof.index} of the log`);
}

/**
 * Throws ReleaseError "log/age" where a quorum saw it too long ago, or later than now: who set our clock back after we read
 * the log would have it young for ever. Where no quorum is needed, there is no time to ask for.
 */
export function checkAge(seen: number | undefined, now: number, maximumAgeMs: number): void {
  if (seen === undefined || (now - seen <= maximumAgeMs && seen - now <= futureSkewMs)) return;
  throw new ReleaseError("log/age", "too long ago, or later than now, the witnesses saw this checkpoint", {
    expected: `at most ${maximumAgeMs / 1000} s`,
    actual: `${(now - seen) / 1000} s`,
  });
}

/** A checkpoint of one of the policy's logs, with its quorum. Throws ReleaseError. */
export async function verifyCheckpoint(note: Note, policy: TrustPolicy, now: number): Promise<Logged> {
  const checkpoint = readCheckpoint(note.text);
  const authors = policy.logs.filter(({ name }) => name === checkpoint.origin);
  if ((await signersOfNote(note, authors)).length === 0) {
    throw new ReleaseError("log/origin", "no log that the policy believes signed this checkpoint", {
      expected: policy.logs.map(({ name }) => name).join(", "),
      actual: checkpoint.origin,
    });
  }
  const cosigners = (await signersOfNote(note, policy.witnesses)).filter(
    ({ time = 0 }) => time * 1000 <= now + futureSkewMs,
  );
  if (!isQuorum(policy.quorum, new Set(cosigners.map(({ key }) => key)))) {
    throw new ReleaseError("log/quorum", "too few of the witnesses saw this checkpoint", {
      actual: cosigners.map(({ key }) => key.name).join(", ") || "none",
    });
  }
  if (policy.quorum === undefined) return { checkpoint, seen: undefined };
  // The newest time at which those who had signed by then still are a quorum of what signed no earlier.
  const times = cosigners.map(({ time = 0 }) => time).sort((a, b) => b - a);
  const seen = times.find((since) => {
    const newer = cosigners.filter(({ time = 0 }) => time >= since);
    return isQuorum(policy.quorum, new Set(newer.map(({ key }) => key)));
  });
  return { checkpoint, seen: seen! * 1000 };
}
