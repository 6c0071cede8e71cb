// SPDX-License-Identifier: Apache-2.0
/**
 * btrfs, as far as PID 1 has to know it before the kernel does: it finds the root of the tree of roots, checks it, and
 * gives it and the superblock the generation of this opening (the stamp, docs/state.md).
 *
 * Invariants: no field is used before the SHA-256 over it, and no checksum is believed of another file system than the
 * one asked for, whose id follows from the volume's secret; every place is inside the device; every walk is bounded; a
 * child has the generation that its parent names. Input is plaintext of dm-crypt, which the host can only replay or turn
 * into noise. Pure: reading is a parameter.
 *
 * Format: include/uapi/linux/btrfs_tree.h of Linux 7.3; little endian throughout.
 */
import { createHash } from "node:crypto";
import { VolumeError } from "./errors.ts";

/** One node and one sector of the cipher: a node is never torn by half a cipher sector. Bytes. */
export const blockSize = 4096;
/** Where the superblock lies; the kernel reads no other place. Bytes. */
export const superblockPlace = 65_536;

/** `blockSize` bytes that lie at a byte of the device. */
export interface Block {
  at: number;
  bytes: Uint8Array;
}

/** Reads one block at a byte of the device. */
export type ReadBlock = (at: number) => Promise<Uint8Array>;

/** What of a file system is secret and follows from the volume's secret; 16 bytes each. */
export interface FileSystemIds {
  fsid: Uint8Array;
  device: Uint8Array;
  chunkTree: Uint8Array;
}

export interface Superblock {
  /** The block itself. */
  bytes: Uint8Array;
  generation: bigint;
  /** Logical address of the root of the tree of roots, and its level. */
  root: bigint;
  rootLevel: number;
  chunkRoot: bigint;
  chunkRootLevel: number;
  chunkRootGeneration: bigint;
  /** Bytes of the file system. */
  size: number;
  /** Chunks of the kind that holds the chunk tree itself. */
  systemChunks: Chunk[];
}

/** Logical addresses from `start`, `length` bytes, lie from `at` on the device. */
interface Chunk {
  start: bigint;
  length: bigint;
  at: bigint;
}

const magic = 0x4d5f53665248425fn;
const sha256Type = 2;
const chunkTreeOwner = 3n;
const rootTreeOwner = 1n;
const chunkKey = { objectid: 256n, type: 228 };
/** Offsets in the superblock. */
export const offsets = {
  fsid: 32,
  place: 48,
  magic: 64,
  generation: 72,
  root: 80,
  chunkRoot: 88,
  logRoot: 96,
  totalBytes: 112,
  devices: 136,
  sectorSize: 144,
  nodeSize: 148,
  systemSize: 160,
  chunkRootGeneration: 164,
  checksumType: 196,
  rootLevel: 198,
  chunkRootLevel: 199,
  uuidTreeGeneration: 563,
  systemChunks: 811,
} as const;
const systemChunkLimit = 2048;
/** Offsets in the header of a node. */
const N = { fsid: 32, bytenr: 48, generation: 80, owner: 88, items: 96, level: 100, body: 101 } as const;
const keySize = 17;
const itemSize = 25;
const pointerSize = 33;
const chunkSize = 80;
const maximumLevel = 7;
/** Chunks are 1 GiB at least on a volume of some size, so no volume that we make has more. */
const maximumChunks = 1 << 16;

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes.subarray(32)).digest();
const damaged = (what: string): VolumeError => new VolumeError("volume/damaged", what);

/** Whether a block is whole and its SHA-256 stands in front of it. */
export const isSealed = (bytes: Uint8Array): boolean =>
  bytes.length === blockSize && same(digest(bytes), bytes.subarray(0, 32));

/** Puts the SHA-256 of the rest in front. */
export function seal(bytes: Uint8Array): Uint8Array {
  bytes.set(digest(bytes));
  return bytes;
}

/**
 * Checks a superblock of the file system `fsid` as it has to stand in the first place. Throws VolumeError
 * `volume/damaged` for whatever is not one, and `volume/log-tree` for one with a log, which our mounts never write.
 */
