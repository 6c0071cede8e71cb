// SPDX-License-Identifier: Apache-2.0
/**
 * What sabotages led to, so that a run that was ended goes on where it was. A line of JSON each. A result counts for as
 * long as the sabotaged file and the test are what they were. Lines are short and appended whole, so several runs at a
 * time may share the file.
 */
import { hash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Sabotage } from "./sabotage.ts";

/** `noticed`: a test failed. `late`: the file ran into its limit, which notices too, but says nothing. */
export type Outcome = "noticed" | "late" | "survived";

export interface Result {
  outcome: Outcome;
  /** The first test that failed. */
  by?: string;
  seconds: number;
}

export class Results {
  readonly #repository: string;
  readonly #path: string;
  readonly #known = new Map<string, Result>();

  constructor(repository: string) {
    this.#repository = repository;
    const directory = join(repository, ".cache/sabotage");
    mkdirSync(directory, { recursive: true });
    this.#path = join(directory, "results.jsonl");
    if (!existsSync(this.#path)) return;
    for (const line of readFileSync(this.#path, "utf8").split("\n")) {
      if (line === "") continue;
      const { key, ...result } = JSON.parse(line) as Result & { key: string };
      this.#known.set(key, result);
    }
  }

  get(sabotage: Sabotage): Result | undefined {
    return this.#known.get(resultKey(this.#repository, sabotage));
  }

  /** `key`: `resultKey` of the tree that was measured. */
  add(key: string, result: Result): void {
    this.#known.set(key, result);
    appendFileSync(this.#path, `${JSON.stringify({ key, ...result })}\n`);
  }
}

/** Names a sabotage together with what it was made of, in the tree at `root`. */
export function resultKey(root: string, { file, line, instead, test }: Sabotage): string {
  const [sabotaged, notices] = [file, test].map((path) => readFileSync(join(root, path), "utf8"));
  return hash("sha256", JSON.stringify([file, line, instead, test, sabotaged, notices]), "hex");
}
