// SPDX-License-Identifier: Apache-2.0
/**
 * The application's key, and its owners' secrets, as files, for programs that do not ask the socket. The clock's alarm
 * freezes keys in whatever form: it empties these files, and their contents come back when clock and sources agree
 * again. What a program has read by then it has; no alarm can take that back.
 */
import { fchownSync, ftruncateSync, openSync, writeSync } from "node:fs";

function write(file: number, content: string | Uint8Array): void {
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at, at);
}

export class KeyFiles {
  readonly #files: { file: number; content: string | Uint8Array }[] = [];
  #frozen = false;

  /** Writes `content` to `path`, which must not exist yet, readable for this user alone. */
  add(path: string, content: string | Uint8Array, user: number, group: number): void {
    const file = openSync(path, "wx", 0o400);
    fchownSync(file, user, group);
    if (!this.#frozen) write(file, content);
    this.#files.push({ file, content });
  }

  /** Empties all files, or writes them back. In place: a bind mount shows the file, whatever has its name. */
  freeze(frozen: boolean): void {
    if (frozen === this.#frozen) return;
    this.#frozen = frozen;
    for (const { file, content } of this.#files) {
      if (frozen) ftruncateSync(file);
      else write(file, content);
    }
  }
}
