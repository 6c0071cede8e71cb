// SPDX-License-Identifier: Apache-2.0
/**
 * What owners, stop keys and rebuilders sign: in-toto Statements v1 (https://in-toto.io/Statement/v1) in DSSE envelopes.
 *
 * Invariants: every field is known, every subject is named and in its place; a statement is in its one canonical
 * spelling. The three kinds have predicate types of their own, so no signature of one counts for another.
 */
import { toHex } from "@caisson/vocabulary/bytes";
import { sha256 } from "@caisson/vocabulary/merkle";
import {
  hex,
  type Infer,
  integer,
  list,
  nullable,
  object,
  oneOf,
  type Schema,
  SchemaError,
  text,
  timestamp,
} from "@caisson/vocabulary/schema";
import { readCanonical, writeCanonical } from "./canonical.ts";
import { type Envelope, payloadOf } from "./envelope.ts";

export const statementPayloadType = "application/vnd.in-toto+json";
const statementType = "https://in-toto.io/Statement/v1";

/** A statement is an entry of a log beside others, which have 64 KiB. */
const statementLimit = 16 * 1024;

export const predicateTypes = {
  release: "urn:caisson:release:v1",
  revocation: "urn:caisson:revocation:v1",
  rebuild: "urn:caisson:rebuild:v1",
} as const;

const number = integer(1, 0xffff_ffff);
/** Shown to whoever signs: nothing in it moves a cursor or turns the direction of text. */
const words = (most: number) => text("a text without controls", /^(?:[^\p{Cc}\p{Bidi_Control}]|\n)*$/u, most);
const increasing: Schema<number[]> = (value) => {
  const numbers = list(integer(0, 0xffff_ffff), 0, 256)(value);
  if (numbers.some((n, i) => i > 0 && n <= numbers[i - 1]!))
    throw new SchemaError("", "expected rising numbers");
  return numbers;
};
const release = {
  /** Whose release it is. */
  app: hex(32),
  /** The generation of the identity whose owners sign. */
  generation: integer(0, 0xffff_ffff),
  release: number,
  /** SHA-256 of the payload of the release before; null for the first. */
  previous: nullable(hex(32)),
  /** Releases with a lower number are refused once this one is known. */
  minimum: number,
  notBefore: timestamp,
  expires: timestamp,
  notes: words(4096),
};

const revocation = {
  app: hex(32),
  /** Numbers of releases, and of generations all of whose releases are meant. */
  releases: increasing,
  generations: increasing,
  reason: words(1024),
};

const rebuild = {
  app: hex(32),
  /** SHA-256 of the payload of the release whose sources were built again. */
  release: hex(32),
  /** SHA-256 of the lock and of the toolchain's packages. */
  lock: hex(32),
  toolchain: hex(32),
  caisson: words(64),
  system: words(128),
  finished: timestamp,
};

function statement<const N extends readonly string[], P>(
  names: N,
  predicateType: string,
  predicate: Schema<P>,
) {
  const subjects = object({ name: oneOf(...names), digest: object({ sha256: hex(32) }) });
  return object({
    _type: oneOf(statementType),
    subject: (value: unknown) => {
      const found = list(subjects, names.length, names.length)(value);
      for (const [i, { name }] of found.entries()) {
        if (name !== names[i]) throw new SchemaError(`[${i}].name`, `expected "${names[i]}"`);
      }
      return found.map(({ digest }) => digest.sha256);
    },
    predicateType: oneOf(predicateType),
    predicate,
  });
}

/** What each kind is about, in this order. */
const subjectNames = {
  release: ["manifest", "description"],
  revocation: ["app"],
  rebuild: ["manifest"],
} as const;

const schemas = {
  release: statement(subjectNames.release, predicateTypes.release, object(release)),
  revocation: statement(subjectNames.revocation, predicateTypes.revocation, object(revocation)),
  rebuild: statement(subjectNames.rebuild, predicateTypes.rebuild, object(rebuild)),
};

type Kind = keyof typeof schemas;
type Predicate<K extends Kind> = Infer<(typeof schemas)[K]>["predicate"];

/** A statement that was read, and nothing about who signed it. Digests and ids in lower-case hexadecimal. */
export interface Statement<K extends Kind> {
  /** SHA-256 of its payload: by which the next release names it. */
  hash: string;
  subjects: readonly string[];
  predicate: Predicate<K>;
  envelope: Envelope;
}

/** Reads the statement in an envelope. Throws ReleaseError "envelope/malformed", "release/malformed". */
export async function readStatement<K extends Kind>(kind: K, envelope: Envelope): Promise<Statement<K>> {
  const payload = payloadOf(envelope, statementPayloadType);
  const schema = schemas[kind] as Schema<{ subject: string[]; predicate: Predicate<K> }>;
  const { subject, predicate } = readCanonical(payload, schema, "release/malformed", statementLimit);
  return { hash: toHex(await sha256(payload)), subjects: subject, predicate, envelope };
}

/** As it is written: times are text. */
type Written<P> = { [F in keyof P]: F extends "notBefore" | "expires" | "finished" ? string : P[F] };

/** The payload of a statement, to be signed. */
export function writeStatement<K extends Kind>(
  kind: K,
  subjects: readonly string[],
  predicate: Written<Predicate<K>>,
): Pick<Envelope, "payload" | "payloadType"> {
  const payload = writeCanonical({
    _type: statementType,
    subject: subjectNames[kind].map((name, i) => ({ name, digest: { sha256: subjects[i]! } })),
    predicateType: predicateTypes[kind],
    predicate,
  });
  return { payload, payloadType: statementPayloadType };
}
