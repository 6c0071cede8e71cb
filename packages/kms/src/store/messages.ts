// SPDX-License-Identifier: Apache-2.0
/**
 * What a PostgreSQL server says, before its client reads it: a type, the length of the rest (u32, with itself), content
 * (https://www.postgresql.org/docs/15/protocol-message-formats.html).
 *
 * Invariant: a server that says something else ends its session, and neither the process nor its one thread: the client's
 * reader looks for ever for the end of an error that has none, and throws elsewhere where nobody could catch it. With the
 * process the root secret of a KMS in a guest would go. Nor does one that never stops answering fill its memory, where the
 * client keeps all rows of an answer, each with all columns that were announced.
 */
import type { Duplex } from "node:stream";
import { messageOf } from "@caisson/vocabulary/failure";

const headSize = 5;
const none: Buffer = Buffer.alloc(0);
/**
 * More than a KMS asks for, and PostgreSQL says: bytes of what is read whole (an error, the names of columns), columns of
 * a row, and messages and bytes of the answer to one statement. The most that it asks for are the rows of a thousand
 * commits or of 500 policies, with what lies in their buckets.
 */
const most = { whole: 2 ** 16, columns: 64, messages: 2 ** 17, answer: 2 ** 27 };

/** It may be PostgreSQL, and says more than is taken. */
class TooMuch extends Error {}

export class Messages {
  /** Of the head of the message that is on its way. */
  #head: Buffer = none;
  /** Bytes of it that are to come. */
  #left = 0;
  /** Its type, and what came of it, where it is read whole. */
  #whole: { type: string; content: Buffer } | undefined;
  /** Since the last statement was answered, without it. */
  #answer = { messages: 0, bytes: 0 };

  /** What comes next. Throws Error where that is not a message, an error or notice without an end, or too much. */
  follow(chunk: Buffer): void {
    for (let rest = chunk; rest.length > 0; ) {
      if (this.#left === 0) {
        const more = rest.subarray(0, headSize - this.#head.length);
        const head = this.#head.length === 0 ? more : Buffer.concat([this.#head, more]);
        rest = rest.subarray(more.length);
        this.#head = head;
        if (head.length < headSize) return;
        this.#begin(head);
      }
      const content = rest.subarray(0, this.#left);
      rest = rest.subarray(content.length);
      this.#left -= content.length;
      if (this.#whole === undefined) continue;
      this.#whole.content = Buffer.concat([this.#whole.content, content]);
      if (this.#left > 0) continue;
      check(this.#whole);
      this.#whole = undefined;
    }
  }

  #begin(head: Buffer): void {
    const type = String.fromCharCode(head[0]!);
    const isWhole = "ENT".includes(type);
    this.#head = none;
    this.#left = head.readUInt32BE(1) - 4;
    if (this.#left < 0 || this.#left > (isWhole ? most.whole : most.answer)) {
      throw new Error(`a message of type ${JSON.stringify(type)} and ${this.#left} bytes`);
    }
    this.#whole = isWhole ? { type, content: none } : undefined;
    // It is ready for the next one.
    if (type === "Z") this.#answer = { messages: 0, bytes: 0 };
    this.#answer.messages += 1;
    this.#answer.bytes += this.#left;
    if (this.#answer.messages > most.messages) throw new TooMuch(`more than ${most.messages} messages`);
    if (this.#answer.bytes > most.answer) throw new TooMuch(`more than ${most.answer} bytes`);
  }
}

function check({ type, content }: { type: string; content: Buffer }): void {
  if (type !== "T") return checkFields(content);
  const columns = content.length < 2 ? 0 : content.readUInt16BE(0);
  if (columns > most.columns) throw new TooMuch(`rows of ${columns} columns`);
}

/** Each is a byte and a text that ends with a zero; after the last comes a zero in place of the byte. */
function checkFields(fields: Buffer): void {
  for (let at = 0; fields[at] !== 0; ) {
    const end = fields.indexOf(0, at + 1);
    if (end < 0 || end + 1 >= fields.length) throw new Error("an error that does not end");
    at = end + 1;
  }
}

/** Whoever reads `stream` gets only what follows the protocol, and what he throws on it ends the stream. */
export function guard(stream: Duplex): void {
  const messages = new Messages();
  const emit = stream.emit.bind(stream) as (event: string | symbol, ...values: unknown[]) => boolean;
  stream.emit = (event: string | symbol, ...values: unknown[]): boolean => {
    if (event !== "data") return emit(event, ...values);
    try {
      messages.follow(values[0] as Buffer);
      return emit(event, ...values);
    } catch (error) {
      const what =
        error instanceof TooMuch ? "it answers too much" : "it does not speak PostgreSQL's protocol";
      stream.destroy(new Error(`${what}: ${messageOf(error)}`));
      return true;
    }
  };
}
