// SPDX-License-Identifier: Apache-2.0
/**
 * Binary HTTP (RFC 9292): a whole request or response as bytes. Requests are written with known length; responses with
 * indeterminate length, so that they can be sent while they are made. Both forms of both are read, strictly: minimal
 * trailing truncation (section 3.8) and zero padding are taken, anything else that is over is an error.
 */
import { concat } from "@caisson/vocabulary/bytes";
import { ByteQueue } from "./byte-queue.ts";

export type Field = readonly [name: string, value: string];

export interface BinaryRequest {
  method: string;
  scheme: string;
  authority: string;
  path: string;
  fields: readonly Field[];
  content: Uint8Array;
}

/** A message that is not one, or a field that HTTP does not allow. */
export class MessageError extends Error {
  override readonly name = "MessageError";
}

const fieldLimit = 256;
const textLimit = 64 << 10;

/** RFC 9000, section 16, in the shortest form. */
export function varint(value: number): Uint8Array {
  if (value < 0x40) return Uint8Array.of(value);
  if (value < 0x4000) return Uint8Array.of(0x40 | (value >> 8), value & 0xff);
  const bytes = new Uint8Array(value < 0x4000_0000 ? 4 : 8);
  const view = new DataView(bytes.buffer);
  if (bytes.length === 4) view.setUint32(0, (0x8000_0000 + value) >>> 0);
  else {
    view.setUint32(0, (0xc000_0000 + Math.floor(value / 2 ** 32)) >>> 0);
    view.setUint32(4, value % 2 ** 32);
  }
  return bytes;
}

/** The number at the start of `bytes`, and how long it is; undefined when more bytes are needed. Throws MessageError. */
export function readVarint(bytes: Uint8Array, at = 0): { value: number; size: number } | undefined {
  const first = bytes[at];
  if (first === undefined) return undefined;
  const size = 1 << (first >> 6);
  if (bytes.length - at < size) return undefined;
  let value = first & 0x3f;
  for (let i = 1; i < size; i++) value = value * 256 + bytes[at + i]!;
  if (!Number.isSafeInteger(value)) throw new MessageError("a number is too large");
  return { value, size };
}

/** More bytes are needed. */
class Short extends Error {}

class Cursor {
  at = 0;
  readonly #bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }
  get left(): number {
    return this.#bytes.length - this.at;
  }
  number(): number {
    const found = readVarint(this.#bytes, this.at);
    if (found === undefined) throw new Short();
    this.at += found.size;
    return found.value;
  }
  bytes(size: number): Uint8Array {
    if (size > this.left) throw new Short();
    this.at += size;
    return this.#bytes.subarray(this.at - size, this.at);
  }
  text(): string {
    const size = this.number();
    if (size > textLimit) throw new MessageError(`a text of ${size} bytes is too long`);
    let found = "";
    // Fields are bytes to HTTP: Latin-1 keeps them as they are.
    for (const byte of this.bytes(size)) found += String.fromCharCode(byte);
    return found;
  }
}

/** RFC 9110, section 5.6.2, in lower case (RFC 9113, section 8.2); a value has no control character but a tab. */
const namePattern = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const valuePattern = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;

function checkField(name: string, value: string): Field {
  if (!namePattern.test(name)) throw new MessageError("a field's name is not one");
  if (!valuePattern.test(value)) throw new MessageError(`the value of ${name} is not one`);
  return [name, value];
}

function fieldUntilEnd(cursor: Cursor, isEnd: () => boolean): Field[] {
  const fields: Field[] = [];
  while (!isEnd()) {
    if (fields.length >= fieldLimit) throw new MessageError("too many fields");
    fields.push(checkField(cursor.text(), cursor.text()));
  }
  return fields;
}

function readFields(cursor: Cursor, known: boolean): Field[] {
  if (known) {
    const size = cursor.number();
    const inner = new Cursor(cursor.bytes(size));
    try {
      return fieldUntilEnd(inner, () => inner.left === 0);
    } catch (error) {
      throw error instanceof Short ? new MessageError("fields end inside one") : error;
    }
  }
  return fieldUntilEnd(cursor, () => {
    const start = cursor.at;
    if (cursor.number() === 0) return true;
    cursor.at = start;
    return false;
  });
}

/** Reads a request that is there as a whole. Throws MessageError. */
export function readRequest(bytes: Uint8Array): BinaryRequest {
  const cursor = new Cursor(bytes);
  try {
    const indicator = cursor.number();
    if (indicator !== 0 && indicator !== 2) throw new MessageError("this is not a request");
    const known = indicator === 0;
    const [method, scheme, authority, path] = [cursor.text(), cursor.text(), cursor.text(), cursor.text()];
    // What is left out at the end is empty.
    const fields = known && cursor.left === 0 ? [] : readFields(cursor, known);
    const pieces: Uint8Array[] = [];
    if (cursor.left > 0) {
      if (known) pieces.push(cursor.bytes(cursor.number()));
      else for (let size = cursor.number(); size > 0; size = cursor.number()) pieces.push(cursor.bytes(size));
    }
    if (cursor.left > 0 && readFields(cursor, known).length > 0)
      throw new MessageError("trailers are not taken");
    if (cursor.bytes(cursor.left).some((byte) => byte !== 0))
      throw new MessageError("there is more behind it");
    return {
      method,
      scheme,
      authority,
      path,
      fields,
      content: pieces.length === 1 ? pieces[0]! : concat(...pieces),
    };
  } catch (error) {
    throw error instanceof Short ? new MessageError("the message is cut off") : error;
  }
}

const latin1 = (value: string): Uint8Array => {
  const bytes = new Uint8Array(value.length);
  for (let i = 0; i < value.length; i++) {
    const unit = value.charCodeAt(i);
    if (unit > 0xff) throw new MessageError("a field is not of bytes");
    bytes[i] = unit;
  }
  return bytes;
};
const prefixed = (bytes: Uint8Array): Uint8Array => concat(varint(bytes.length), bytes);
const fieldLines = (fields: readonly Field[]): Uint8Array =>
  concat(...fields.map(([name, value]) => concat(prefixed(latin1(name)), prefixed(latin1(value)))));

/** Known length, without trailers. Throws MessageError for fields that HTTP does not allow. */
export function writeRequest({
  method,
  scheme,
  authority,
  path,
  fields,
  content,
}: BinaryRequest): Uint8Array {
  for (const [name, value] of fields) checkField(name, value);
  const control = [method, scheme, authority, path].map((part) => prefixed(latin1(part)));
  return concat(Uint8Array.of(0), ...control, prefixed(fieldLines(fields)), prefixed(content));
}

/** What comes before a response's content. */
export const responseHead = (status: number, fields: readonly Field[]): Uint8Array =>
  concat(varint(3), varint(status), fieldLines(fields), varint(0));
/** A piece of content; not empty. */
export const responseContent = (piece: Uint8Array): Uint8Array => prefixed(piece);
/** The end of content, and no trailers. */
export const responseEnd = Uint8Array.of(0, 0);

/** A head is read again with every piece that comes before its end: the pieces of one are bounded, too. */
const headLimit = 128 << 10;
const headPieceLimit = 256;

/** Takes a response out of a stream. */
export class ResponseReader {
  readonly #held = new ByteQueue();
  #attempts = 0;
  #known = false;
  #state: "start" | "head" | "content" | "piece" | "trailers" | "end" = "start";
  #left = 0;
  head: { status: number; fields: Field[] } | undefined;

