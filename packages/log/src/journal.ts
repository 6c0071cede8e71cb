// SPDX-License-Identifier: Apache-2.0
/**
 * What was committed and may not be in its files yet, in one file: a commit costs one fsync, however many files it changes.
 *
 *     record = u32 length ‖ SHA-256 of content ‖ content; zeros behind the last
 *
 * The room for records is there before they are, so that a record is data alone: a file that grows would have the file
 * system commit its own journal each time. Invariant: a record is on disk before the next one is begun, so only the last
 * can be torn, and a torn one was answered to nobody.
 */
import { hash } from "node:crypto";
import {
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { equal } from "@caisson/vocabulary/bytes";
import { LogServiceError } from "./errors.ts";
import { synchronize } from "./files.ts";

const headerSize = 36;
/** Bytes that are kept; more are added where a journal needs them. */
const room = 1 << 20;
const digest = (content: Uint8Array): Uint8Array => new Uint8Array(hash("sha256", content, "buffer"));

/** The whole record at `at`; undefined where there is none. */
function recordAt(bytes: Uint8Array, at: number): Uint8Array | undefined {
  if (at + headerSize > bytes.length) return undefined;
  const length = new DataView(bytes.buffer, bytes.byteOffset + at).getUint32(0);
  const content = bytes.subarray(at + headerSize, at + headerSize + length);
  if (length === 0 || content.length < length) return undefined;
  return equal(digest(content), bytes.subarray(at + 4, at + headerSize)) ? content : undefined;
}

export class Journal {
  readonly #path: string;
  readonly #file: number;
  #size = 0;
  /** What was there when it was opened, in order. */
  readonly records: readonly Uint8Array[];

  /** Opens a journal, or begins one; a torn end is cut off. Throws LogServiceError "log-service/damaged". */
  constructor(path: string) {
    this.#path = path;
    this.#file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o644);
    const bytes = new Uint8Array(readFileSync(this.#file));
    const records: Uint8Array[] = [];
    for (let found = recordAt(bytes, 0); found !== undefined; found = recordAt(bytes, this.#size)) {
      records.push(found);
      this.#size += headerSize + found.length;
    }
    this.#checkTorn(bytes);
    this.records = records;
    this.#empty(this.#size);
    synchronize(dirname(path));
  }

  /** Nothing but zeros from `start` on, and room for records. */
  #empty(start: number): void {
    ftruncateSync(this.#file, Math.max(room, start));
    const used = fstatSync(this.#file).size - start;
    this.#write(new Uint8Array(used), start);
    fsyncSync(this.#file);
  }

  #write(bytes: Uint8Array, start: number): void {
    for (let at = 0; at < bytes.length; ) {
      at += writeSync(this.#file, bytes, at, bytes.length - at, start + at);
    }
  }

  /** A record that is whole behind one that is not was answered: the disk lost something in between. */
  #checkTorn(bytes: Uint8Array): void {
    const end = bytes.findLastIndex((byte) => byte !== 0);
    for (let at = this.#size + 1; at + headerSize <= end; at++) {
      if (recordAt(bytes, at) === undefined) continue;
      throw new LogServiceError("log-service/damaged", `${this.#path} is damaged at ${this.#size}`);
    }
  }

  /** After this, the record outlives a crash. */
  append(content: Uint8Array): void {
    const record = new Uint8Array(headerSize + content.length);
    new DataView(record.buffer).setUint32(0, content.length);
    record.set(digest(content), 4);
    record.set(content, headerSize);
    this.#write(record, this.#size);
    fdatasyncSync(this.#file);
    this.#size += record.length;
  }

  /** Begins again, once everything is in its files. */
  clear(): void {
    this.#empty(0);
    this.#size = 0;
  }

  close(): void {
    closeSync(this.#file);
  }
}
