// SPDX-License-Identifier: Apache-2.0
/**
 * A log as static files (https://c2sp.org/tlog-tiles): where a tile lies, what is in it, and proofs and roots computed
 * from tiles. Whoever has the tiles is asked for hashes by `HashReader`; nothing here does I/O.
 */
import { concat } from "@caisson/vocabulary/bytes";
import { nodeHash, sha256 } from "@caisson/vocabulary/merkle";
import { ReleaseError } from "../errors.ts";

/** Hashes in a full tile, and levels of the tree that one tile spans. */
export const tileWidth = 256;
const tileHeight = 8;

/** `tile/<level>/<index>`, with `.p/<width>` where it is not full; level "entries" holds the entries themselves. */
export function tilePath(level: number | "entries", index: number, width = tileWidth): string {
  const digits = `${index}`;
  const padded = digits.padStart(Math.ceil(digits.length / 3) * 3, "0");
  const groups = padded.match(/\d{3}/g)!;
  const name = groups.map((group, i) => (i < groups.length - 1 ? `x${group}` : group)).join("/");
  return `tile/${level}/${name}${width === tileWidth ? "" : `.p/${width}`}`;
}

/** Hash of the complete subtree of 2^`height` leaves that is the `index`-th of its height. */
export type HashReader = (height: number, index: number) => Promise<Uint8Array>;

/** The hashes of a tile of a log; `width` of them. */
export type TileReader = (level: number, index: number, width: number) => Promise<readonly Uint8Array[]>;

/** Hashes from the tiles of a log with `size` entries. */
export function hashesOfTiles(readTile: TileReader, size: number): HashReader {
  return async (height, index) => {
    const level = Math.floor(height / tileHeight);
    const span = 2 ** (height % tileHeight);
    const first = index * span;
    const tile = Math.floor(first / tileWidth);
    const available = Math.floor(size / tileWidth ** level) - tile * tileWidth;
    const hashes = await readTile(level, tile, Math.min(tileWidth, available));
    const from = first % tileWidth;
    return foldComplete(hashes.slice(from, from + span));
  };
}

/** The root of a complete subtree from its 2^n hashes. */
async function foldComplete(hashes: readonly Uint8Array[]): Promise<Uint8Array> {
  if (hashes.length === 1) return hashes[0]!;
  const middle = hashes.length / 2;
  const [left, right] = [hashes.slice(0, middle), hashes.slice(middle)];
  return nodeHash(await foldComplete(left), await foldComplete(right));
}

/** The hash over entries `from` to `to` (not included); `from` is a multiple of the largest power of two below. */
async function rangeHash(read: HashReader, from: number, to: number): Promise<Uint8Array> {
  const size = to - from;
  const height = Math.floor(Math.log2(size));
  const complete = 2 ** height;
  if (complete === size) return read(height, from / size);
  const left = await read(height, from / complete);
  return nodeHash(left, await rangeHash(read, from + complete, to));
}

/** Root of the tree over the first `size` entries. */
export async function treeRoot(read: HashReader, size: number): Promise<Uint8Array> {
  return size === 0 ? sha256(new Uint8Array()) : rangeHash(read, 0, size);
}

/** The largest power of two below `n`, which is at least 2. */
const splitOf = (n: number): number => 2 ** Math.ceil(Math.log2(n) - 1);

/** The inclusion proof of an entry in the tree of that size: RFC 6962, section 2.1.1. */
export async function inclusionProof(read: HashReader, index: number, size: number): Promise<Uint8Array[]> {
  const path = async (from: number, to: number): Promise<Uint8Array[]> => {
    if (to - from === 1) return [];
    const middle = from + splitOf(to - from);
    return index < middle
      ? [...(await path(from, middle)), await rangeHash(read, middle, to)]
      : [...(await path(middle, to)), await rangeHash(read, from, middle)];
  };
  return path(0, size);
}

/** The proof that the tree of `first` entries, at least one, is the beginning of that of `second`: section 2.1.2. */
export async function consistencyProof(
  read: HashReader,
  first: number,
  second: number,
): Promise<Uint8Array[]> {
  const path = async (from: number, to: number, whole: boolean): Promise<Uint8Array[]> => {
    if (to === first) return whole ? [] : [await rangeHash(read, from, to)];
    const middle = from + splitOf(to - from);
    return first <= middle
      ? [...(await path(from, middle, whole)), await rangeHash(read, middle, to)]
      : [...(await path(middle, to, false)), await rangeHash(read, from, middle)];
  };
  return first === second ? [] : path(0, second, true);
}

/** Largest entry: its length is written in two bytes. */
export const entryLimit = 0xffff;

/** A tile of entries. Throws ReleaseError "log/malformed" for one whose length two bytes do not hold. */
export function writeEntries(entries: readonly Uint8Array[]): Uint8Array {
  const long = entries.find(({ length }) => length > entryLimit);
  if (long !== undefined) {
    throw new ReleaseError("log/malformed", `an entry has at most ${entryLimit} bytes, not ${long.length}`);
  }
  return concat(
    ...entries.flatMap((entry) => [Uint8Array.of(entry.length >> 8, entry.length & 0xff), entry]),
  );
}

/** The `width` entries of a tile. Throws ReleaseError "log/malformed". */
export function readEntries(bytes: Uint8Array, width: number): Uint8Array[] {
  const entries: Uint8Array[] = [];
  let at = 0;
  while (at < bytes.length && entries.length < width) {
    const end = at + 2 + bytes[at]! * 256 + (bytes[at + 1] ?? 0);
    if (end > bytes.length || at + 2 > bytes.length) break;
    entries.push(bytes.subarray(at + 2, end));
    at = end;
  }
  if (entries.length === width && at === bytes.length) return entries;
  throw new ReleaseError("log/malformed", `a tile of ${width} entries holds something else`);
}

/** The `width` hashes of a tile. Throws ReleaseError "log/malformed". */
export function readHashes(bytes: Uint8Array, width: number): Uint8Array[] {
  if (bytes.length !== 32 * width) {
    throw new ReleaseError("log/malformed", `a tile of ${width} hashes has ${bytes.length} bytes`);
  }
  return Array.from({ length: width }, (_, i) => bytes.subarray(32 * i, 32 * (i + 1)));
}
