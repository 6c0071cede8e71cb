// SPDX-License-Identifier: Apache-2.0
/**
 * LZMA1 decoder for the "alone" format that edk2 compresses firmware volumes with (LZMA specification, Igor Pavlov,
 * 2015). Output size is the header's, bounded by the caller; the dictionary is the output itself.
 */
import { Bytes } from "../bytes.ts";
import { MeasureError } from "../errors.ts";

const HEADER_SIZE = 13;
const TOP = 2 ** 24;
const PROBABILITY_BITS = 11;
const INITIAL = 1 << (PROBABILITY_BITS - 1);
const MOVE_BITS = 5;

const STATES = 12;
const MATCH_START = 2;
const DISTANCE_MODEL_END = 14;
const FULL_DISTANCES = 128;
const ALIGN_BITS = 4;

const malformed = (reason: string, offset: number): MeasureError =>
  new MeasureError("volume/compression", `LZMA: ${reason}`, { offset });

const probabilities = (size: number): Uint16Array => new Uint16Array(size).fill(INITIAL);

/** The range coder's input side. */
class RangeDecoder {
  readonly #input: Uint8Array;
  #at: number;
  #range = 0xffffffff;
  #code = 0;

  constructor(input: Uint8Array, at: number) {
    this.#input = input;
    if (input[at] !== 0) throw malformed("the range coder does not begin with 0", at);
    this.#at = at + 1;
    for (let i = 0; i < 4; i++) this.#code = ((this.#code << 8) | this.#next()) >>> 0;
  }

  get offset(): number {
    return this.#at;
  }

  #next(): number {
    if (this.#at >= this.#input.length) throw malformed("the input ends too early", this.#at);
    return this.#input[this.#at++]!;
  }

  #normalize(): void {
    if (this.#range < TOP) {
      this.#range = (this.#range << 8) >>> 0;
      this.#code = ((this.#code << 8) | this.#next()) >>> 0;
    }
  }

  bit(model: Uint16Array, index: number): number {
    const probability = model[index]!;
    const bound = (this.#range >>> PROBABILITY_BITS) * probability;
    if (this.#code < bound) {
      this.#range = bound;
      model[index] = probability + (((1 << PROBABILITY_BITS) - probability) >> MOVE_BITS);
      this.#normalize();
      return 0;
    }
    this.#range -= bound;
    this.#code -= bound;
    model[index] = probability - (probability >> MOVE_BITS);
    this.#normalize();
    return 1;
  }

  direct(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++) {
      this.#range = this.#range >>> 1;
      const one = this.#code >= this.#range ? 1 : 0;
      if (one === 1) this.#code -= this.#range;
      value = ((value << 1) | one) >>> 0;
      this.#normalize();
    }
    return value;
  }

  /** `count` bits, highest first, along a binary tree of models that begins at `base`. */
  tree(model: Uint16Array, base: number, count: number): number {
    let node = 1;
    for (let i = 0; i < count; i++) node = (node << 1) | this.bit(model, base + node);
    return node - (1 << count);
  }

  /** The same, lowest bit first. */
  reverseTree(model: Uint16Array, base: number, count: number): number {
    let node = 1;
    let value = 0;
    for (let i = 0; i < count; i++) {
      const bit = this.bit(model, base + node);
      node = (node << 1) | bit;
      value |= bit << i;
    }
    return value;
  }
}

/** Lengths 2 to 273, with models that depend on the position. */
class LengthDecoder {
  readonly #choice = probabilities(2);
  readonly #low = probabilities(16 << 3);
  readonly #middle = probabilities(16 << 3);
  readonly #high = probabilities(256);

