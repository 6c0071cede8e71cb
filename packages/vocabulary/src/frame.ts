// SPDX-License-Identifier: Apache-2.0
/**
 * Unambiguous byte strings for hashing, signing and key derivation.
 *
 * Invariant: two different lists of fields never give the same bytes, because every field, the domain first, is
 * preceded by its length; and two uses never share bytes, because their domains differ.
 */

import { allocate } from "#allocate";

/** UTF-8 bytes. */
export { encode as text } from "#text";

/** Domain and fields, each as its length (u32 big endian) and its bytes. `domain` is ASCII. */
export function frame(domain: string, ...fields: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  let size = 4 + domain.length;
  for (const field of fields) size += 4 + field.length;
  const bytes = allocate(size);
  let at = putU32(bytes, 0, domain.length);
  for (let i = 0; i < domain.length; i++) bytes[at++] = domain.charCodeAt(i);
  for (const field of fields) {
    at = putU32(bytes, at, field.length);
    bytes.set(field, at);
    at += field.length;
  }
  return bytes;
}

/** Writes four bytes, big endian, and says where the next one is. */
function putU32(bytes: Uint8Array, at: number, value: number): number {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
  return at + 4;
}

/** Four bytes, big endian. */
export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  putU32(bytes, 0, value);
  return bytes;
}

/**
 * Eight bytes, big endian, of an integer from 0 to 2^53 − 1, or to 2^64 − 1 as a bigint. Throws RangeError for another
 * number.
 */
export function u64(value: number | bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  if (typeof value === "bigint") {
    putU32(bytes, 0, Number(value >> 32n));
    putU32(bytes, 4, Number(value & 0xffff_ffffn));
  } else {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new RangeError(`${value} is not an integer from 0 to 2^53 − 1`);
    putU32(bytes, 0, value / 2 ** 32);
    putU32(bytes, 4, value);
  }
  return bytes;
}
