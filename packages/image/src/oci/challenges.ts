// SPDX-License-Identifier: Apache-2.0
/** The challenges of a WWW-Authenticate field (RFC 9110, sections 11.2 to 11.6.1). */

export interface Challenge {
  /** In lower case. */
  scheme: string;
  /** By name in lower case. */
  parameters: ReadonlyMap<string, string>;
}

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const parameterForm = new RegExp(`(${token})[ \\t]*=[ \\t]*(?:(${token})|"((?:[^"\\\\]|\\\\.)*)")`, "y");
const schemeForm = new RegExp(`${token}(?=[ \\t,]|$)`, "y");
const token68Form = /[ \t]+[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))/y;
const between = /[ \t,]*/y;

/**
 * All challenges of the field, which may be several fields joined by commas; what follows something malformed is left
 * out. A parameter that stands twice keeps its first value.
 */
export function parseChallenges(field: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  let at = 0;
  const match = (form: RegExp): RegExpExecArray | null => {
    form.lastIndex = at;
    const found = form.exec(field);
    if (found !== null) at = form.lastIndex;
    return found;
  };
  for (;;) {
    match(between);
    const current = challenges.at(-1);
    const parameter = current === undefined ? null : match(parameterForm);
    if (parameter !== null) {
      const [, name, plain, quoted] = parameter;
      const value = plain ?? quoted!.replaceAll(/\\(.)/g, "$1");
      const key = name!.toLowerCase();
      if (!current!.parameters.has(key)) current!.parameters.set(key, value);
      continue;
    }
    const scheme = match(schemeForm);
    if (scheme === null) return challenges;
    challenges.push({ scheme: scheme[0].toLowerCase(), parameters: new Map() });
    const start = at;
    // "Scheme name=value" has parameters; anything else behind the scheme is one token.
    match(/[ \t]+/y);
    if (match(parameterForm) !== null) at = start;
    else {
      at = start;
      match(token68Form);
    }
  }
}
