// SPDX-License-Identifier: Apache-2.0
/** What a schema refuses of a file that a person wrote, in words: zod's own are about types. */
import type * as z from "zod";

type Issue = z.core.$ZodIssue;

/** What stands there. */
export const valueAt = (document: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce((value: unknown, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], document);

/** What is wrong with a value, where the schema has no words of its own for it. */
export function inWords(issue: Issue, found: unknown): string {
  if (!/^(?:Invalid|Too) /.test(issue.message)) return issue.message;
  switch (issue.code) {
    case "invalid_type": {
      if (found === undefined) return "it is missing";
      const quote =
        issue.expected === "string" && (typeof found === "number" || typeof found === "boolean")
          ? `: in quotes it is one, "${found}"`
          : "";
      const names: Record<string, string> = {
        string: "a text",
        int: "a whole number",
        number: "a number",
        boolean: "true or false",
        array: "a list",
        object: "a map of keys and values",
        record: "a map of keys and values",
      };
      return `it has to be ${names[issue.expected] ?? issue.expected}${quote}`;
    }
    case "too_big":
      return issue.origin === "array" ? `at most ${issue.maximum} entries` : `at most ${issue.maximum}`;
    case "too_small":
      return issue.origin === "array" ? `at least ${issue.minimum} entries` : `at least ${issue.minimum}`;
    case "invalid_value":
      return `it has to be ${issue.values.map(String).join(" or ")}`;
    case "invalid_key":
      return issue.issues[0]!.message;
    default:
      return "it is not what stands here";
  }
}

/** The most mistakes that are said at once. */
const mostMistakes = 20;

/** Every mistake of a document, each with its place; `whole` is what the document itself is called. */
export function mistakesInWords(issues: readonly Issue[], document: unknown, whole: string): string {
  return issues
    .slice(0, mostMistakes)
    .map((issue) => {
      const place = issue.path.map(String).join(".") || whole;
      const words =
        issue.code === "unrecognized_keys"
          ? `there is no key ${issue.keys.map((key) => `'${key}'`).join(", ")}`
          : inWords(issue, valueAt(document, issue.path));
      return `${place}: ${words}`;
    })
    .join("; ");
}
