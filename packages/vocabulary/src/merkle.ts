// SPDX-License-Identifier: Apache-2.0
/**
 * Merkle trees of RFC 6962 (section 2.1) with SHA-256: hashes, and what proves an entry's place or that one tree is the
 * beginning of another. Indexes and sizes are safe integers, so nothing here shifts by 32 bits.
 */
import { sha256 } from "#sha256";
import { concat, equal } from "./bytes.ts";

export { sha256 };

/** A tree of 2^53 entries has proofs of 53 hashes. */
export const longestProof = 53;

export const leafHash = (entry: Uint8Array): Promise<Uint8Array> => sha256(concat(Uint8Array.of(0), entry));

export const nodeHash = (left: Uint8Array, right: Uint8Array): Promise<Uint8Array> =>
  sha256(concat(Uint8Array.of(1), left, right));

const isOdd = (n: number) => n % 2 === 1;
const half = (n: number) => Math.floor(n / 2);

/**
 * The root of a tree of `size` entries, of which `leaf` (a leaf's hash) is entry `index` and `proof` what is beside its way
 * (RFC 9162, section 2.1.3.2); undefined where a proof in such a tree has another length.
 */
export async function rootOf(
  { index, leaf }: { index: number; leaf: Uint8Array },
  size: number,
  proof: readonly Uint8Array[],
): Promise<Uint8Array | undefined> {
  if (!(index >= 0 && index < size) || proof.length > longestProof) return undefined;
  let [at, last, hash] = [index, size - 1, leaf];
  for (const sibling of proof) {
    if (last === 0) return undefined;
    if (isOdd(at) || at === last) {
      hash = await nodeHash(sibling, hash);
      while (!isOdd(at) && at !== 0) [at, last] = [half(at), half(last)];
    } else hash = await nodeHash(hash, sibling);
    [at, last] = [half(at), half(last)];
  }
  return last === 0 ? hash : undefined;
}

/** Whether `proof` shows that `leaf` (a leaf's hash) is entry `index` of the tree. */
export async function verifyInclusion(
  place: { index: number; leaf: Uint8Array },
  { size, root }: { size: number; root: Uint8Array },
  proof: readonly Uint8Array[],
): Promise<boolean> {
  const reached = await rootOf(place, size, proof);
  return reached !== undefined && equal(reached, root);
}

/** Whether `proof` shows that the first tree is the beginning of the second (RFC 9162, section 2.1.4.2). */
export async function verifyConsistency(
  first: { size: number; root: Uint8Array },
  second: { size: number; root: Uint8Array },
  proof: readonly Uint8Array[],
): Promise<boolean> {
  if (first.size > second.size || proof.length > longestProof + 1) return false;
  if (first.size === second.size) return proof.length === 0 && equal(first.root, second.root);
  if (first.size === 0) return proof.length === 0 && equal(first.root, await sha256(new Uint8Array()));
  let [at, last] = [first.size - 1, second.size - 1];
  while (isOdd(at)) [at, last] = [half(at), half(last)];
  // A first tree that is complete is itself the first node of the path.
  const path = at === 0 ? [first.root, ...proof] : [...proof];
  const start = path.shift();
  if (start === undefined) return false;
  let [oldHash, newHash] = [start, start];
  for (const sibling of path) {
    if (last === 0) return false;
    if (isOdd(at) || at === last) {
      [oldHash, newHash] = [await nodeHash(sibling, oldHash), await nodeHash(sibling, newHash)];
      while (!isOdd(at) && at !== 0) [at, last] = [half(at), half(last)];
    } else newHash = await nodeHash(newHash, sibling);
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && equal(oldHash, first.root) && equal(newHash, second.root);
}
