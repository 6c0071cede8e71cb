// SPDX-License-Identifier: Apache-2.0
/**
 * CBOR (RFC 8949), narrowed to what COSE and attestation documents need: whole numbers, byte and text strings, arrays, maps
 * whose keys are text or numbers, tags that the caller expects, null. Lengths are in their shortest form (section 4.2.1) and
 * definite, but for maps, whose length AWS leaves open; no key occurs twice, nothing follows the one item.
 */
import { fromUtf8 } from "@caisson/vocabulary/bytes";

export type CborValue =
  | number
  | Uint8Array
  | string
  | null
  | CborValue[]
  | ReadonlyMap<string | number, CborValue>;

/** What is wrong with an encoding, and where: its offset. */
export class CborError extends Error {
  override readonly name = "CborError";
}

/** Nesting of what is read; the documents have three. */
const DEPTH = 8;
/** A map without a stated length, and its end. */
const OPEN_MAP = 0xbf;
const BREAK = 0xff;
/** Items of one array or map. */
const ITEMS = 1024;

/** Decodes one item, all of `bytes`; `skippedTag`: a tag that may stand before it. Throws CborError. */
export function decodeCbor(bytes: Uint8Array, skippedTag?: number): CborValue {
  const reader = new Reader(bytes);
  if (skippedTag !== undefined) reader.skipTag(skippedTag);
  const value = reader.item(DEPTH);
  reader.end();
  return value;
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  end(): void {
    if (this.#at !== this.#bytes.length) this.#wrong("something follows");
  }

  skipTag(tag: number): void {
    if (this.#bytes[this.#at]! >> 5 === 6 && this.#head(6) !== tag) this.#wrong("another tag");
  }

  item(depth: number): CborValue {
    if (depth === 0) this.#wrong("too deep");
    const type = (this.#bytes[this.#at] ?? 0xff) >> 5;
    switch (type) {
      case 0:
        return this.#head(0);
      case 1:
        return -1 - this.#head(1);
      case 2:
        return this.#take(this.#head(2));
      case 3:
        return this.#text();
      case 4:
        return Array.from({ length: this.#count(4) }, () => this.item(depth - 1));
      case 5:
        return this.#map(depth);
      default:
        if (this.#bytes[this.#at] !== 0xf6) this.#wrong("this kind of item is not read here");
        this.#at += 1;
        return null;
    }
  }

  #map(depth: number): CborValue {
    const map = new Map<string | number, CborValue>();
    const open = this.#bytes[this.#at] === OPEN_MAP;
    const count = open ? ITEMS : this.#count(5);
    if (open) this.#at += 1;
    while (map.size < count && !(open && this.#bytes[this.#at] === BREAK)) {
      const key = this.item(depth - 1);
      if (typeof key !== "string" && typeof key !== "number")
        this.#wrong("a key is neither text nor a number");
      if (map.has(key as string)) this.#wrong(`the key ${key} occurs twice`);
      map.set(key as string, this.item(depth - 1));
    }
    if (open && this.#take(1)[0] !== BREAK) this.#wrong("too many items");
    return map;
  }

  #text(): string {
    const bytes = this.#take(this.#head(3));
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return this.#wrong(`text that is not UTF-8: ${fromUtf8(bytes.subarray(0, 16))}`);
    }
  }

  #count(type: number): number {
    const count = this.#head(type);
    return count > ITEMS ? this.#wrong("too many items") : count;
  }

  /** The number of an initial byte of this major type, in its shortest form. */
  #head(type: number): number {
    const [initial] = this.#take(1);
    const short = initial! & 0x1f;
    if (initial! >> 5 !== type || short > 27) return this.#wrong("an indefinite or reserved length");
    if (short < 24) return short;
    const size = 1 << (short - 24);
    const start = this.#at;
    this.#take(size);
    const value =
      size === 8
        ? Number(this.#view.getBigUint64(start))
        : size === 4
          ? this.#view.getUint32(start)
          : size === 2
            ? this.#view.getUint16(start)
            : this.#view.getUint8(start);
    const least = [24, 0x100, 0x1_0000, 0x1_0000_0000][short - 24]!;
    if (value < least || !Number.isSafeInteger(value))
      this.#wrong("a number that is not in its shortest form");
    return value;
  }

  #take(size: number): Uint8Array {
    if (size > this.#bytes.length - this.#at) this.#wrong("it ends in the middle");
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  #wrong(what: string): never {
    throw new CborError(`${what}, at ${this.#at}`);
  }
}

/** Byte string, as `Sig_structure` needs it. */
export function cborBytes(bytes: Uint8Array): Uint8Array {
  return withHead(2, bytes);
}

/** Text of at most 23 bytes of ASCII. */
export const cborText = (text: string): Uint8Array => withHead(3, new TextEncoder().encode(text));

function withHead(type: number, content: Uint8Array): Uint8Array {
  const { length } = content;
  const size = length < 24 ? 0 : length < 0x100 ? 1 : length < 0x1_0000 ? 2 : 4;
  const whole = new Uint8Array(1 + size + length);
  whole[0] = (type << 5) | (size === 0 ? length : 23 + [1, 2, 4].indexOf(size) + 1);
  for (let i = 0; i < size; i++) whole[size - i] = Math.floor(length / 2 ** (8 * i)) & 0xff;
  whole.set(content, 1 + size);
  return whole;
}
