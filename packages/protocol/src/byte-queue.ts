// SPDX-License-Identifier: Apache-2.0
/**
 * Bytes that came in pieces, of whatever sizes a sender chooses: each is copied when it is taken, not at every push, and not
 * where what is taken lies in one piece.
 */

export class ByteQueue {
  #pieces: Uint8Array[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(piece: Uint8Array): void {
    if (piece.length === 0) return;
    this.#pieces.push(piece);
    this.#length += piece.length;
  }

  /** A copy of the first `size` bytes, or of all where there are fewer; they stay. */
  peek(size: number): Uint8Array {
    const bytes = new Uint8Array(Math.min(size, this.#length));
    let at = 0;
    for (const piece of this.#pieces) {
      if (at === bytes.length) break;
      const part = piece.subarray(0, bytes.length - at);
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }

  /** The first `size` bytes, which have to be there; they may be a part of what was pushed. */
  take(size: number): Uint8Array {
    const [first] = this.#pieces;
    const bytes = first !== undefined && first.length >= size ? first.subarray(0, size) : this.peek(size);
    this.drop(size);
    return bytes;
  }

  /** Gives up the first `size` bytes. */
  drop(size: number): void {
    let [whole, left] = [0, size];
    while (whole < this.#pieces.length && this.#pieces[whole]!.length <= left) {
      left -= this.#pieces[whole++]!.length;
    }
    this.#pieces.splice(0, whole);
    if (left > 0) this.#pieces[0] = this.#pieces[0]!.subarray(left);
    this.#length -= size;
  }
}
