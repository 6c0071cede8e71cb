// SPDX-License-Identifier: Apache-2.0
/**
 * The application's key as a file, for programs that do not ask the socket. The clock's alarm freezes keys in whatever
 * form: it empties these files, and their contents come back when clock and sources agree again. What a program has
 * read by then it has; no alarm can take that back.
 */
import { fchownSync, ftruncateSync, openSync, writeSync } from "node:fs";

export class KeyFiles {
  readonly #files: { file: number; text: string }[] = [];
  #frozen = false;

  /** Writes `text` to `path`, which must not exist yet, readable for this user alone. */
  add(path: string, text: string, user: number, group: number): void {
    const file = openSync(path, "wx", 0o400);
    fchownSync(file, user, group);
    if (!this.#frozen) writeSync(file, text, 0);
    this.#files.push({ file, text });
  }

  /** Empties all files, or writes them back. In place: a bind mount shows the file, whatever has its name. */
  freeze(frozen: boolean): void {
    if (frozen === this.#frozen) return;
    this.#frozen = frozen;
    for (const { file, text } of this.#files) {
      if (frozen) ftruncateSync(file);
      else writeSync(file, text, 0);
    }
  }
}
