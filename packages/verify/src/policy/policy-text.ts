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
