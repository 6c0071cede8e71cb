// SPDX-License-Identifier: Apache-2.0
/**
 * Little-endian reading with bounds, and the two text forms in which firmware writes: GUIDs and UTF-16LE.
 *
 * Invariant: nothing is read outside the given bytes; every attempt is a MeasureError `AREA/truncated` with the offset.
 */
import { concat, fromHex } from "@caisson/vocabulary/bytes";
import { MeasureError, type MeasureErrorCode } from "./errors.ts";

type Area = Extract<MeasureErrorCode, `${string}/truncated`> extends `${infer A}/truncated` ? A : never;

/** Bytes with random access; `area` names the format in errors. `u64` is exact or refused (above 2^53 − 1). */
export class Bytes {
  readonly data: Uint8Array;
  readonly area: Area;
  readonly #view: DataView;

  constructor(data: Uint8Array, area: Area) {
    this.data = data;
    this.area = area;
    this.#view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  get length(): number {
    return this.data.length;
  }

  #check(offset: number, size: number): void {
    if (offset < 0 || size < 0 || offset + size > this.data.length) {
      throw new MeasureError(
        `${this.area}/truncated`,
        `${size} bytes wanted, but the input ends at ${this.data.length}`,
        {
          offset,
        },
      );
    }
  }

  u8(offset: number): number {
    this.#check(offset, 1);
    return this.#view.getUint8(offset);
  }
  u16(offset: number): number {
    this.#check(offset, 2);
    return this.#view.getUint16(offset, true);
  }
  u32(offset: number): number {
    this.#check(offset, 4);
    return this.#view.getUint32(offset, true);
  }
  /** A 64-bit size or address as a number; values that a number cannot hold come back as Infinity (no bound admits them). */
  u64(offset: number): number {
    this.#check(offset, 8);
    const value = this.#view.getBigUint64(offset, true);
    return value <= Number.MAX_SAFE_INTEGER ? Number(value) : Number.POSITIVE_INFINITY;
  }
  slice(offset: number, size: number): Uint8Array {
    this.#check(offset, size);
    return this.data.subarray(offset, offset + size);
  }
  guid(offset: number): string {
    return formatGuid(this.slice(offset, 16));
  }
}

/** Text of a GUID in EFI's mixed byte order (first three fields little-endian), lower case. */
export function formatGuid(bytes: Uint8Array): string {
  const h = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"));
  const reversed = (from: number, to: number) => h.slice(from, to).reverse().join("");
  return [reversed(0, 4), reversed(4, 6), reversed(6, 8), h.slice(8, 10).join(""), h.slice(10).join("")].join(
    "-",
  );
}

/** The 16 bytes of a GUID's text. */
export function parseGuid(text: string): Uint8Array {
  const [a, b, c, d, e] = text.split("-") as [string, string, string, string, string];
  return concat(
    fromHex(a)!.reverse(),
    fromHex(b)!.reverse(),
    fromHex(c)!.reverse(),
    fromHex(d)!,
    fromHex(e)!,
  );
}

/** UTF-16LE without a terminator; add "\0" to the text for one. */
export function utf16le(text: string): Uint8Array {
  const bytes = new Uint8Array(2 * text.length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < text.length; i++) view.setUint16(2 * i, text.charCodeAt(i), true);
  return bytes;
}

/** `Map.groupBy`, which Node 20 has not. */
export function groupBy<T, Key>(list: readonly T[], key: (item: T) => Key): Map<Key, T[]> {
  const groups = new Map<Key, T[]>();
  for (const item of list) {
    const name = key(item);
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [item]);
    else group.push(item);
  }
  return groups;
}