  decode(coder: RangeDecoder, position: number): number {
    if (coder.bit(this.#choice, 0) === 0) return 2 + coder.tree(this.#low, position << 3, 3);
    if (coder.bit(this.#choice, 1) === 0) return 10 + coder.tree(this.#middle, position << 3, 3);
    return 18 + coder.tree(this.#high, 0, 8);
  }
}

/** What a stream's header says of how its literals and positions are modelled (lc, lp and pb), and its size. */
interface Header {
  /** Bits of the byte before that choose a literal's models. */
  literalContext: number;
  /** Bits of the position that choose a literal's models, and their mask. */
  literalPosition: number;
  positionMask: number;
  /** Bytes of output. */
  size: number;
}

function readHeader(input: Uint8Array, limit: number): Header {
  const header = new Bytes(input, "volume");
  const properties = header.u8(0);
  const size = header.u64(5);
  if (properties >= 9 * 5 * 5) throw malformed("impossible properties", 0);
  if (size > limit) {
    throw new MeasureError("volume/too-large", `a compressed section of ${size} bytes; at most ${limit}`, {
      offset: 5,
    });
  }
  return {
    literalContext: properties % 9,
    literalPosition: Math.floor(properties / 9) % 5,
    positionMask: (1 << Math.floor(properties / 45)) - 1,
    size,
  };
}

/** One stream: its models, what has come out, and what the last symbols were. */
class StreamDecoder {
  readonly #coder: RangeDecoder;
  readonly #header: Header;
  readonly #literals: Uint16Array;
  readonly #isMatch = probabilities(STATES << 4);
  readonly #isRepeat = probabilities(STATES);
  readonly #isRepeat0 = probabilities(STATES);
  readonly #isRepeat0Long = probabilities(STATES << 4);
  readonly #isRepeat1 = probabilities(STATES);
  readonly #isRepeat2 = probabilities(STATES);
  readonly #slots = probabilities(4 << 6);
  readonly #special = probabilities(FULL_DISTANCES);
  readonly #align = probabilities(1 << ALIGN_BITS);
  readonly #lengths = new LengthDecoder();
  readonly #repeatLengths = new LengthDecoder();
  readonly #output: Uint8Array<ArrayBuffer>;
  #at = 0;
  /** The last four distances less one, the latest first. */
  readonly #distances = new Uint32Array(4);
  /** Kinds of the last symbols; below 7 the last was a literal. */
  #state = 0;

  constructor(input: Uint8Array, header: Header) {
    this.#header = header;
    this.#output = new Uint8Array(header.size);
    this.#coder = new RangeDecoder(input, HEADER_SIZE);
    this.#literals = probabilities(0x300 << (header.literalContext + header.literalPosition));
  }

  decode(): Uint8Array {
    while (this.#at < this.#header.size) {
      const position = this.#at & this.#header.positionMask;
      if (this.#coder.bit(this.#isMatch, (this.#state << 4) + position) === 0) this.#literal();
      else if (this.#coder.bit(this.#isRepeat, this.#state) === 0) this.#copy(this.#match(position));
      else this.#copy(this.#repetition(position));
    }
    return this.#output;
  }

  /** One byte; after a copy, modelled by the byte that would have followed in it. */
  #literal(): void {
    const { literalContext, literalPosition } = this.#header;
    const previous = this.#at === 0 ? 0 : this.#output[this.#at - 1]!;
    const context =
      ((this.#at & ((1 << literalPosition) - 1)) << literalContext) + (previous >> (8 - literalContext));
    const base = 0x300 * context;
    let symbol = 1;
    if (this.#state >= 7) {
      let match = this.#output[this.#at - this.#distances[0]! - 1]!;
      while (symbol < 0x100) {
        const matchBit = (match >> 7) & 1;
        match <<= 1;
        const bit = this.#coder.bit(this.#literals, base + ((1 + matchBit) << 8) + symbol);
        symbol = (symbol << 1) | bit;
        if (matchBit !== bit) break;
      }
    }
    while (symbol < 0x100) symbol = (symbol << 1) | this.#coder.bit(this.#literals, base + symbol);
    this.#output[this.#at++] = symbol;
    this.#state = this.#state < 4 ? 0 : this.#state < 10 ? this.#state - 3 : this.#state - 6;
  }

  /** Length of a copy from a distance that the stream says. */
  #match(position: number): number {
    const length = this.#lengths.decode(this.#coder, position);
    this.#state = this.#state < 7 ? 7 : 10;
    const distance = this.#distance(length);
    if (distance === 0xffffffff) throw malformed("an end marker before the end", this.#coder.offset);
    this.#latest(distance, 3);
    return length;
  }

  #distance(length: number): number {
    const slot = this.#coder.tree(this.#slots, Math.min(length - MATCH_START, 3) << 6, 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const base = ((2 | (slot & 1)) << bits) >>> 0;
    if (slot < DISTANCE_MODEL_END) return base + this.#coder.reverseTree(this.#special, base - slot, bits);
    const direct = this.#coder.direct(bits - ALIGN_BITS) * 16;
    return base + direct + this.#coder.reverseTree(this.#align, 0, ALIGN_BITS);
  }

  /** Length of a copy from one of the last distances. */
  #repetition(position: number): number {
    if (this.#at === 0) throw malformed("a repetition of nothing", this.#coder.offset);
    const state = this.#state;
    if (this.#coder.bit(this.#isRepeat0, state) === 0) {
      if (this.#coder.bit(this.#isRepeat0Long, (state << 4) + position) === 0) {
        this.#state = state < 7 ? 9 : 11;
        return 1;
      }
    } else {
      const older =
        this.#coder.bit(this.#isRepeat1, state) === 0 ? 1 : 2 + this.#coder.bit(this.#isRepeat2, state);
      this.#latest(this.#distances[older]!, older);
    }
    this.#state = state < 7 ? 8 : 11;
    return this.#repeatLengths.decode(this.#coder, position);
  }

  /** Puts a distance first, in the room of the one at `index`. */
  #latest(distance: number, index: number): void {
    this.#distances.copyWithin(1, 0, index);
    this.#distances[0] = distance;
  }

  /** `length` bytes from the latest distance; the copy may reach into what it writes. */
  #copy(length: number): void {
    const distance = this.#distances[0]!;
    if (distance >= this.#at) throw malformed("a distance before the start", this.#coder.offset);
    if (this.#at + length > this.#output.length)
      throw malformed("more output than announced", this.#coder.offset);
    for (const end = this.#at + length; this.#at < end; this.#at++) {
      this.#output[this.#at] = this.#output[this.#at - distance - 1]!;
    }
  }
}

/**
 * Decompresses one LZMA "alone" stream; `limit` bounds the output in bytes.
 * Throws MeasureError "volume/compression" with the offset, or "volume/too-large".
 */
export function decompressLzma(input: Uint8Array, limit: number): Uint8Array {
  return new StreamDecoder(input, readHeader(input, limit)).decode();
}
