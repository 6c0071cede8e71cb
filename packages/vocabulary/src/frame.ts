// SPDX-License-Identifier: Apache-2.0
/**
 * Unambiguous byte strings for hashing, signing and key derivation.
 *
 * Invariant: two different lists of fields never give the same bytes, because every field, the domain first, is
 * preceded by its length; and two uses never share bytes, because their domains differ.
 */

const encoder = new TextEncoder();

/** Domain and fields, each as its length (u32 big endian) and its bytes. `domain` is ASCII. */
export function frame(domain: string, ...fields: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = [text(domain), ...fields];
  const bytes = new Uint8Array(all.reduce((sum, field) => sum + 4 + field.length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const field of all) {
    view.setUint32(at, field.length);
    bytes.set(field, at + 4);
    at += 4 + field.length;
  }
  return bytes;
}

/** UTF-8 bytes. */
export const text = (value: string): Uint8Array => encoder.encode(value);

/** Four bytes, big endian. */
export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** Eight bytes, big endian, of an integer from 0 to 2^53 − 1, or to 2^64 − 1 as a bigint. */
export function u64(value: number | bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return bytes;
}
