// SPDX-License-Identifier: Apache-2.0
/**
 * Policies and other small files that people write: YAML 1.2, of which JSON is a part, read in one way wherever they are
 * used. Not part of the package's index: a browser that is given plain data needs no YAML.
 *
 * Invariant: a text has one reading. Keys that repeat, aliases (one part standing for another, and a way to make a short
 * text endless) and whatever the parser only warns of are refused.
 */
import { messageOf } from "@caisson/vocabulary/failure";
import { repeatedKey } from "@caisson/vocabulary/yaml-keys";
import { LineCounter, parseDocument } from "yaml";
import { VerifyError } from "../errors.ts";
import { type Policy, readPolicy } from "./policy.ts";

/** Plain data of a YAML text. Throws SyntaxError with what is wrong and where (line and column). */
export function readYaml(text: string): unknown {
  const plain = readJson(text);
  if (plain !== undefined) return plain;
  try {
    const lineCounter = new LineCounter();
    const document = parseDocument(text, { uniqueKeys: false, prettyErrors: true, lineCounter });
    const problem = document.errors[0] ?? document.warnings[0];
    if (problem !== undefined) throw new SyntaxError(problem.message.split(":\n")[0]);
    const twice = repeatedKey(document.contents);
    if (twice !== undefined) {
      const { line, col } = lineCounter.linePos(twice.offset);
      throw new SyntaxError(`'${twice.name}' stands twice: keys are unique, at line ${line}, column ${col}`);
    }
    return document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    throw new SyntaxError(messageOf(error));
  }
}

/** A string of a text that is JSON, and whether it is a key. */
const jsonString = /"(?:[^"\\]|\\.)*"(\s*:)?/g;

/**
 * Plain data of a text that is JSON, which YAML reads the same way and eighty times as slowly; undefined where YAML has to
 * say what it is, or what is wrong with it: a key that stands twice is in the text once more than in what was read.
 */
function readJson(text: string): unknown {
  if (!/^\s*\{/.test(text)) return undefined;
  try {
    const document: unknown = JSON.parse(text);
    let keys = 0;
    for (const [, isKey] of text.matchAll(jsonString)) if (isKey !== undefined) keys += 1;
    return keys === countKeys(document) ? document : undefined;
  } catch {
    // No JSON, or nested without end.
    return undefined;
  }
}

function countKeys(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const children = Object.values(value);
  return children.reduce<number>(
    (sum, child) => sum + countKeys(child),
    Array.isArray(value) ? 0 : children.length,
  );
}

/** Reads a policy from its text; `name` is the file's, for errors. Throws VerifyError "policy/malformed". */
export function readPolicyText(text: string, name: string): Policy {
  let document: unknown;
  try {
    document = readYaml(text);
  } catch (error) {
    throw new VerifyError("policy/malformed", `${name} is not YAML: ${messageOf(error)}`);
  }
  return readPolicy(document);
}
