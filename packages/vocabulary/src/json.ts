// SPDX-License-Identifier: Apache-2.0
/** JSON that has one reading: `JSON.parse` takes the last of two members with one name, others take the first. */

/** As `JSON.parse`, but a member that occurs twice in one object is a SyntaxError, too. */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  const twice = repeatedMember(text);
  if (twice !== undefined) throw new SyntaxError(`the member ${twice} occurs twice in one object`);
  return value;
}

/** One token of JSON that is well-formed: a string, or what opens, closes or parts. */
const token = /"(?:[^"\\]|\\.)*"|[{}[\],:]/g;

/** The first member (as it is written) whose name an object before it has; `text` is well-formed JSON. */
function repeatedMember(text: string): string | undefined {
  /** Names of the objects that are open; undefined for an array. */
  const open: (Set<string> | undefined)[] = [];
  let before = "";
  for (const [part] of text.matchAll(token)) {
    if (part === "{") open.push(new Set());
    else if (part === "[") open.push(undefined);
    else if (part === "}" || part === "]") open.pop();
    else if (part[0] === '"' && (before === "{" || before === ",")) {
      const names = open.at(-1);
      // Names are compared as they are meant: "a" and "\u0061" are one.
      const name = names && (JSON.parse(part) as string);
      if (name !== undefined && names!.has(name)) return part;
      if (name !== undefined) names!.add(name);
    }
    before = part;
  }
  return undefined;
}
