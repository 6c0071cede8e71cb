/**
 * What sabotages led to, so that a run that was ended goes on where it was. A line of JSON each; a file for each state of
 * the tree, so that nothing that was measured on other sources counts. Lines are short and appended whole, so several
 * runs at a time may share a file.
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
  readonly #path: string;
  readonly #known = new Map<string, Result>();

  /** `tree`: hash of the sources. */
  constructor(repository: string, tree: string) {
    const directory = join(repository, ".cache/sabotage");
    mkdirSync(directory, { recursive: true });
    this.#path = join(directory, `${tree.slice(0, 32)}.jsonl`);
    if (!existsSync(this.#path)) return;
    for (const line of readFileSync(this.#path, "utf8").split("\n")) {
      if (line === "") continue;
      const { key, ...result } = JSON.parse(line) as Result & { key: string };
      this.#known.set(key, result);
    }
  }

  get(sabotage: Sabotage): Result | undefined {
    return this.#known.get(keyOf(sabotage));
  }

  add(sabotage: Sabotage, result: Result): void {
    const key = keyOf(sabotage);
    this.#known.set(key, result);
    appendFileSync(this.#path, `${JSON.stringify({ key, ...result })}\n`);
  }
}

const keyOf = ({ file, line, instead, test }: Sabotage): string =>
  hash("sha256", JSON.stringify([file, line, instead, test]), "hex");
