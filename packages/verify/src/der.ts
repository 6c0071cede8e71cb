/**
 * A strict reader of DER (ITU-T X.690): one encoding per value, or an error.
 *
 * Refused, although lax parsers take them: lengths and integers that are not minimal, indefinite lengths, booleans
 * other than 00 and FF, bits set in the padding of bit strings, high tag numbers, bytes left over, and nesting that
 * nobody asked for (the reader is driven by the caller's expectation, so that there is no recursion to exhaust).
 */
import { VerifyError } from "./errors.ts";

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

  /** The next value, whatever its tag. */
  any(): Der {
    const bytes = this.#bytes;
    const start = this.#at;
    if (this.#end - start < 2) malformed("the input ends inside a value", start);
    const type = bytes[start]!;
    if ((type & 0x1f) === 0x1f) malformed("a high tag number", start);
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
    return new Der(bytes, type, start, at, this.#at);
  }

  /** The next value, which must have this tag. */
  read(type: number): Der {
    const start = this.#at;
    if (this.nextTag !== type) {
      const found = this.nextTag === undefined ? "the end" : `tag 0x${this.nextTag.toString(16)}`;
      malformed(`expected tag 0x${type.toString(16)}, found ${found}`, start);
    }
    return this.any();
  }

  /** The next value if it has this tag. */
  optional(type: number): Der | undefined {
    return this.nextTag === type ? this.any() : undefined;
  }

  /** A reader of the content of the next value, which must have this (constructed) tag. */
  enter(type: number): DerReader {
    return this.read(type).enter();
  }

  end(): void {
    if (this.more) malformed("bytes after the last value", this.#at);
  }

  boolean(): boolean {
    const { content } = this.read(tag.boolean);
    if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) malformed("a boolean", this.#at);
    return content[0] === 0xff;
  }

  /** Content of a minimal INTEGER that is not negative, without the leading zero byte that marks its sign. */
  unsigned(type: number = tag.integer): Uint8Array {
    const { content } = this.read(type);
    const [first, second] = content;
    if (first === undefined) malformed("an integer without content", this.#at);
    if (first >= 0x80) malformed("a negative integer", this.#at);
    if (first === 0 && content.length > 1) {
      if (second! < 0x80) malformed("an integer that is not minimal", this.#at);
      return content.subarray(1);
    }
    return content;
  }

  /** A non-negative INTEGER of at most `most`, which is below 2^31. */
  number(most: number, type: number = tag.integer): number {
    const bytes = this.unsigned(type);
    const value = bytes.length > 4 ? Number.POSITIVE_INFINITY : bytes.reduce((n, byte) => n * 256 + byte, 0);
    return value <= most ? value : malformed(`an integer above ${most}`, this.#at);
  }

  /** An OBJECT IDENTIFIER in dotted form. */
  oid(): string {
    const { content } = this.read(tag.oid);
    if (content.length === 0 || content.length > 32 || content.at(-1)! >= 0x80) {
      malformed("an object identifier", this.#at);
    }
    const arcs: number[] = [];
    let value = 0;
    let fresh = true;
    for (const byte of content) {
      if (fresh && byte === 0x80) malformed("an object identifier that is not minimal", this.#at);
      if (value > 0xffffff) malformed("an object identifier arc above 2^31", this.#at);
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
    const { content } = this.read(tag.bitString);
    if (content[0] !== 0) malformed("a bit string with unused bits, or without content", this.#at);
    return content.subarray(1);
  }

  /** A BIT STRING of at most 16 named bits as a number, bit 0 the most significant of sixteen. */
  namedBits(): number {
    const { content } = this.read(tag.bitString);
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
    if ((last & ((1 << unused) - 1)) !== 0 || ((last >> unused) & 1) !== 1) {
      malformed("a bit string of named bits with padding or trailing zeros", this.#at);
    }
    return (first << 8) | second;
  }

  /** A UTCTime or GeneralizedTime as RFC 5280, section 4.1.2.5, restricts them. Milliseconds since 1970. */
  time(): number {
    const { tag: type, content } = this.any();
    const utc = type === tag.utcTime && content.length === 13;
    if (!utc && !(type === tag.generalizedTime && content.length === 15)) {
      malformed("a time that is neither YYMMDDhhmmssZ nor YYYYMMDDhhmmssZ", this.#at);
    }
    // Two digits each; NaN spreads from anything that is no digit.
    const pair = (at: number) => {
      const [tens, ones] = [content[at]! - 48, content[at + 1]! - 48];
      return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? 10 * tens + ones : Number.NaN;
    };
    const year = utc ? pair(0) + (pair(0) < 50 ? 2000 : 1900) : 100 * pair(0) + pair(2);
    const at = utc ? 2 : 4;
    const [month, day, hour, minute, second] = [
      pair(at),
      pair(at + 2),
      pair(at + 4),
      pair(at + 6),
      pair(at + 8),
    ];
    const ms = Date.UTC(year, month - 1, day, hour, minute, second);
    const date = new Date(ms);
    // Date.UTC carries over: a 30th of February or an hour 24 comes back as another day.
    const exists =
      date.getUTCMonth() === month - 1 && date.getUTCDate() === day && minute < 60 && second < 60;
    if (content.at(-1) !== 0x5a || !exists || hour > 23 || (!utc && year < 2050)) {
      malformed("a time that does not exist, is not in UTC, or is in the wrong form", this.#at);
    }
    return ms;
  }
}
