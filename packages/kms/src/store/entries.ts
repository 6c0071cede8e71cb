// SPDX-License-Identifier: Apache-2.0
/**
 * Entries of the release log: what was asked of this KMS and what it answered, in a hash chain that only grows.
 *
 * Invariants: every entry's hash covers all its fields and the hash before it; the chain begins with the identity, so
 * that no other KMS's log fits; the head, which the identity signs, names the newest entry and the root of all rows
 * (rows.ts), so that nobody can change a row without a new head.
 */
import { type IdentityKey, verifySignature } from "@caisson/protocol/ed25519";
import { frame, text, u64 } from "@caisson/vocabulary/frame";
import { hash as digest } from "@caisson/vocabulary/hash";
import { KmsError } from "../errors.ts";

const outcomes = ["released", "denied", "changed"] as const;

/** One thing that happened. Ids and digests are empty where they do not apply, or a request did not show them. */
export interface LogEntry {
  /** Milliseconds since 1970. */
  time: number;
  /** 20 bytes each. */
  app: Uint8Array;
  instance: Uint8Array;
  /** SHA-256 of MRTD ‖ RTMR0–3. */
  registers: Uint8Array;
  /** SHA-256 of the policy file. */
  policy: Uint8Array;
  /** "changed": rows were written, and no key was asked for. */
  outcome: (typeof outcomes)[number];
  /** Denied: the code. Released: the reference that the registers matched. Changed: what. At most 1,000 characters. */
  reason: string;
}

const none = new Uint8Array();

/** The entry of rows that were written without a guest's asking. `about`: whose they are, and the digest of what they say. */
export const changedEntry = (
  time: number,
  reason: string,
  { app = none, policy = none }: Partial<Pick<LogEntry, "app" | "policy">> = {},
): LogEntry => ({ time, app, instance: none, registers: none, policy, outcome: "changed", reason });

/** An entry as the log has it. */
export interface ChainedEntry extends LogEntry {
  /** From 1. */
  sequence: number;
  /** Root of all rows after the transaction that wrote the entry; empty where that wrote none. */
  state: Uint8Array;
  hash: Uint8Array;
}

/** The newest entry and the root of all rows, signed. */
export interface Head {
  /** 0 for an empty log. */
  sequence: number;
  hash: Uint8Array;
  /** Empty while no row was ever written. */
  state: Uint8Array;
  signature: Uint8Array;
}

/** A head as JSON: what to keep elsewhere. Hexadecimal; `state` is left out where it is empty. */
export interface LogHead {
  sequence: number;
  hash: string;
  state?: string;
  signature: string;
}

export function logHead({ sequence, hash, state, signature }: Head): LogHead {
  return {
    sequence,
    hash: hash.toHex(),
    ...(state.length > 0 && { state: state.toHex() }),
    signature: signature.toHex(),
  };
}

const sha256 = (bytes: Uint8Array): Uint8Array => digest("sha256", bytes);

/** The hash before the first entry of the log of an identity (32 bytes). */
export const genesis = (identity: Uint8Array): Uint8Array =>
  sha256(frame("caisson/release-log/v1/genesis", identity));

/** The hash of the entry after `previous`. One that came with rows has a field more, and another domain. */
function entryHash(previous: Uint8Array, sequence: number, state: Uint8Array, entry: LogEntry): Uint8Array {
  const { time, app, instance, registers, policy, outcome, reason } = entry;
  const domain = state.length === 0 ? "caisson/release-log/v1/entry" : "caisson/release-log/v2/entry";
  const fields = [u64(sequence), u64(time), app, instance, registers, policy, text(outcome), text(reason)];
  return sha256(frame(domain, previous, ...fields, ...(state.length === 0 ? [] : [state])));
}

/** What stands after `sequence` and `hash` when `entries` follow, all of which came with rows of the root `state`. */
export function chain(
  sequence: number,
  hash: Uint8Array,
  state: Uint8Array,
  entries: readonly LogEntry[],
): ChainedEntry[] {
  let previous = hash;
  return entries.map((entry, i) => {
    previous = entryHash(previous, sequence + i + 1, state, entry);
    return { ...entry, sequence: sequence + i + 1, state, hash: previous };
  });
}

/** Whether `entry` is the one that comes after an entry with this sequence and hash. */
export function isNext({ sequence, hash }: Pick<Head, "sequence" | "hash">, entry: ChainedEntry): boolean {
  const expected = entryHash(hash, sequence + 1, entry.state, entry);
  return entry.sequence === sequence + 1 && Buffer.compare(entry.hash, expected) === 0;
}

/**
 * Checks that `entry` comes after `sequence` and `hash`. Throws KmsError "log/chain"; `where` names the log.
 */
export function checkNext(where: string, sequence: number, hash: Uint8Array, entry: ChainedEntry): void {
  if (!outcomes.includes(entry.outcome)) {
    throw new KmsError("log/chain", `entry ${entry.sequence} has the outcome ${String(entry.outcome)}`);
  }
  if (isNext({ sequence, hash }, entry)) return;
  throw new KmsError("log/chain", `${where}: the chain breaks at entry ${sequence + 1}`, {
    facts: [
      ["found", `entry ${entry.sequence}, hash ${entry.hash.toHex()}`],
      [
        "expected",
        `entry ${sequence + 1}, hash ${entryHash(hash, sequence + 1, entry.state, entry).toHex()}`,
      ],
    ],
  });
}

/** What is signed of a head. */
export function headTranscript({ sequence, hash, state }: Omit<Head, "signature">): Uint8Array {
  return state.length === 0
    ? frame("caisson/release-log/v1/head", u64(sequence), hash)
    : frame("caisson/release-log/v2/head", u64(sequence), hash, state);
}

export function signHead(identity: IdentityKey, head: Omit<Head, "signature">): Head {
  return { ...head, signature: identity.sign(headTranscript(head)) };
}

/** Whether the KMS with this identity (32 bytes) signed the head. */
export const headIsSigned = (identity: Uint8Array, head: Head): boolean =>
  verifySignature(identity, headTranscript(head), head.signature);
