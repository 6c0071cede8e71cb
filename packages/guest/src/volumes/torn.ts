// SPDX-License-Identifier: Apache-2.0
/**
 * The superblock of a volume whose power went while the kernel wrote it. A commit flushes all else, then writes the first
 * place and its copy at once (fs/btrfs/disk-io.c of Linux 7.3, write_dev_supers). A drive that writes less than 4 KiB whole
 * may leave a patchwork of two commits, since the cipher deciphers 16 bytes at a time. A drive that was in the midst of one
 * of the two leaves the other whole, of this commit or of the one before. Where both are torn, each sector of 512 bytes may
 * be in one of them; the SHA-256 tells which belong together.
 *
 * Invariant: what comes out was written, whole, by some commit of this file system, as its SHA-256 says: a host that garbles
 * the first place gains nothing that it could not have shown there. Pure but for `read`.
 */
import {
  blockSize,
  isSealed,
  offsets,
  type ReadBlock,
  readSuperblock,
  type Superblock,
  seal,
  superblockPlace,
} from "./btrfs.ts";
import { VolumeError } from "./errors.ts";

/** The copy that every volume is large enough to have (BTRFS_SUPER_MIRROR_SHIFT). Bytes. */
export const copyPlace = 64 * 2 ** 20;
/** What a drive writes whole. Bytes. */
const sectorSize = 512;

/**
 * The superblock of the file system `fsid`: of the first place where that is whole, and otherwise the newest that it and its
 * copy hold together. Throws as `readSuperblock`.
 */
export async function findSuperblock(read: ReadBlock, fsid: Uint8Array): Promise<Superblock> {
  const first = await read(superblockPlace);
  try {
    return readSuperblock(first, fsid);
  } catch (error) {
    if (!(error instanceof VolumeError) || error.code !== "volume/damaged") throw error;
    const [found] = [...together(first, await read(copyPlace), fsid)].sort((a, b) =>
      a.generation < b.generation ? 1 : -1,
    );
    if (found === undefined) throw error;
    return found;
  }
}

/** Every superblock of `fsid` whose sectors are each in one of two places. */
function* together(first: Uint8Array, copy: Uint8Array, fsid: Uint8Array): Iterable<Superblock> {
  if (first.length !== blockSize || copy.length !== blockSize) return;
  for (const [own, other] of [
    [first, copy],
    [copy, first],
  ] as const) {
    const differing = sectors.filter((at) => Buffer.compare(sectorOf(own, at), sectorOf(other, at)) !== 0);
    for (let choice = 0; choice < 1 << differing.length; choice++) {
      const bytes = Uint8Array.from(own);
      for (const [index, at] of differing.entries())
        if ((choice & (1 << index)) !== 0) bytes.set(sectorOf(other, at), at);
      const found = sealedAs(bytes, fsid);
      if (found !== undefined) yield found;
    }
  }
}

/** All but the first, which holds the hash. */
const sectors = Array.from({ length: blockSize / sectorSize - 1 }, (_, index) => (index + 1) * sectorSize);
const sectorOf = (bytes: Uint8Array, at: number) => bytes.subarray(at, at + sectorSize);

/** A patchwork as the first place would have it, when its hash says that it is one superblock. */
function sealedAs(bytes: Uint8Array, fsid: Uint8Array): Superblock | undefined {
  if (!isSealed(bytes)) return undefined;
  const moved = Uint8Array.from(bytes);
  new DataView(moved.buffer).setBigUint64(offsets.place, BigInt(superblockPlace), true);
  try {
    return readSuperblock(seal(moved), fsid);
  } catch (error) {
    if (error instanceof VolumeError && error.code === "volume/damaged") return undefined;
    throw error;
  }
}
