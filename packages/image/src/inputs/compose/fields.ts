// SPDX-License-Identifier: Apache-2.0
/** Typed reading of values: each reader gives what it found, or says what is wrong and gives undefined. */
import type { MapValue, Value } from "./document.ts";
import { InterpolationFault, interpolate, type Variables } from "./interpolation.ts";
import type { Problems } from "./problems.ts";
import { parseDuration, parseSize } from "./units.ts";
import { splitWords } from "./words.ts";

/** A text of the file, its variables filled in. */
export interface Text {
  text: string;
  line: number;
  quoted: boolean;
}

const kinds = { text: "a value", nothing: "nothing", list: "a list", map: "a map" } as const;

/** An image can be read by anybody, so that a secret must not be in it. */
export const secretFix = (name: string): string =>
  `if it is secret, x-caisson: { environment: { ${name}: SECRET } }, which its owners give`;

export class Fields {
  readonly problems: Problems;
  readonly variables: Variables;

  constructor(problems: Problems, variables: Variables) {
    this.problems = problems;
    this.variables = variables;
  }

  refuse(line: number, where: string, reason: string, fix?: string): undefined {
    this.problems.add(line, where, reason, fix);
    return undefined;
  }

  private wrong(value: Value, where: string, wanted: string): undefined {
    return this.refuse(value.line, where, `${wanted} is wanted, not ${kinds[value.kind]}`);
  }

  text(value: Value, where: string): Text | undefined {
    if (value.kind !== "text") return this.wrong(value, where, "a text");
    try {
      return { ...value, text: interpolate(value.text, this.variables) };
    } catch (error) {
      if (!(error instanceof InterpolationFault)) throw error;
      return this.refuse(
        value.line,
        where,
        error.message,
        error.message.includes("no value")
          ? `give it one in app.variables of caisson.yaml or in the .env beside this file, or a default: \${NAME:-default}; ${secretFix("NAME")}`
          : undefined,
      );
    }
  }

  string(value: Value, where: string): string | undefined {
    return this.text(value, where)?.text;
  }

  /** A text that `parse` understands. */
  private parsed<T>(
    value: Value,
    where: string,
    wanted: string,
    parse: (text: string) => T | undefined,
  ): T | undefined {
    const found = this.text(value, where);
    if (found === undefined) return undefined;
    const result = parse(found.text);
    return result ?? this.refuse(found.line, where, `'${found.text}' is not ${wanted}`);
  }

  boolean(value: Value, where: string): boolean | undefined {
    const words: Record<string, boolean> = { true: true, false: false };
    return this.parsed(value, where, "true or false", (text) =>
      Object.hasOwn(words, text) ? words[text] : undefined,
    );
  }

  integer(value: Value, where: string, least: number, most: number): number | undefined {
    return this.parsed(value, where, `a whole number from ${least} to ${most}`, (text) => {
      const number = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
      return number >= least && number <= most ? number : undefined;
    });
  }

  duration(value: Value, where: string): number | undefined {
    return this.parsed(value, where, "a duration like 30s or 1m30s", parseDuration);
  }

  size(value: Value, where: string, least: number, most: number): number | undefined {
    return this.parsed(value, where, `a size like 512m or 1g, from ${least} to ${most} bytes`, (text) => {
      const size = parseSize(text);
      return size !== undefined && size >= least && size <= most ? size : undefined;
    });
  }

  choice<T extends string>(value: Value, where: string, choices: readonly T[]): T | undefined {
    return this.parsed(value, where, `one of ${choices.join(", ")}`, (text) =>
      choices.find((choice) => choice === text),
    );
  }

  /** An octal mode: `0444` or `"444"`. A number that YAML reads as a decimal one is refused. */
  mode(value: Value, where: string): number | undefined {
    const found = this.text(value, where);
    if (found === undefined) return undefined;
    const match = /^(0o?)?([0-7]{1,4})$/.exec(found.text);
    if (match === null || (match[1] === undefined && !found.quoted && !found.text.startsWith("0"))) {
      return this.refuse(found.line, where, `'${found.text}' is not an octal mode`, "write it like 0444");
    }
    return Number.parseInt(match[2]!, 8);
  }

  items(value: Value, where: string): readonly Value[] {
    if (value.kind === "nothing") return [];
    if (value.kind === "list") return value.items;
    this.wrong(value, where, "a list");
    return [];
  }

  /** A map of names; empty when it is something else. */
  map(value: Value, where: string): MapValue {
    const empty: MapValue = { kind: "map", line: value.line, entries: new Map() };
    if (value.kind === "nothing") return empty;
    if (value.kind !== "map") {
      this.wrong(value, where, "a map");
      return empty;
    }
    return value;
  }

  /** A map with these keys only, and extensions (`x-…`); what else it has is refused. */
  record<K extends string>(
    value: Value,
    where: string,
    keys: readonly K[],
    refused: Readonly<Record<string, readonly [reason: string, fix?: string]>> = {},
  ): Partial<Record<K, Value>> {
    const found: Partial<Record<K, Value>> = {};
    for (const [key, { line, value: member }] of this.map(value, where).entries) {
      const known = keys.find((one) => one === key);
      const refusal = Object.hasOwn(refused, key) ? refused[key] : undefined;
      if (key.startsWith("x-")) continue;
      if (known !== undefined) found[known] = member;
      else if (refusal !== undefined) this.refuse(line, `${where}.${key}`, ...refusal);
      else this.refuse(line, `${where}.${key}`, "there is no such key", `one of ${keys.join(", ")}`);
    }
    return found;
  }

  texts(value: Value, where: string): Text[] {
    return this.items(value, where).flatMap((item) => this.text(item, where) ?? []);
  }

  /** One text, or a list of them. */
  oneOrMore(value: Value, where: string): Text[] {
    return value.kind === "text" ? [this.text(value, where) ?? []].flat() : this.texts(value, where);
  }

  /** A command: a list of words, or a text that is split into words. */
  words(value: Value, where: string): string[] | undefined {
    if (value.kind === "nothing") return undefined;
    if (value.kind === "list") return this.texts(value, where).map(({ text }) => text);
    return this.parsed(value, where, "a command with every quote closed", splitWords);
  }

  /** `NAME: value` or `- NAME=value`; the value is undefined where only a name stands. */
  pairs(
    value: Value,
    where: string,
    separator = /=/,
  ): { name: string; value: Text | undefined; line: number }[] {
    if (value.kind === "map") {
      return [...value.entries].flatMap(([name, { line, value: member }]) => {
        if (member.kind === "nothing") return { name, value: undefined, line };
        const found = this.text(member, `${where}.${name}`);
        return found === undefined ? [] : { name, value: found, line };
      });
    }
    return this.texts(value, where).map(({ text, line, quoted }) => {
      const at = text.search(separator);
      if (at === -1) return { name: text, value: undefined, line };
      return { name: text.slice(0, at), value: { text: text.slice(at + 1), line, quoted }, line };
    });
  }
}
