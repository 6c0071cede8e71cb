// SPDX-License-Identifier: Apache-2.0
/**
 * MessagePack (msgpack/spec.md), narrowed to what attestations have: whole numbers, texts, byte strings, lists, maps by text,
 * booleans, nil. Every number and length is in its shortest form, no key occurs twice, nothing follows the one value.
 */
import { fromUtf8 } from "@caisson/vocabulary/bytes";
import { Cursor } from "./cursor.ts";

export type Packed =
  | number
  | string
  | boolean
  | null
  | Uint8Array
  | Packed[]
  | { readonly [name: string]: Packed };

/** Nesting of what is read; an attestation has five. */
const DEPTH = 8;
/** Values in all: a quote of 64 kB may be a list of its bytes. */
const MOST = 1 << 18;

class Packing extends Cursor {
  #values = 0;

  count(): void {
    if (++this.#values > MOST) this.wrong(`has more than ${MOST} values`);
  }
}

/** Decodes one value, all of `bytes`; `what`: as in an error. Throws VerifyError "evidence/malformed". */
export function decodeMessagePack(bytes: Uint8Array, what: string): Packed {
  const cursor = new Packing(bytes, what);
  const value = item(cursor, DEPTH);
  cursor.end();
  return value;
}

/** Whether bytes begin as a map of which `first` is the first key. */
export const isMessagePackMap = (bytes: Uint8Array, first: string): boolean =>
  bytes[0]! >> 4 === 8 &&
  bytes[1] === (0xa0 | first.length) &&
  fromUtf8(bytes.subarray(2, 2 + first.length)) === first;

function item(cursor: Packing, depth: number): Packed {
  cursor.count();
  if (depth === 0) cursor.wrong("is nested too deep");
  const tag = cursor.bigEndian(1);
  if (tag < 0x80) return tag;
  if (tag < 0x90) return map(cursor, tag & 0x0f, depth);
  if (tag < 0xa0) return list(cursor, tag & 0x0f, depth);
  if (tag < 0xc0) return cursor.text(tag & 0x1f);
  switch (tag) {
    case 0xc0:
      return null;
    case 0xc2:
      return false;
    case 0xc3:
      return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
      return cursor.take(sized(cursor, tag - 0xc4, [0, 0x100, 0x1_0000]));
    case 0xcc:
    case 0xcd:
    case 0xce:
      return sized(cursor, tag - 0xcc, [0x80, 0x100, 0x1_0000]);
    case 0xd9:
    case 0xda:
    case 0xdb:
      return cursor.text(sized(cursor, tag - 0xd9, [32, 0x100, 0x1_0000]));
    case 0xdc:
    case 0xdd:
      return list(cursor, sized(cursor, tag - 0xdc + 1, [0, 16, 0x1_0000]), depth);
    case 0xde:
    case 0xdf:
      return map(cursor, sized(cursor, tag - 0xde + 1, [0, 16, 0x1_0000]), depth);
    default:
      return cursor.wrong("has a value of a kind that no attestation has");
  }
}

/** A number of 1, 2 or 4 bytes (`power` 0, 1, 2); `least` by power: what did not fit in the form before. */
function sized(cursor: Cursor, power: number, least: readonly [number, number, number]): number {
  const value = cursor.bigEndian(1 << power);
  if (value < least[power]!) cursor.wrong("has a number that is not in its shortest form");
  return value;
}

function list(cursor: Packing, count: number, depth: number): Packed[] {
  if (count > cursor.left) cursor.wrong("has a list that is longer than its bytes");
  return Array.from({ length: count }, () => item(cursor, depth - 1));
}

function map(cursor: Packing, count: number, depth: number): Packed {
  if (2 * count > cursor.left) cursor.wrong("has a map that is longer than its bytes");
  const members = new Map<string, Packed>();
  for (let i = 0; i < count; i++) {
    const key = item(cursor, 1);
    if (typeof key !== "string") return cursor.wrong("has a key that is not text");
    if (members.has(key)) cursor.wrong(`has the key ${JSON.stringify(key.slice(0, 64))} twice`);
    members.set(key, item(cursor, depth - 1));
  }
  return Object.fromEntries(members);
}
