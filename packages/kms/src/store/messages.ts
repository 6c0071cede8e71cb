// SPDX-License-Identifier: Apache-2.0
/**
 * What a PostgreSQL server says, before its client reads it: a type, the length of the rest (u32, with itself), content
 * (https://www.postgresql.org/docs/15/protocol-message-formats.html).
 *
 * Invariant: a server that says something else ends its session, and neither the process nor its one thread: the client's
 * reader looks for ever for the end of an error that has none, and throws elsewhere where nobody could catch it. With the
 * process the root secret of a KMS in a guest would go.
 */
import type { Duplex } from "node:stream";
import { messageOf } from "@caisson/vocabulary/failure";

const headSize = 5;
const none: Buffer = Buffer.alloc(0);
/** Longer than any row of a KMS's, and any error of PostgreSQL's; bytes. */
const most = { message: 2 ** 28, error: 2 ** 16 };

export class Messages {
  /** Of the head of the message that is on its way. */
  #head: Buffer = none;
  /** Bytes of it that are to come. */
  #left = 0;
  /** What came of it, where it is an error or a notice. */
  #fields: Buffer | undefined;

  /** What comes next. Throws Error where that is no message, or an error or notice without an end. */
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
      if (this.#fields === undefined) continue;
      this.#fields = Buffer.concat([this.#fields, content]);
      if (this.#left > 0) continue;
      checkFields(this.#fields);
      this.#fields = undefined;
    }
  }

  #begin(head: Buffer): void {
    const type = String.fromCharCode(head[0]!);
    const isError = type === "E" || type === "N";
    this.#head = none;
    this.#left = head.readUInt32BE(1) - 4;
    if (this.#left < 0 || this.#left > (isError ? most.error : most.message)) {
      throw new Error(`a message of type ${JSON.stringify(type)} and ${this.#left} bytes`);
    }
    this.#fields = isError ? none : undefined;
  }
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
      stream.destroy(new Error(`it does not speak PostgreSQL's protocol: ${messageOf(error)}`));
      return true;
    }
  };
}
