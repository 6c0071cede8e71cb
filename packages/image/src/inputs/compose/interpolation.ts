// SPDX-License-Identifier: Apache-2.0
/**
 * Variables in values, as the Compose Specification has them (12-interpolation.md): `$V`, `${V}`, `${V:-default}`,
 * `${V-default}`, `${V:?message}`, `${V?message}`, `${V:+other}`, `${V+other}`, nested, with braces in pairs; `$$` is a
 * dollar sign, and so is one that begins nothing (compose-go 2.16, template.go).
 *
 * One difference: a variable without a value and a default is refused. Compose puts nothing in its place, and an image
 * would then be measured with a hole that nobody meant.
 */

export type Variables = ReadonlyMap<string, string>;

/** Why a text cannot be interpolated. */
export class InterpolationFault extends Error {}

const name = /[A-Za-z_][A-Za-z0-9_]*/y;
const maximumDepth = 20;

class Interpolation {
  private at = 0;
  private readonly text: string;
  private readonly variables: Variables;

  constructor(text: string, variables: Variables) {
    this.text = text;
    this.variables = variables;
  }

  /** Up to the end, or to the brace that closes the expression this is part of. */
  run(depth: number): string {
    if (depth > maximumDepth) throw new InterpolationFault("variables are nested too deeply");
    let result = "";
    // A word may be JSON: its own braces close each other.
    let open = 0;
    while (this.at < this.text.length) {
      const character = this.text[this.at]!;
      if (character === "}" && depth > 0 && open-- === 0) return result;
      if (character === "{") open++;
      this.at++;
      result += character === "$" ? this.dollar(depth) : character;
    }
    if (depth > 0) throw new InterpolationFault("'${' is not closed");
    return result;
  }

  private dollar(depth: number): string {
    const next = this.text[this.at];
    if (next === "$") {
      this.at++;
      return "$";
    }
    if (next === "{") {
      this.at++;
      return this.braced(depth);
    }
    return /[A-Za-z_]/.test(next ?? "") ? this.need(this.name()) : "$";
  }

  private name(): string {
    name.lastIndex = this.at;
    const found = name.exec(this.text)?.[0];
    if (found === undefined) {
      throw new InterpolationFault("'${' begins no variable; a dollar sign is written '$$'");
    }
    this.at += found.length;
    return found;
  }

  private need(variable: string): string {
    const value = this.variables.get(variable);
    if (value === undefined) throw new InterpolationFault(`the variable ${variable} has no value`);
    return value;
  }

  private braced(depth: number): string {
    const variable = this.name();
    const operator = /^:?[-?+]|^\}/.exec(this.text.slice(this.at, this.at + 2))?.[0];
    if (operator === undefined) throw new InterpolationFault(`what follows \${${variable} is not understood`);
    if (operator === "}") {
      this.at++;
      return this.need(variable);
    }
    this.at += operator.length;
    const value = this.variables.get(variable);
    const given = value !== undefined && !(operator.startsWith(":") && value === "");
    // What is not used may name variables that have no value.
    const used = operator.endsWith("+") ? given : !given;
    const word = used ? this.run(depth + 1) : this.skip();
    this.at++;
    if (operator.endsWith("+")) return given ? word : "";
    if (given) return value;
    if (operator.endsWith("?"))
      throw new InterpolationFault(`the variable ${variable} has no value: ${word}`);
    return word;
  }

  /** Passes over a word up to the brace that closes it. */
  private skip(): string {
    for (let open = 0; this.at < this.text.length; this.at++) {
      if (this.text[this.at] === "{") open++;
      else if (this.text[this.at] === "}" && open-- === 0) return "";
    }
    throw new InterpolationFault("'${' is not closed");
  }
}

/** The text with its variables' values. Throws InterpolationFault. */
export function interpolate(text: string, variables: Variables): string {
  return text.includes("$") ? new Interpolation(text, variables).run(0) : text;
}
