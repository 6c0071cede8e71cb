// SPDX-License-Identifier: Apache-2.0
/**
 * What operators ask of a KMS, as a person reads it before signing.
 *
 * Invariant: what is signed is what is seen. So what a terminal would show as something else stands as escapes, and a
 * line that is broken goes on behind a mark where no line of the request can have one: nothing of it can pass for a
 * line of its own.
 */
import type { OperatorRequest } from "@caisson/kms";
import { printable } from "./printable.ts";

/** In front of a line of a policy, and of what goes on. */
const marks = { policy: "  | ", on: "  > " };

/** As it is, or with escapes where a terminal would show something else. */
const plain = (text: string): string =>
  printable(text) === text
    ? text
    : JSON.stringify(text).replace(
        /[^ -~]/g,
        (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
      );

/** Every character of a line, so many columns at a time; not at spaces, of which none may be lost. */
function broken(mark: string, line: string, columns: number | undefined): string {
  if (columns === undefined) return mark + line;
  const characters = Array.from(line);
  const lines: string[] = [];
  for (let from = 0, begin = mark; from === 0 || from < characters.length; begin = marks.on) {
    const room = Math.max(20, columns - begin.length);
    lines.push(begin + characters.slice(from, from + room).join(""));
    from += room;
  }
  return lines.join("\n");
}

/** The last that a date can be (ECMA-262). */
const lastDate = 8.64e15;

/** A request for a terminal of that many columns; a policy as it is in its file. Without one no line is broken. */
export function renderRequest(request: OperatorRequest, columns?: number): string {
  const lines = Object.entries(request).flatMap(([name, value]: [string, unknown]) => {
    if (name === "policy") {
      const policy = String(value).trimEnd().split("\n");
      return ["policy:", ...policy.map((line) => broken(marks.policy, plain(line), columns))];
    }
    const isDate = ["expires", "from", "until"].includes(name) && Number(value) <= lastDate;
    const shown = isDate
      ? new Date(Number(value)).toISOString()
      : typeof value === "string"
        ? value
        : JSON.stringify(value);
    return broken("", `${name}: ${shown}`, columns);
  });
  return lines.join("\n");
}
