// SPDX-License-Identifier: Apache-2.0
/** What is wrong with a file, all of it at once: a person mends ten lines in one go, not in ten runs. */
import { ImageError } from "../../errors.ts";

export interface Problem {
  /** From 1. */
  line: number;
  /** Where in the file: "services.web.ports". */
  where: string;
  reason: string;
  /** What to do instead. */
  fix?: string;
}

/** More than this helps nobody, and a hostile file must not fill memory with our words. */
const maximumProblems = 100;

export class Problems {
  readonly list: Problem[] = [];
  private dropped = 0;

  add(line: number, where: string, reason: string, fix?: string): void {
    if (this.list.length === maximumProblems) this.dropped++;
    else this.list.push({ line, where, reason, ...(fix !== undefined && { fix }) });
  }

  /** Throws ImageError `compose/refused` that names every problem, in the order of lines, if there is one. */
  raise(path: string): void {
    if (this.list.length === 0) return;
    const total = this.list.length + this.dropped;
    const facts = sorted(this.list).map(
      ({ line, where, reason, fix }) =>
        [`line ${line}`, `${where}: ${reason}${fix === undefined ? "" : ` → ${fix}`}`] as const,
    );
    throw new ImageError(
      "compose/refused",
      `${path} cannot run as it is: ${total === 1 ? "one thing" : `${total} things`} to change`,
      { facts: this.dropped === 0 ? facts : [...facts, ["…", `${this.dropped} more`]] },
    );
  }
}

const sorted = (list: readonly Problem[]): Problem[] => [...list].sort((a, b) => a.line - b.line);
