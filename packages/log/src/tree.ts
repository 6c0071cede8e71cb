// SPDX-License-Identifier: Apache-2.0
/**
 * The right edge of a growing tree (RFC 6962): what is needed to add entries and to know the root, a few dozen hashes
 * however large the tree is. Hashing is OpenSSL called directly: a writer does nothing else between two writes.
 */
import { hash } from "node:crypto";

const sha256 = (...parts: readonly Uint8Array[]): Uint8Array =>
  new Uint8Array(hash("sha256", Buffer.concat(parts), "buffer"));
const zero = Uint8Array.of(0);
const one = Uint8Array.of(1);

export const leafOf = (entry: Uint8Array): Uint8Array => sha256(zero, entry);
const nodeOf = (left: Uint8Array, right: Uint8Array): Uint8Array => sha256(one, left, right);

/** Root of a complete subtree from its 2^n hashes. */
export function completeRoot(hashes: readonly Uint8Array[]): Uint8Array {
  let level = [...hashes];
  while (level.length > 1) {
    level = Array.from({ length: level.length / 2 }, (_, i) => nodeOf(level[2 * i]!, level[2 * i + 1]!));
  }
  return level[0]!;
}

/** Complete subtrees, the largest first; those of equal size become one. */
export class Frontier {
  readonly #peaks: { leaves: number; hash: Uint8Array }[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** One that goes on by itself. */
  copy(): Frontier {
    const copy = new Frontier();
    copy.#peaks.push(...this.#peaks);
    copy.#size = this.#size;
    return copy;
  }

  /** Adds a leaf's hash. */
  add(leaf: Uint8Array): void {
    let peak = { leaves: 1, hash: leaf };
    for (let last = this.#peaks.at(-1); last?.leaves === peak.leaves; last = this.#peaks.at(-1)) {
      this.#peaks.pop();
      peak = { leaves: 2 * peak.leaves, hash: nodeOf(last.hash, peak.hash) };
    }
    this.#peaks.push(peak);
    this.#size += 1;
  }

  root(): Uint8Array {
    const [last, ...before] = this.#peaks.toReversed();
    if (last === undefined) return sha256();
    return before.reduce((right, { hash: left }) => nodeOf(left, right), last.hash);
  }
}
