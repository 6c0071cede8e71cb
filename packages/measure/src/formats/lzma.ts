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

/**
 * Decompresses one LZMA "alone" stream; `limit` bounds the output in bytes.
 * Throws MeasureError "volume/compression" with the offset, or "volume/too-large".
 */
export function decompressLzma(input: Uint8Array, limit: number): Uint8Array {
  const header = new Bytes(input, "volume");
  let properties = header.u8(0);
  const size = header.u64(5);
  if (properties >= 9 * 5 * 5) throw malformed("impossible properties", 0);
  if (size > limit) {
    throw new MeasureError("volume/too-large", `a compressed section of ${size} bytes; at most ${limit}`, {
      offset: 5,
    });
  }
  const literalContext = properties % 9;
  properties = Math.floor(properties / 9);
  const literalMask = (1 << (properties % 5)) - 1;
  const positionMask = (1 << Math.floor(properties / 5)) - 1;

  const output = new Uint8Array(size);
  const coder = new RangeDecoder(input, HEADER_SIZE);
  const literals = probabilities(0x300 << (literalContext + (properties % 5)));
  const isMatch = probabilities(STATES << 4);
  const isRepeat = probabilities(STATES);
  const isRepeat0 = probabilities(STATES);
  const isRepeat0Long = probabilities(STATES << 4);
  const isRepeat1 = probabilities(STATES);
  const isRepeat2 = probabilities(STATES);
  const slots = probabilities(4 << 6);
  const special = probabilities(FULL_DISTANCES);
  const align = probabilities(1 << ALIGN_BITS);
  const lengths = new LengthDecoder();
  const repeatLengths = new LengthDecoder();
  let [distance0, distance1, distance2, distance3] = [0, 0, 0, 0];
  let state = 0;
  let at = 0;

  const literal = (): void => {
    const previous = at === 0 ? 0 : output[at - 1]!;
    const context = ((at & literalMask) << literalContext) + (previous >> (8 - literalContext));
    const base = 0x300 * context;
    let symbol = 1;
    if (state >= 7) {
      let match = output[at - distance0 - 1]!;
      while (symbol < 0x100) {
        const matchBit = (match >> 7) & 1;
        match <<= 1;
        const bit = coder.bit(literals, base + ((1 + matchBit) << 8) + symbol);
        symbol = (symbol << 1) | bit;
        if (matchBit !== bit) break;
      }
    }
    while (symbol < 0x100) symbol = (symbol << 1) | coder.bit(literals, base + symbol);
    output[at++] = symbol;
    state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
  };

  const distance = (length: number): number => {
    const slot = coder.tree(slots, Math.min(length - MATCH_START, 3) << 6, 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const base = ((2 | (slot & 1)) << bits) >>> 0;
    if (slot < DISTANCE_MODEL_END) return base + coder.reverseTree(special, base - slot, bits);
    return base + coder.direct(bits - ALIGN_BITS) * 16 + coder.reverseTree(align, 0, ALIGN_BITS);
  };

  while (at < size) {
    const position = at & positionMask;
    if (coder.bit(isMatch, (state << 4) + position) === 0) {
      literal();
      continue;
    }
    let length: number;
    if (coder.bit(isRepeat, state) === 0) {
      [distance3, distance2, distance1] = [distance2, distance1, distance0];
      length = lengths.decode(coder, position);
      state = state < 7 ? 7 : 10;
      distance0 = distance(length);
      if (distance0 === 0xffffffff) throw malformed("an end marker before the end", coder.offset);
    } else {
      if (at === 0) throw malformed("a repetition of nothing", coder.offset);
      if (coder.bit(isRepeat0, state) === 0) {
        if (coder.bit(isRepeat0Long, (state << 4) + position) === 0) {
          state = state < 7 ? 9 : 11;
          if (distance0 >= at) throw malformed("a distance before the start", coder.offset);
          output[at] = output[at - distance0 - 1]!;
          at++;
          continue;
        }
      } else if (coder.bit(isRepeat1, state) === 0) {
        [distance0, distance1] = [distance1, distance0];
      } else if (coder.bit(isRepeat2, state) === 0) {
        [distance0, distance1, distance2] = [distance2, distance0, distance1];
      } else {
        [distance0, distance1, distance2, distance3] = [distance3, distance0, distance1, distance2];
      }
      length = repeatLengths.decode(coder, position);
      state = state < 7 ? 8 : 11;
    }
    if (distance0 >= at) throw malformed("a distance before the start", coder.offset);
    if (at + length > size) throw malformed("more output than announced", coder.offset);
    for (const end = at + length; at < end; at++) output[at] = output[at - distance0 - 1]!;
  }
  return output;
}
