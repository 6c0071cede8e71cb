// SPDX-License-Identifier: Apache-2.0
/**
 * docs/errors.md from the sources: every error code of every package, and the files that use it. Run this file to write
 * the document again; a test compares the two.
 */
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { exitStatuses } from "../../packages/cli/src/exit-codes.ts";

const repository = new URL("../../", import.meta.url).pathname;
const code = /^[a-z][a-z0-9-]*\/[a-z][a-z0-9-]*$/;

const literals = (text: string): string[] => [...text.matchAll(/"([^"\n]+)"/g)].map(([, value]) => value!);

const unions = /export type \w*Code =([^;]*);/g;
const lists = /codes: \[([^\]]*)\]/g;
const classes = /extends Failure<"([^"]+)"/g;
const reasons = /new StageFailure\(\s*"([^"]+)"/g;

/**
 * The codes that a file defines: members of its unions `…Code`, lists named `codes`, the only one of a class, reasons
 * of a stage's failure.
 */
function defined(text: string): string[] {
  const found: string[] = [];
  for (const [, union] of text.matchAll(unions)) {
    for (const [, areas, reason] of union!.matchAll(/`\$\{([^}]*)\}\/([a-z-]+)`/g)) {
      found.push(...literals(areas!).map((area) => `${area}/${reason}`));
    }
    found.push(...literals(union!));
  }
  for (const [, list] of text.matchAll(lists)) found.push(...literals(list!));
  for (const [, only] of text.matchAll(classes)) found.push(only!);
  for (const [, reason] of text.matchAll(reasons)) found.push(reason!);
  return found.filter((value) => code.test(value));
}

/** Whether a file gives a code: as it stands, or put together from an area that is a variable. */
function gives(text: string, name: string): boolean {
  const uses = text.replaceAll(unions, "").replaceAll(lists, "");
  const [area, reason] = name.split("/");
  return uses.includes(`"${name}"`) || (uses.includes(`}/${reason}\``) && !uses.includes(`"${area}/`));
}

/** The whole document. */
export function errorDocument(): string {
  const lines = [
    "# Error codes",
    "",
    "Every failure says a code, what failed and where, what was found and expected, and what to do about it. A code is stable; the text is not. The prefix names the area, the files say where to read on. Written by `test/support/error-document.ts` from the sources.",
    "",
    "The exit code follows from the kind of failure. Codes that `verify` gives as reasons in a report stand with their checks in [verification](verification.md).",
    "",
    "| exit code | meaning |",
    "|---|---|",
    ...exitStatuses.map(([code, meaning]) => `| ${code} | ${meaning} |`),
  ];
  const sources = globSync("packages/*/src/**/*.ts", { cwd: repository })
    .filter((path) => !/\.test\.ts$|\/testing\//.test(path))
    .sort()
    .map((path) => ({ path, text: readFileSync(`${repository}${path}`, "utf8") }));
  for (const place of globSync("packages/*", { cwd: repository }).sort()) {
    const own = sources.filter(({ path }) => path.startsWith(`${place}/`));
    const codes = [...new Set(own.flatMap(({ text }) => defined(text)))].sort();
    if (codes.length === 0) continue;
    lines.push("", `## ${place.slice("packages/".length)}`, "", "| code | where |", "|---|---|");
    for (const name of codes) {
      const inside = own.filter(({ text }) => gives(text, name));
      const users = inside.length > 0 ? inside : sources.filter(({ text }) => text.includes(`"${name}"`));
      const files = users.map(({ path }) => `\`${path.replace("packages/", "").replace("/src/", "/")}\``);
      lines.push(`| \`${name}\` | ${files.join(", ")} |`);
    }
  }
  return `${lines.join("\n")}\n`;
}

if (import.meta.main) writeFileSync(`${repository}docs/errors.md`, errorDocument());
