// SPDX-License-Identifier: Apache-2.0
/** Recomputes a whole release log: what an auditor does with a copy, and an operator with a live one. */

import { reasonOf } from "@caisson/vocabulary/system-error";
import { KmsError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import {
  type ChainedEntry,
  checkNext,
  genesis,
  type Head,
  headIsSigned,
  type LogHead,
  logHead,
} from "./entries.ts";

/** What a whole log says, when it is whole. */
export interface LogReport {
  identity: string;
  released: number;
  denied: number;
  changed: number;
  head: LogHead;
}

/** Who must have written a log (hex), if known, and a head kept from earlier, which must be part of it. */
export interface ExpectedLog {
  identity?: string;
  witness?: { sequence: number; hash: string };
}

/**
 * Recomputes the chain of a log up to the head that it had at the beginning, and checks that head. `each` gets every
 * entry, in order, before it is known whether all of them are good. Closes the database. Throws KmsError `log/…`.
 */
export async function verifyReleaseLog(
  backend: Pick<Backend, "name" | "look" | "close">,
  expected: ExpectedLog = {},
  each?: (sequence: number, entry: ChainedEntry) => void,
): Promise<LogReport> {
  try {
    return await verify(backend, expected, each);
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const { name } = backend;
    throw new KmsError("log/unreadable", `${name} cannot be read as a release log: ${reasonOf(error)}`);
  } finally {
    await backend.close();
  }
}

async function verify(
  backend: Pick<Backend, "name" | "look">,
  { identity: writer, witness }: ExpectedLog,
  each?: (sequence: number, entry: ChainedEntry) => void,
): Promise<LogReport> {
  const { name } = backend;
  const page = (after: number) => backend.look({ after, buckets: [], nodes: [], nonces: [] });
  let { head, entries } = await page(0);
  if (head === undefined) throw new KmsError("log/head", `${name} has no signed head`);
  const { identity, ...signed } = head;
  if (writer !== undefined && identity.toHex() !== writer) {
    throw new KmsError("log/identity", `${name} was written by the KMS ${identity.toHex()}`, {
      facts: [["expected", writer]],
    });
  }
  let at: Omit<Head, "signature"> = { sequence: 0, hash: genesis(identity), state: new Uint8Array() };
  const counts = { released: 0, denied: 0, changed: 0 };
  const isWitness = () => witness?.sequence === at.sequence && witness.hash === at.hash.toHex();
  let witnessed = witness === undefined || isWitness();
  // A KMS that is writing meanwhile goes on after the head that counts here.
  while (at.sequence < signed.sequence && entries.length > 0) {
    for (const entry of entries) {
      if (at.sequence === signed.sequence) break;
      checkNext(name, at.sequence, at.hash, entry);
      at = { ...entry, state: entry.state.length > 0 ? entry.state : at.state };
      counts[entry.outcome] += 1;
      witnessed ||= isWitness();
      each?.(entry.sequence, entry);
    }
    if (at.sequence < signed.sequence) ({ entries } = await page(at.sequence));
  }
  const beyond = await page(signed.sequence);
  const [next] = beyond.entries;
  const last = next !== undefined && beyond.head?.sequence === signed.sequence ? next : at;
  if (
    last !== at ||
    signed.sequence !== at.sequence ||
    signed.hash.toHex() !== at.hash.toHex() ||
    signed.state.toHex() !== at.state.toHex()
  ) {
    throw new KmsError("log/head", `${name}: the signed head is not the last entry`, {
      facts: [
        ["found", `entry ${last.sequence}, hash ${last.hash.toHex()}`],
        ["signed", `entry ${signed.sequence}, hash ${signed.hash.toHex()}`],
      ],
    });
  }
  if (!headIsSigned(identity, signed)) {
    throw new KmsError("log/head", `${name}: the head is not signed by ${identity.toHex()}`);
  }
  if (!witnessed) {
    throw new KmsError(
      "log/head",
      `${name} does not contain the head that was kept: entries were cut off or replaced`,
    );
  }
  return { identity: identity.toHex(), ...counts, head: logHead(signed) };
}