export function readSuperblock(bytes: Uint8Array, fsid: Uint8Array): Superblock {
  if (!isSealed(bytes)) throw damaged("the superblock is not what was written: its SHA-256 differs");
  const view = viewOf(bytes);
  const u64 = (at: number) => view.getBigUint64(at, true);
  if (u64(offsets.magic) !== magic || u64(offsets.place) !== BigInt(superblockPlace))
    throw damaged("this is not a superblock");
  if (!same(bytes.subarray(offsets.fsid, offsets.fsid + 16), fsid))
    throw damaged("this is another volume's superblock");
  if (view.getUint16(offsets.checksumType, true) !== sha256Type)
    throw damaged("its checksums are not SHA-256");
  if (
    view.getUint32(offsets.sectorSize, true) !== blockSize ||
    view.getUint32(offsets.nodeSize, true) !== blockSize
  ) {
    throw damaged(`its sectors and nodes are not of ${blockSize} bytes`);
  }
  if (u64(offsets.devices) !== 1n) throw damaged("it spans several devices");
  if (u64(offsets.logRoot) !== 0n) {
    throw new VolumeError(
      "volume/log-tree",
      "the superblock names a log of single fsyncs, which no opening of this volume writes",
    );
  }
  const size = u64(offsets.totalBytes);
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged("its size is out of range");
  return {
    bytes,
    generation: u64(offsets.generation),
    root: u64(offsets.root),
    rootLevel: level(view.getUint8(offsets.rootLevel)),
    chunkRoot: u64(offsets.chunkRoot),
    chunkRootLevel: level(view.getUint8(offsets.chunkRootLevel)),
    chunkRootGeneration: u64(offsets.chunkRootGeneration),
    size: Number(size),
    systemChunks: systemChunks(bytes, view.getUint32(offsets.systemSize, true)),
  };
}

function level(value: number): number {
  if (value > maximumLevel) throw damaged(`a tree of ${value} levels`);
  return value;
}

function systemChunks(bytes: Uint8Array, size: number): Chunk[] {
  if (size > systemChunkLimit || size % (keySize + chunkSize) !== 0)
    throw damaged("its list of chunks is malformed");
  const chunks: Chunk[] = [];
  for (let at: number = offsets.systemChunks; at < offsets.systemChunks + size; at += keySize + chunkSize) {
    chunks.push(readChunk(bytes, at, bytes.subarray(at + keySize, at + keySize + chunkSize)));
  }
  return chunks;
}

/** A chunk item of one stripe, with its key at `key` of `bytes`. */
function readChunk(bytes: Uint8Array, key: number, item: Uint8Array): Chunk {
  const keys = viewOf(bytes);
  const view = viewOf(item);
  if (keys.getBigUint64(key, true) !== chunkKey.objectid || keys.getUint8(key + 8) !== chunkKey.type) {
    throw damaged("its list of chunks holds something else");
  }
  if (item.length !== chunkSize || view.getUint16(44, true) !== 1 || view.getBigUint64(48, true) !== 1n) {
    throw damaged("a chunk that is not of one stripe on one device");
  }
  return {
    start: keys.getBigUint64(key + 9, true),
    length: view.getBigUint64(0, true),
    at: view.getBigUint64(56, true),
  };
}

interface Expected {
  /** Logical address, level, generation and tree. */
  logical: bigint;
  level: number;
  generation: bigint;
  owner: bigint;
}

/** A file system's nodes by their logical address. */
class Nodes {
  readonly #read: ReadBlock;
  readonly #fsid: Uint8Array;
  readonly #size: number;
  constructor(read: ReadBlock, fsid: Uint8Array, size: number) {
    this.#read = read;
    this.#fsid = fsid;
    this.#size = size;
  }