  /** Content that `bytes` completes; `head` is set once it is there. Throws MessageError. */
  push(bytes: Uint8Array): Uint8Array[] {
    this.#held.push(bytes);
    const pieces: Uint8Array[] = [];
    while (this.#held.length > 0) {
      if (this.#state === "piece") {
        const piece = this.#held.take(Math.min(this.#left, this.#held.length));
        pieces.push(piece);
        this.#left -= piece.length;
        if (this.#left === 0) this.#state = this.#known ? "trailers" : "content";
        continue;
      }
      const cursor = new Cursor(this.#held.peek(headLimit));
      try {
        this.#step(cursor);
        this.#held.drop(cursor.at);
        this.#attempts = 0;
      } catch (error) {
        if (!(error instanceof Short)) throw error;
        const tooLong = this.#held.length >= headLimit || ++this.#attempts > headPieceLimit;
        if (tooLong) throw new MessageError("the head is too long");
        break;
      }
    }
    return pieces;
  }

  #step(cursor: Cursor): void {
    switch (this.#state) {
      case "start": {
        const indicator = cursor.number();
        if (indicator !== 1 && indicator !== 3) throw new MessageError("this is not a response");
        this.#known = indicator === 1;
        this.#state = "head";
        return;
      }
      case "head": {
        const status = cursor.number();
        if (status < 100 || status > 599) throw new MessageError(`${status} is not a status`);
        const fields = readFields(cursor, this.#known);
        if (status < 200) return;
        this.head = { status, fields };
        this.#state = "content";
        return;
      }
      case "content": {
        this.#left = cursor.number();
        this.#state = this.#left === 0 ? "trailers" : "piece";
        return;
      }
      case "trailers": {
        readFields(cursor, this.#known);
        this.#state = "end";
        return;
      }
      case "end": {
        if (cursor.bytes(cursor.left).some((byte) => byte !== 0))
          throw new MessageError("there is more behind it");
      }
    }
  }

  /** Throws MessageError where the response is not whole. */
  end(): void {
    const truncated = this.#state === "trailers" || (this.#known && this.#state === "content");
    if (this.#held.length > 0 || !(this.#state === "end" || truncated)) {
      throw new MessageError("the response is cut off");
    }
  }
}
