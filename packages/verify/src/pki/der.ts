// SPDX-License-Identifier: Apache-2.0
/**
 * A strict reader of DER (ITU-T X.690): one encoding per value, or an error.
 *
 * Refused, although lax parsers take them: lengths and integers that are not minimal, indefinite lengths, booleans
 * other than 00 and FF, bits set in the padding of bit strings, high tag numbers, bytes left over, and nesting that
 * nobody asked for (the reader is driven by the caller's expectation, so that there is no recursion to exhaust).
 */
import { VerifyError } from "../errors.ts";
import { recogniseOid } from "./oids.ts";

/** Tags of X.690, section 8, that certificates use; context tags are 0xa0 + n (constructed) and 0x80 + n. */
export const tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

function malformed(what: string, offset: number): never {
  throw new VerifyError("der/malformed", `malformed DER: ${what}`, { where: `byte ${offset}` });
}

/** Two decimal digits. */
function pair(bytes: Uint8Array, at: number): number {
  return 10 * bytes[at]! + bytes[at + 1]! - 11 * 0x30;
}

/**
 * One value: its tag, its content, and its whole encoding. Both are views into the input, made when they are asked
 * for: most values are only entered, and views made for each were a fifth of the time of reading a CRL.
 */
export class Der {
  readonly tag: number;
  readonly #bytes: Uint8Array;
  readonly #start: number;
  readonly #content: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, type: number, start: number, content: number, end: number) {
    this.#bytes = bytes;
    this.tag = type;
    this.#start = start;
    this.#content = content;
    this.#end = end;
  }
  get content(): Uint8Array {
    return this.#bytes.subarray(this.#content, this.#end);
  }
  get encoding(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#end);
  }
  /** Reads what the value contains. */
  enter(): DerReader {
    return new DerReader(this.#bytes, this.#content, this.#end);
  }
  /** A reader that stands before the value. */
  reader(): DerReader {
    return new DerReader(this.#bytes, this.#start, this.#end);
  }
}

/** Reads values one after the other; `end` must be called (or `more` asked) so that nothing is left unread. */
export class DerReader {
  readonly #bytes: Uint8Array;
  #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  get more(): boolean {
    return this.#at < this.#end;
  }

  /** Tag of the next value; undefined at the end. */
  get nextTag(): number | undefined {
    return this.more ? this.#bytes[this.#at] : undefined;
  }

  /**
   * Steps over the next value, which must have this tag if one is given, and returns where its content starts; it
   * ends at `#at`. What reads plain values works on these offsets, without an object for each value.
   */
  #step(type?: number): number {
    const bytes = this.#bytes;
    const start = this.#at;
    if (type !== undefined && this.nextTag !== type) {
      const found = this.nextTag === undefined ? "the end" : `tag 0x${this.nextTag.toString(16)}`;
      malformed(`expected tag 0x${type.toString(16)}, found ${found}`, start);
    }
    if (this.#end - start < 2) malformed("the input ends inside a value", start);
    if ((bytes[start]! & 0x1f) === 0x1f) malformed("a high tag number", start);
    let length = bytes[start + 1]!;
    let at = start + 2;
    if (length >= 0x80) {
      const size = length & 0x7f;
      // Three bytes of length are 16 MiB, more than any input that is accepted here.
      if (size === 0 || size > 3) malformed("an indefinite or oversized length", start);
      if (at + size > this.#end) malformed("the input ends inside a length", start);
      length = 0;
      for (let i = 0; i < size; i++) length = (length << 8) | bytes[at++]!;
      if (length < 0x80 || length < 1 << (8 * (size - 1))) malformed("a length that is not minimal", start);
    }
    if (length > this.#end - at) malformed("a value longer than what holds it", start);
    this.#at = at + length;
    return at;
  }

  /** The next value, whatever its tag. */
  any(): Der {
    const start = this.#at;
    const content = this.#step();
    return new Der(this.#bytes, this.#bytes[start]!, start, content, this.#at);
  }

  /** The next value, which must have this tag. */
  read(type: number): Der {
    const start = this.#at;
    const content = this.#step(type);
    return new Der(this.#bytes, type, start, content, this.#at);
  }

  /** The content of the next value, which must have this tag. */
  content(type: number): Uint8Array {
    const start = this.#step(type);
    return this.#bytes.subarray(start, this.#at);
  }

  /** A reader of the content of the next value, which must have this (constructed) tag. */
  enter(type: number): DerReader {
    const start = this.#step(type);
    return new DerReader(this.#bytes, start, this.#at);
  }

  /** All that is left, unread. */
  rest(): Uint8Array {
    return this.#bytes.subarray(this.#at, this.#end);
  }

  end(): void {
    if (this.more) malformed("bytes after the last value", this.#at);
  }

  boolean(): boolean {
    const start = this.#step(tag.boolean);
    const value = this.#bytes[start];
    if (this.#at - start !== 1 || (value !== 0 && value !== 0xff)) malformed("a boolean", start);
    return value === 0xff;
  }

  /** Steps over a minimal INTEGER that is not negative; where its value starts, behind the zero byte of the sign. */
  #unsigned(type: number): number {
    const start = this.#step(type);
    const size = this.#at - start;
    const first = this.#bytes[start]!;
    if (size === 0) malformed("an integer without content", start);
    if (first >= 0x80) malformed("a negative integer", start);
    if (first !== 0 || size === 1) return start;
    if (this.#bytes[start + 1]! < 0x80) malformed("an integer that is not minimal", start);
    return start + 1;
  }

  /** Content of a minimal INTEGER that is not negative, without the leading zero byte that marks its sign. */
  unsigned(): Uint8Array {
    const start = this.#unsigned(tag.integer);
    return this.#bytes.subarray(start, this.#at);
  }

  /** A non-negative INTEGER of at most `most`, which is below 2^31. */
  number(most: number, type: number = tag.integer): number {
    const start = this.#unsigned(type);
    let value = this.#at - start > 4 ? Number.POSITIVE_INFINITY : 0;
    for (let at = start; at < this.#at; at++) value = value * 256 + this.#bytes[at]!;
    return value <= most ? value : malformed(`an integer above ${most}`, start);
  }

  /** An OBJECT IDENTIFIER in dotted form. */
  oid(): string {
    const start = this.#step(tag.oid);
    return recogniseOid(this.#bytes, start, this.#at) ?? this.#decodeOid(start);
  }

  #decodeOid(start: number): string {
    const content = this.#bytes.subarray(start, this.#at);
    if (content.length === 0 || content.length > 32 || content.at(-1)! >= 0x80) {
      malformed("an object identifier", start);
    }
    const arcs: number[] = [];
    let value = 0;
    let fresh = true;
    for (const byte of content) {
      if (fresh && byte === 0x80) malformed("an object identifier that is not minimal", start);
      if (value > 0xffffff) malformed("an object identifier arc above 2^31", start);
      value = value * 128 + (byte & 0x7f);
      fresh = byte < 0x80;
      if (fresh) {
        if (arcs.length === 0) {
          const root = Math.min(Math.floor(value / 40), 2);
          arcs.push(root, value - 40 * root);
        } else arcs.push(value);
        value = 0;
      }
    }
    return arcs.join(".");
  }

  /** Bytes of a BIT STRING with no unused bits. */
  bitString(): Uint8Array {
    const start = this.#step(tag.bitString);
    if (start === this.#at || this.#bytes[start] !== 0) {
      malformed("a bit string with unused bits, or without content", start);
    }
    return this.#bytes.subarray(start + 1, this.#at);
  }

  /**
   * A BIT STRING of at most 16 named bits as a number, bit 0 the most significant of sixteen. `trailingZeros`: bits that DER
   * leaves out may be written, as some authorities do.
   */
  namedBits(trailingZeros = false): number {
    const content = this.content(tag.bitString);
    const [unused, first, second = 0] = content;
    if (
      unused === undefined ||
      unused > 7 ||
      content.length < 2 ||
      content.length > 3 ||
      first === undefined
    ) {
      malformed("a bit string of named bits", this.#at);
    }
    // X.690, 11.2.2: trailing zero bits of a named bit list are removed, so the last used bit is 1.
    const last = content.at(-1)!;
    if ((last & ((1 << unused) - 1)) !== 0 || (!trailingZeros && ((last >> unused) & 1) !== 1)) {
      malformed("a bit string of named bits with padding or trailing zeros", this.#at);
    }
    return (first << 8) | second;
  }

  /** A UTCTime or GeneralizedTime as RFC 5280, section 4.1.2.5, restricts them. Milliseconds since 1970. */
  time(): number {
    const type = this.nextTag;
    const start = this.#step();
    const bytes = this.#bytes;
    const last = this.#at - 1;
    const utc = type === tag.utcTime && last - start === 12;
    let wellFormed = (utc || (type === tag.generalizedTime && last - start === 14)) && bytes[last] === 0x5a;
    for (let at = start; wellFormed && at < last; at++) wellFormed = bytes[at]! >= 0x30 && bytes[at]! <= 0x39;
    if (!wellFormed) malformed("a time that is neither YYMMDDhhmmssZ nor YYYYMMDDhhmmssZ", start);
    const century = pair(bytes, start);
    const year = utc ? century + (century < 50 ? 2000 : 1900) : 100 * century + pair(bytes, start + 2);
    const at = utc ? start + 2 : start + 4;
    const month = pair(bytes, at);
    const day = pair(bytes, at + 2);
    const hour = pair(bytes, at + 4);
    const minute = pair(bytes, at + 6);
    const second = pair(bytes, at + 8);
    const midnight = Date.UTC(year, month - 1, day);
    const exists =
      month >= 1 &&
      month <= 12 &&
      day >= 1 &&
      midnight < Date.UTC(year, month, 1) &&
      hour < 24 &&
      minute < 60 &&
      second < 60;
    if (!exists || (!utc && year < 2050))
      malformed("a time that does not exist, or is in the wrong form", start);
    return midnight + ((hour * 60 + minute) * 60 + second) * 1000;
  }
}