  /** The node at a logical address that `chunks` place, once everything about it holds. */
  async read(expected: Expected, chunks: readonly Chunk[]): Promise<Block> {
    const { logical } = expected;
    const chunk = chunks.find(
      ({ start, length }) => logical >= start && logical + BigInt(blockSize) <= start + length,
    );
    if (chunk === undefined) throw damaged(`no chunk holds the node ${logical}`);
    const place = chunk.at + (logical - chunk.start);
    if (place % BigInt(blockSize) !== 0n || place + BigInt(blockSize) > BigInt(this.#size)) {
      throw damaged(`the node ${logical} lies outside of the device`);
    }
    const at = Number(place);
    const bytes = await this.#read(at);
    const view = viewOf(bytes);
    const wrong = !isSealed(bytes)
      ? "its SHA-256 differs"
      : !same(bytes.subarray(N.fsid, N.fsid + 16), this.#fsid)
        ? "it is of another file system"
        : view.getBigUint64(N.bytenr, true) !== logical
          ? "it is of another place"
          : view.getBigUint64(N.generation, true) !== expected.generation
            ? `it is of generation ${view.getBigUint64(N.generation, true)}, and ${expected.generation} is named`
            : view.getBigUint64(N.owner, true) !== expected.owner || view.getUint8(N.level) !== expected.level
              ? "it is of another tree or level"
              : undefined;
    if (wrong !== undefined) throw damaged(`the node ${logical}: ${wrong}`);
    return { at, bytes };
  }

  /** All chunks: the leaves of the chunk tree, which the system chunks place. */
  async chunks(superblock: Superblock): Promise<Chunk[]> {
    const found: Chunk[] = [];
    const waiting: Expected[] = [
      {
        logical: superblock.chunkRoot,
        level: superblock.chunkRootLevel,
        generation: superblock.chunkRootGeneration,
        owner: chunkTreeOwner,
      },
    ];
    for (let visited = 0; waiting.length > 0; visited++) {
      if (visited > maximumChunks) throw damaged("its chunk tree has no end");
      const expected = waiting.pop()!;
      const { bytes } = await this.read(expected, superblock.systemChunks);
      if (expected.level === 0) found.push(...leafChunks(bytes));
      else waiting.push(...children(bytes, expected));
    }
    return found;
  }
}

function children(bytes: Uint8Array, { level, owner }: Expected): Expected[] {
  const view = viewOf(bytes);
  const count = view.getUint32(N.items, true);
  if (count === 0 || N.body + count * pointerSize > blockSize) throw damaged("a node with too many pointers");
  return Array.from({ length: count }, (_, index) => {
    const at = N.body + index * pointerSize + keySize;
    return {
      logical: view.getBigUint64(at, true),
      generation: view.getBigUint64(at + 8, true),
      level: level - 1,
      owner,
    };
  });
}

function leafChunks(bytes: Uint8Array): Chunk[] {
  const view = viewOf(bytes);
  const count = view.getUint32(N.items, true);
  if (N.body + count * itemSize > blockSize) throw damaged("a leaf with too many items");
  const chunks: Chunk[] = [];
  for (let index = 0; index < count; index++) {
    const item = N.body + index * itemSize;
    if (view.getUint8(item + 8) !== chunkKey.type) continue;
    const at = N.body + view.getUint32(item + keySize, true);
    const size = view.getUint32(item + keySize + 4, true);
    if (at + size > blockSize) throw damaged("an item outside of its leaf");
    chunks.push(readChunk(bytes, item, bytes.subarray(at, at + size)));
  }
  return chunks;
}

/** What a file system has to be before it is stamped. */
export interface Expectation {
  fsid: Uint8Array;
  /** Its generation, at least: the anchor. */
  least: bigint;
  /** Bytes of the device that the host gave. */
  deviceSize: number;
}

/** The two blocks of a stamp, in the order in which they are written. */
export interface Stamp {
  /** The generation before, and the one of the stamp. */
  from: bigint;
  to: bigint;
  root: Block;
  superblock: Block;
  /** Bytes of the file system. */
  size: number;
}

/**
 * Root and superblock with the generation of this opening. Nothing is written. Throws VolumeError: `volume/stale` for a
 * file system older than the anchor, `volume/too-small` where the disk ends before it, `volume/epoch` where it is newer
 * than this opening, `volume/damaged` for a chunk tree or a root that is not the superblock's.
 */
export async function stamp(
  read: ReadBlock,
  superblock: Superblock,
  to: bigint,
  { fsid, least, deviceSize }: Expectation,
): Promise<Stamp> {
  const { bytes, generation: from, size } = superblock;
  if (from < least) {
    throw new VolumeError(
      "volume/stale",
      `the disk's file system is at generation ${from}, and the KMS has seen generation ${least} of it: an older disk was put back`,
    );
  }
  if (from >= to) {
    throw new VolumeError(
      "volume/epoch",
      `the disk is at generation ${from}, beyond this opening's first, ${to}`,
    );
  }
  if (size > deviceSize) {
    throw new VolumeError(
      "volume/too-small",
      `the file system has ${size} bytes, and its disk holds ${deviceSize}`,
    );
  }
  const nodes = new Nodes(read, fsid, size);
  const root = await nodes.read(
    { logical: superblock.root, level: superblock.rootLevel, generation: from, owner: rootTreeOwner },
    await nodes.chunks(superblock),
  );
  const stampedRoot = Uint8Array.from(root.bytes);
  viewOf(stampedRoot).setBigUint64(N.generation, to, true);
  const stamped = Uint8Array.from(bytes);
  const view = viewOf(stamped);
  view.setBigUint64(offsets.generation, to, true);
  // Equal means that the tree of subvolume ids is complete; the kernel would search for what is missing otherwise.
  if (view.getBigUint64(offsets.uuidTreeGeneration, true) === from)
    view.setBigUint64(offsets.uuidTreeGeneration, to, true);
  return {
    from,
    to,
    root: { at: root.at, bytes: seal(stampedRoot) },
    superblock: { at: superblockPlace, bytes: seal(stamped) },
    size,
  };
}

/** A block of the template with a file system's ids in place of the template's. `Block.bytes` is not changed. */
export function withIds(block: Block, template: FileSystemIds, ids: FileSystemIds): Block {
  const bytes = Uint8Array.from(block.bytes);
  // In headers, and in items: stripes of chunks, the device, its extents. Searched in the template, so that ids which look
  // like its own stay what they are.
  for (const name of ["fsid", "device", "chunkTree"] as const) {
    const [first] = template[name];
    for (let at = block.bytes.indexOf(first!, N.fsid); at >= 0; at = block.bytes.indexOf(first!, at + 1)) {
      if (same(block.bytes.subarray(at, at + 16), template[name])) bytes.set(ids[name], at);
    }
  }
  return { at: block.at, bytes: seal(bytes) };
}
