// SPDX-License-Identifier: Apache-2.0
/**
 * The right edge of a growing tree (RFC 6962): what is needed to add entries and to know the root, a few dozen hashes
 * however large the tree is; and small trees whole. Hashing is OpenSSL called directly: a writer does nothing else between
 * two writes.
 */
import { hash } from "@caisson/vocabulary/hash";

const sha256 = (...parts: readonly Uint8Array[]): Uint8Array => hash("sha256", Buffer.concat(parts));
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

/** Root of a tree of one entry at least, and for each the hashes beside its way there (RFC 9162, section 2.1.3.1). */
export function wholeTree(entries: readonly Uint8Array[]): { root: Uint8Array; proofs: Uint8Array[][] } {
  const proofs = entries.map((): Uint8Array[] => []);
  let level = entries.map(leafOf);
  for (let height = 0; level.length > 1; height++) {
    const below = level;
    proofs.forEach((proof, i) => {
      const beside = below[(i >>> height) ^ 1];
      if (beside !== undefined) proof.push(beside);
    });
    // The last one of an odd number has nothing beside it, and is a node of the next level.
    level = Array.from({ length: Math.ceil(below.length / 2) }, (_, i) => {
      const [left, right] = [below[2 * i]!, below[2 * i + 1]];
      return right === undefined ? left : nodeOf(left, right);
    });
  }
  return { root: level[0]!, proofs };
}

/** Complete subtrees, the largest first; those of equal size become one. */
export class Frontier {
  readonly #peaks: { leaves: number; hash: Uint8Array }[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The edge of a tree from complete subtrees of it by level: those of the largest, the last level, come first. */
  static of(levels: readonly { hashes: readonly Uint8Array[]; leaves: number }[]): Frontier {
    const frontier = new Frontier();
    for (const { hashes, leaves } of levels.toReversed()) {
      for (const hash of hashes) frontier.add(hash, leaves);
    }
    return frontier;
  }

  /** One that goes on by itself. */
  copy(): Frontier {
    const copy = new Frontier();
    copy.#peaks.push(...this.#peaks);
    copy.#size = this.#size;
    return copy;
  }

  /** Complete subtrees, the largest first. */
  get peaks(): readonly { leaves: number; hash: Uint8Array }[] {
    return this.#peaks;
  }

  /** Adds a leaf's hash, or that of a complete subtree of `leaves`, where all before are as large at least. */
  add(hash: Uint8Array, leaves = 1): void {
    let peak = { leaves, hash };
    for (let last = this.#peaks.at(-1); last?.leaves === peak.leaves; last = this.#peaks.at(-1)) {
      this.#peaks.pop();
      peak = { leaves: 2 * peak.leaves, hash: nodeOf(last.hash, peak.hash) };
    }
    this.#peaks.push(peak);
    this.#size += leaves;
  }

  root(): Uint8Array {
    const [last, ...before] = this.#peaks.toReversed();
    if (last === undefined) return sha256();
    return before.reduce((right, { hash: left }) => nodeOf(left, right), last.hash);
  }
}
