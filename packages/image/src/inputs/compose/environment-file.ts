// SPDX-License-Identifier: Apache-2.0
/**
 * Files of variables, `.env` and `env_file` (Compose Specification, 05-services.md, "env_file"; where it is silent,
 * compose-go 2.16, dotenv/parser.go): `NAME=value` or `NAME: value` a line, `#` comments, `export ` before a name, single
 * quotes (taken as they are, over several lines), double quotes (with escapes and variables), plain values (variables; a
 * comment after a space ends them, so that `#fff` is a value).
 */
import { InterpolationFault, interpolate, type Variables } from "./interpolation.ts";

/** Why a file of variables cannot be read; `line` from 1. */
export class EnvironmentFileFault extends Error {
  readonly line: number;
  constructor(line: number, message: string) {
    super(message);
    this.line = line;
  }
}

const assignment = /^(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*[=:][ \t]*/;
const escapes: Record<string, string> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
  '"': '"',
  "\\": "\\",
  $: "$$",
};

/**
 * The variables of a text, in order; a later one of the same name wins. `given` are known before. With `raw` every
 * value is what stands after `=`. Throws EnvironmentFileFault.
 */
export function parseEnvironmentFile(text: string, given: Variables, raw = false): Map<string, string> {
  const found = new Map<string, string>();
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  for (let index = 0; index < lines.length; index++) {
    const line = lines[index]!.trimStart();
    if (line === "" || line.startsWith("#")) continue;
    const number = index + 1;
    const match = assignment.exec(line);
    if (match === null) throw new EnvironmentFileFault(number, "a line is NAME=value");
    const rest = raw ? line.slice(line.search(/[=:]/) + 1) : line.slice(match[0].length);
    const quote = !raw && /^["']/.test(rest) ? rest[0]! : undefined;
    let value: string;
    if (quote === undefined) value = raw ? rest : plain(rest, given, found, number);
    else {
      // A quoted value goes on over as many lines as it needs.
      let body = rest.slice(1);
      let end = closing(body, quote);
      while (end === -1) {
        if (++index >= lines.length) throw new EnvironmentFileFault(number, `a ${quote} is not closed`);
        body += `\n${lines[index]!}`;
        end = closing(body, quote);
      }
      if (!/^\s*(#.*)?$/.test(body.slice(end + 1))) {
        throw new EnvironmentFileFault(number, "something follows the closing quote");
      }
      value =
        quote === "'"
          ? body.slice(0, end).replaceAll("\\'", "'")
          : doubleQuoted(body.slice(0, end), given, found, number);
    }
    found.set(match[1]!, value);
  }
  return found;
}

function closing(body: string, quote: string): number {
  for (let i = 0; i < body.length; i++) {
    if (body[i] === "\\") i++;
    else if (body[i] === quote) return i;
  }
  return -1;
}

function filled(text: string, given: Variables, found: Variables, line: number): string {
  try {
    return interpolate(text, new Map([...given, ...found]));
  } catch (error) {
    if (error instanceof InterpolationFault) throw new EnvironmentFileFault(line, error.message);
    throw error;
  }
}

const plain = (rest: string, given: Variables, found: Variables, line: number): string =>
  filled(rest.split(" #", 1)[0]!.trimEnd(), given, found, line);

const doubleQuoted = (body: string, given: Variables, found: Variables, line: number): string =>
  filled(
    body.replace(/\\(.)/gs, (whole, character: string) => escapes[character] ?? whole),
    given,
    found,
    line,
  );
