// SPDX-License-Identifier: Apache-2.0
/**
 * gzip (RFC 1952) of one member, decompressed at once into a bounded place: what browsers offer is asynchronous and says no
 * bound. Reads DEFLATE (RFC 1951) bit by bit, as slowly as is enough for a report.
 */

/** Why an input is not what it should be. */
export class GzipError extends Error {
  override readonly name = "GzipError";
}

/** Bits and their order of code lengths, lengths and distances (RFC 1951, 3.2.5 and 3.2.7). */
const lengthOrder = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const lengthBase = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
  227, 258,
];
const lengthBits = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const distanceBase = Array.from({ length: 30 }, (_, i) =>
  i < 2 ? 1 + i : 1 + ((2 + (i & 1)) << ((i >> 1) - 1)),
);
const distanceBits = Array.from({ length: 30 }, (_, i) => (i < 2 ? 0 : (i >> 1) - 1));

/** A canonical code: how many words have each length, and their symbols in order. */
interface Code {
  counts: number[];
  symbols: number[];
}

function codeOf(lengths: readonly number[]): Code {
  const counts = Array<number>(16).fill(0);
  for (const length of lengths) counts[length]! += 1;
  counts[0] = 0;
  let free = 1;
  for (let length = 1; length < 16; length++) {
    free = 2 * free - counts[length]!;
    if (free < 0) throw new GzipError("a code has too many words");
  }
  const symbols = lengths
    .map((length, symbol) => ({ length, symbol }))
    .filter(({ length }) => length > 0)
    .sort((a, b) => a.length - b.length || a.symbol - b.symbol);
  return { counts, symbols: symbols.map(({ symbol }) => symbol) };
}

const fixedLengths = codeOf([
  ...Array<number>(144).fill(8),
  ...Array<number>(112).fill(9),
  ...Array<number>(24).fill(7),
  ...Array<number>(8).fill(8),
]);
const fixedDistances = codeOf(Array<number>(30).fill(5));

class Inflater {
  readonly #input: Uint8Array;
  readonly #output: Uint8Array;
  #at: number;
  #bit = 0;
  #length = 0;

  constructor(input: Uint8Array, at: number, most: number) {
    this.#input = input;
    this.#at = at;
    this.#output = new Uint8Array(most);
  }

  /** What was decompressed, and where the input goes on. */
  run(): { output: Uint8Array; end: number } {
    let last = false;
    while (!last) {
      last = this.#bits(1) === 1;
      const type = this.#bits(2);
      if (type === 0) this.#stored();
      else if (type === 1) this.#block(fixedLengths, fixedDistances);
      else if (type === 2) this.#block(...this.#codes());
      else throw new GzipError("a block of no kind");
    }
    return { output: this.#output.subarray(0, this.#length), end: this.#bit === 0 ? this.#at : this.#at + 1 };
  }

  #bits(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++) {
      const byte = this.#input[this.#at];
      if (byte === undefined) throw new GzipError("it ends in the middle");
      value |= ((byte >> this.#bit) & 1) << i;
      this.#bit = (this.#bit + 1) & 7;
      if (this.#bit === 0) this.#at += 1;
    }
    return value;
  }

  #symbol({ counts, symbols }: Code): number {
    let [word, first, index] = [0, 0, 0];
    for (let length = 1; length < 16; length++) {
      word |= this.#bits(1);
      const count = counts[length]!;
      if (word - first < count) return symbols[index + word - first]!;
      index += count;
      first = (first + count) << 1;
      word <<= 1;
    }
    throw new GzipError("a word of no code");
  }

  #put(byte: number): void {
    if (this.#length === this.#output.length) throw new GzipError(`more than ${this.#length} bytes`);
    this.#output[this.#length++] = byte;
  }

  #stored(): void {
    if (this.#bit !== 0) this.#bits(8 - this.#bit);
    const [length, complement] = [this.#bits(16), this.#bits(16)];
    if (length !== (~complement & 0xffff)) throw new GzipError("a stored block's length");
    for (let i = 0; i < length; i++) this.#put(this.#bits(8));
  }

  #codes(): [Code, Code] {
    const [literals, distances, words] = [this.#bits(5) + 257, this.#bits(5) + 1, this.#bits(4) + 4];
    const own = Array<number>(19).fill(0);
    for (let i = 0; i < words; i++) own[lengthOrder[i]!] = this.#bits(3);
    const code = codeOf(own);
    const lengths: number[] = [];
    while (lengths.length < literals + distances) {
      const symbol = this.#symbol(code);
      if (symbol < 16) lengths.push(symbol);
      else {
        const previous = symbol === 16 ? lengths.at(-1) : 0;
        if (previous === undefined) throw new GzipError("a repetition of nothing");
        const times =
          symbol === 16 ? 3 + this.#bits(2) : symbol === 17 ? 3 + this.#bits(3) : 11 + this.#bits(7);
        lengths.push(...Array<number>(times).fill(previous));
      }
    }
    if (lengths.length > literals + distances) throw new GzipError("too many lengths of codes");
    return [codeOf(lengths.slice(0, literals)), codeOf(lengths.slice(literals))];
  }

  #block(literals: Code, distances: Code): void {
    for (;;) {
      const symbol = this.#symbol(literals);
      if (symbol === 256) return;
      if (symbol < 256) this.#put(symbol);
      else this.#copy(symbol - 257, distances);
    }
  }

  #copy(index: number, distances: Code): void {
    const base = lengthBase[index];
    if (base === undefined) throw new GzipError("a length of no code");
    const length = base + this.#bits(lengthBits[index]!);
    const place = this.#symbol(distances);
    const distance = (distanceBase[place] ?? 0) + this.#bits(distanceBits[place] ?? 0);
    if (distance === 0 || distance > this.#length) throw new GzipError("a distance to before the beginning");
    for (let i = 0; i < length; i++) this.#put(this.#output[this.#length - distance]!);
  }
}

/** Whether bytes begin as gzip does. */
export const isGzip = (bytes: Uint8Array): boolean => bytes[0] === 0x1f && bytes[1] === 0x8b;

/** Decompresses one member without name or comment, of at most `most` bytes; nothing may follow it. Throws GzipError. */
export function gunzip(bytes: Uint8Array, most: number): Uint8Array {
  if (!isGzip(bytes) || bytes[2] !== 8 || bytes[3] !== 0 || bytes.length < 18) {
    throw new GzipError("it is not a plain member of gzip");
  }
  const { output, end } = new Inflater(bytes, 10, most).run();
  if (end + 8 !== bytes.length) throw new GzipError("something else than its trailer follows");
  const trailer = new DataView(bytes.buffer, bytes.byteOffset + end);
  if (trailer.getUint32(0, true) !== crc32(output) || trailer.getUint32(4, true) !== output.length) {
    throw new GzipError("its checksum");
  }
  return output;
}

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
