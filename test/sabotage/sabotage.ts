// SPDX-License-Identifier: Apache-2.0
/**
 * A sabotage: one line of the product made wrong, and the test that must notice. The lists are data, a file a package,
 * in `list/`.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface Sabotage {
  /** What is wrong then, as one would report it. */
  what: string;
  /** Path in the repository. */
  file: string;
  /** Text of one line; it occurs in the file exactly once. */
  line: string;
  /** What stands in its place. */
  instead: string;
  /** The test file that must fail. Its folder says the tier. */
  test: string;
}

/** Why a sabotage cannot be made in this tree; undefined when it can. */
export function obstacle(root: string, { file, line, instead, test }: Sabotage): string | undefined {
  let text: string;
  try {
    text = readFileSync(join(root, file), "utf8");
    readFileSync(join(root, test));
  } catch (error) {
    return (error as Error).message;
  }
  const times = text.split(line).length - 1;
  if (line === "" || line.includes("\n") || instead.includes("\n"))
    return `${file}: a sabotage is within one line`;
  if (line === instead) return `${file}: nothing changes`;
  if (times === 1) return undefined;
  return `${file}: '${line}' is there ${times === 0 ? "no more" : `${times} times`}`;
}

/** The file with the sabotage in it. */
export function sabotaged(root: string, { file, line, instead }: Sabotage): string {
  return readFileSync(join(root, file), "utf8").replace(line, () => instead);
}

/** The tier of a test file: how long it may take, and whether it boots machines. */
export type Tier = "unit" | "integration" | "e2e" | "attacks";

export function tierOf(test: string): Tier {
  const tier = /^test\/(integration|e2e|attacks)\//.exec(test)?.[1];
  return (tier as Tier | undefined) ?? "unit";
}

/** What is wrong; file, line and what stands instead; the test. Both paths are below the folder of the list. */
export type Row = [what: string, file: string, line: string, instead: string, test: string];

/** The sabotages of one folder. A test with a leading slash is a path of the repository. */
export function within(folder: string, rows: readonly Row[]): Sabotage[] {
  return rows.map(([what, file, line, instead, test]) => ({
    what,
    file: `${folder}/${file}`,
    line,
    instead,
    test: test.startsWith("/") ? test.slice(1) : `${folder}/${test}`,
  }));
}
