// SPDX-License-Identifier: Apache-2.0
/**
 * Files that have to be there after a crash: written beside their place, synchronized, renamed, and the directory
 * synchronized, too.
 */
import { hash } from "node:crypto";
import { once } from "node:events";
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { dirname } from "node:path";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { LogServiceError } from "./errors.ts";

/** Files and directories that were written, to be synchronized once for all of a batch. */
export class Durable {
  readonly #files = new Set<string>();
  readonly #directories = new Set<string>();

  /** Puts a whole file into its place, synchronized before it is there. */
  write(path: string, content: string | Uint8Array): void {
    this.#put(path, content, true);
  }

  /** Puts a whole file into its place; a crash of the machine before `sync` can leave it torn. */
  writeLater(path: string, content: string | Uint8Array): void {
    this.#put(path, content, false);
    this.#files.add(path);
  }

  /** What is in a file is not needed any more. */
  forget(path: string): void {
    this.#files.delete(path);
  }

  #put(path: string, content: string | Uint8Array, flush: boolean): void {
    const directory = dirname(path);
    const made = makeDirectory(directory);
    if (made !== undefined) {
      for (let at = directory; at.length >= made.length; at = dirname(at)) this.#directories.add(dirname(at));
    }
    writeFileSync(`${path}.new`, content, { flush });
    renameSync(`${path}.new`, path);
    this.#directories.add(directory);
  }

  /** After this, everything that was written outlives a crash. */
  sync(): void {
    for (const path of [...this.#files, ...this.#directories]) synchronize(path);
    this.#files.clear();
    this.#directories.clear();
  }
}

/** After this, a file's content, or a directory's names, outlive a crash. */
export function synchronize(path: string): void {
  const handle = openSync(path, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** Puts one whole file into its place, synchronized. */
export function replaceFile(path: string, content: string | Uint8Array): void {
  const durable = new Durable();
  durable.write(path, content);
  durable.sync();
}

/**
 * Makes this process the only one that writes in a directory, until it ends however it ends; returns what gives that up.
 * Throws LogServiceError "log-service/busy".
 */
export async function writerLock(directory: string): Promise<() => Promise<void>> {
  makeDirectory(directory);
  const server = createServer((socket) => socket.destroy()).unref();
  try {
    // A name in the abstract namespace (unix(7)): the kernel frees it with its process.
    server.listen(`\0caisson/log/${hash("sha256", realpathSync(directory))}`);
    await once(server, "listening");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    throw new LogServiceError("log-service/busy", `another process writes in ${directory}`, {
      fix: "end it first, or name another directory",
    });
  }
  return () => new Promise((done) => void server.close(() => done()));
}

/** A file's bytes; undefined where there is none. */
export function readIfThere(path: string): Uint8Array | undefined {
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
