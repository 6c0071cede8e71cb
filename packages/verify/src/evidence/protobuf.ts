// SPDX-License-Identifier: Apache-2.0
/**
 * Protocol Buffers' wire format (protobuf.dev, encoding), narrowed so that a message has one reading: each field once
 * unless it is a list, in the type that the message says, numbers in their shortest form, and no field that is not
 * named. What is left out is zero or empty (proto3).
 */
import { VerifyError } from "../errors.ts";
import { Cursor } from "./cursor.ts";

/** Of a list: more than any message here has. */
const MOST = 64;

export class Message {
  readonly what: string;
  readonly #values = new Map<number, (bigint | Uint8Array)[]>();

  /**
   * `kinds`: a letter for each field, the first for number 1: n a number of at most 64 bits, b bytes (a text or
   * message, too), l a list of bytes, - none. Throws VerifyError "evidence/malformed"; "evidence/unsupported" for a
   * field that is not named.
   */
  constructor(encoding: Uint8Array, kinds: string, what: string) {
    this.what = what;
    const cursor = new Cursor(encoding, what);
    while (cursor.left > 0) {
      const tag = varint(cursor);
      const [number, wire] = [Number(tag >> 3n), Number(tag & 7n)];
      const kind = kinds[number - 1] ?? "-";
      if (kind === "-") {
        throw new VerifyError("evidence/unsupported", `${what} has a field ${number} that is not known here`);
      }
      if (wire !== (kind === "n" ? 0 : 2)) cursor.wrong(`has a field ${number} of another type`);
      const value = wire === 0 ? varint(cursor) : cursor.take(lengthOf(cursor));
      const values = this.#values.get(number);
      if (values === undefined) this.#values.set(number, [value]);
      else if (kind !== "l" || values.push(value) > MOST) cursor.wrong(`has the field ${number} too often`);
    }
  }

  list(field: number): (bigint | Uint8Array)[] {
    return this.#values.get(field) ?? [];
  }
  number(field: number): bigint {
    return (this.list(field)[0] ?? 0n) as bigint;
  }
  bytes(field: number): Uint8Array {
    return (this.list(field)[0] ?? new Uint8Array()) as Uint8Array;
  }
  /** A message in this one, which must be there. */
  message(field: number, kinds: string): Message {
    const [value] = this.list(field);
    if (value === undefined) return this.wrong(field, "is missing");
    return new Message(value as Uint8Array, kinds, `${this.what}, field ${field}`);
  }

  wrong(field: number, reason: string): never {
    throw new VerifyError("evidence/malformed", `${this.what}: field ${field} ${reason}`);
  }
}

function lengthOf(cursor: Cursor): number {
  const length = varint(cursor);
  return length > BigInt(cursor.left) ? cursor.wrong("ends inside a field") : Number(length);
}

/** Seven bits a byte, the lowest first, at most 64 in all. */
function varint(cursor: Cursor): bigint {
  let value = 0n;
  for (let i = 0; i < 10; i++) {
    const byte = cursor.littleEndian(1);
    value |= BigInt(byte & 0x7f) << BigInt(7 * i);
    if (byte >= 0x80) continue;
    if (value >> 64n !== 0n || (i > 0 && byte === 0)) break;
    return value;
  }
  return cursor.wrong("has a number that is too long");
}
