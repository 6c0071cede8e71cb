// SPDX-License-Identifier: Apache-2.0
/** What is wrong with a spec, in words and with its place. */
import { inWords, valueAt } from "@caisson/protocol/zod-words";
import type * as z from "zod";
import { ImageError } from "../errors.ts";
import type { Places } from "./places.ts";
import { keysOf } from "./spec-schema.ts";

const dotted = (keys: readonly PropertyKey[]) => keys.map(String).join(".");

/** One mistake: where, what, and for the first what a person needs to mend it. */
interface Mistake {
  code: "spec/unknown-key" | "spec/value";
  place: string;
  text: string;
  keys?: readonly string[];
}

/** A key that is not there only because another one is misspelt is not a mistake of its own. */
function followsFrom(issue: z.core.$ZodIssue, found: unknown, issues: readonly z.core.$ZodIssue[]): boolean {
  if (issue.code === "unrecognized_keys") return false;
  const parents = issues.filter(({ code }) => code === "unrecognized_keys").map(({ path }) => dotted(path));
  const missing = found === undefined;
  return missing && parents.includes(dotted(issue.path.slice(0, -1)));
}

function mistakeOf(issue: z.core.$ZodIssue, found: unknown, places: Places): Mistake[] {
  if (issue.code !== "unrecognized_keys") {
    const what = issue.path.length === 0 ? "the spec" : `'${dotted(issue.path)}'`;
    return [
      { code: "spec/value", place: places.value(issue.path), text: `${what}: ${inWords(issue, found)}` },
    ];
  }
  const inside = issue.path.length === 0 ? "a spec" : `'${dotted(issue.path)}'`;
  const keys = keysOf[dotted(issue.path)] ?? [];
  return issue.keys.map((key) => ({
    code: "spec/unknown-key",
    place: places.key(issue.path, key),
    text: `${inside} has no key '${key}'`,
    keys,
  }));
}

/** The most mistakes that are said at once. */
const mostMistakes = 50;

/** All mistakes of a spec, misspelt keys first: a person mends them in one go. */
export function schemaError({ issues }: z.ZodError, spec: unknown, places: Places): ImageError {
  const at = ({ path }: z.core.$ZodIssue): unknown => valueAt(spec, path);
  const mistakes = issues
    .filter((issue) => !followsFrom(issue, at(issue), issues))
    .flatMap((issue) => mistakeOf(issue, at(issue), places));
  const line = ({ place }: Mistake): number => Number(/, line (\d+)/.exec(place)?.[1] ?? 0);
  mistakes.sort(
    (a, b) => Number(a.code === "spec/value") - Number(b.code === "spec/value") || line(a) - line(b),
  );
  const [first, ...others] = mistakes as [Mistake, ...Mistake[]];
  const facts: [string, string][] = first.keys === undefined ? [] : [["keys", first.keys.join(", ")]];
  for (const { place, text } of others.slice(0, mostMistakes)) {
    facts.push(["also", `${place.slice(places.path.length).replace(/^, /, "")}: ${text}`]);
  }
  return new ImageError(first.code, `${first.place}: ${first.text}`, {
    facts,
    ...(first.keys !== undefined && { fix: "remove it, or correct its spelling" }),
  });
}
