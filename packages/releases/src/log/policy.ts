// SPDX-License-Identifier: Apache-2.0
/**
 * Which logs are believed, and which witnesses have to have seen a checkpoint (https://c2sp.org/tlog-policy).
 *
 * Invariants: a key stands once, so one witness counts once; a name is defined before it is used, and a member of one
 * group at most, so there is one way to count; there is exactly one quorum.
 */
import { toHex } from "@caisson/vocabulary/bytes";
import { messageOf } from "@caisson/vocabulary/failure";
import { ReleaseError } from "../errors.ts";
import { type NoteKey, parseNoteKey } from "./note.ts";

/** What has to have seen a checkpoint. */
type Quorum = { witness: NoteKey } | { needed: number; members: readonly Quorum[] };

export interface TrustPolicy {
  logs: readonly NoteKey[];
  witnesses: readonly NoteKey[];
  /** Undefined: none at all, which is written down as such. */
  quorum: Quorum | undefined;
}

const maximumLines = 200;

/** Reads a policy's text. Throws ReleaseError "log/malformed". */
export function readTrustPolicy(text: string): TrustPolicy {
  const lines = text.split("\n");
  if (lines.length > maximumLines) throw malformed(1, `it has ${lines.length} lines`);
  const reader = new Reader();
  for (const [i, line] of lines.entries()) reader.read(i + 1, line);
  return reader.end(lines.length);
}

const malformed = (line: number, what: string) =>
  new ReleaseError("log/malformed", `the log's policy, line ${line}: ${what}`);

class Reader {
  readonly #logs: NoteKey[] = [];
  readonly #witnesses: NoteKey[] = [];
  /** Names that no group has taken yet. */
  readonly #free = new Map<string, Quorum>();
  readonly #names = new Set(["none"]);
  #quorum: { value: Quorum | undefined } | undefined;

  read(line: number, text: string): void {
    if (/(?!\t)\p{Cc}/u.test(text)) throw malformed(line, "it has control characters");
    const [word, ...rest] = text.split(/[ \t]+/).filter((part) => part !== "");
    if (word === undefined || word.startsWith("#")) return;
    if (word === "log" && rest.length >= 1 && rest.length <= 2) {
      this.#logs.push(this.#key(line, rest[0]!, "note", this.#logs));
    } else if (word === "witness" && rest.length >= 2 && rest.length <= 3) {
      const witness = this.#key(line, rest[1]!, "cosignature", this.#witnesses);
      this.#witnesses.push(witness);
      this.#define(line, rest[0]!, { witness });
    } else if (word === "group" && rest.length >= 3) this.#group(line, rest as [string, string, ...string[]]);
    else if (word === "quorum" && rest.length === 1 && this.#quorum === undefined) {
      this.#quorum = { value: rest[0] === "none" ? undefined : this.#take(line, rest[0]!) };
    } else throw malformed(line, "expected log, witness, group, or the one quorum");
  }

  end(line: number): TrustPolicy {
    if (this.#quorum === undefined) throw malformed(line, "there is no quorum");
    return { logs: this.#logs, witnesses: this.#witnesses, quorum: this.#quorum.value };
  }

  #key(line: number, text: string, kind: NoteKey["kind"], others: readonly NoteKey[]): NoteKey {
    let key: NoteKey;
    try {
      ({ key } = parseNoteKey(text));
    } catch (error) {
      throw malformed(line, messageOf(error));
    }
    if (key.kind !== kind) throw malformed(line, `a key of type ${kind} was expected`);
    if (others.some((other) => toHex(other.key) === toHex(key.key))) {
      throw malformed(line, "this key stands here already");
    }
    return key;
  }

  #group(line: number, [name, count, ...names]: [string, string, ...string[]]): void {
    const members = names.map((member) => this.#take(line, member));
    const needed = count === "all" ? members.length : count === "any" ? 1 : Number(count);
    if (!/^(?:all|any|[1-9]\d{0,2})$/.test(count) || needed > members.length) {
      throw malformed(line, `of ${members.length} members, ${count} cannot be needed`);
    }
    this.#define(line, name, { needed, members });
  }

  #define(line: number, name: string, value: Quorum): void {
    if (this.#names.has(name)) throw malformed(line, `${name} is defined already`);
    this.#names.add(name);
    this.#free.set(name, value);
  }

  #take(line: number, name: string): Quorum {
    const value = this.#free.get(name);
    if (value === undefined)
      throw malformed(line, `${name} is not defined before this line, or is in a group already`);
    this.#free.delete(name);
    return value;
  }
}

/** Whether these keys are enough. */
export function isQuorum(quorum: Quorum | undefined, seen: ReadonlySet<NoteKey>): boolean {
  if (quorum === undefined) return true;
  if ("witness" in quorum) return seen.has(quorum.witness);
  return quorum.members.filter((member) => isQuorum(member, seen)).length >= quorum.needed;
}
