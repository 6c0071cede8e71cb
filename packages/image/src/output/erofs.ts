// SPDX-License-Identifier: Apache-2.0
/**
 * An EROFS writer (format: Linux fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst).
 *
 * Invariants:
 * - The bytes depend on the tree and the time alone: no host order, no clock, no random UUID.
 * - No optional feature of the format is used (feature_incompat is 0): uncompressed, one device, no extended
 *   attributes, 4096-byte blocks. The less the kernel has to parse, the better.
 * - Inodes are compact (32 bytes) unless something does not fit there: a file of 4 GiB, an owner above 65535, 65536
 *   names, a time of its own. Then they are extended (64 bytes).
 * - Everything carries the same time, which is the superblock's epoch, but files that have their own: what is made from
 *   others compares times (Python's compiled modules), and web servers tell versions apart by them.
 * - An inode and the data behind it never cross a block. What fits there is stored there (files, symlinks, the last
 *   block of a directory); any other content starts on its own block, and identical contents share their blocks.
 *
 * Layout: [boot area 1024 | superblock | inodes with inline data …] [data blocks …], both breadth first.
 */
import { chunksOf, digest, HostFiles } from "../build/content.ts";
import { allowedMode, type Content, type DirectoryNode, type FileNode, type Node } from "../build/tree.ts";
import { ImageError } from "../errors.ts";

const blockSize = 4096;

const superOffset = 1024;
const superSize = 128;
/** Inodes start at multiples of this, and are one slot or two. */
const slotSize = 32;
const direntSize = 12;
/** Metadata starts at block 0, so an inode's number is its byte offset / 32 (erofs_iloc). */
const nidOf = (inode: Inode): bigint => BigInt(inode.offset / slotSize);

/** `i_format` of an extended inode has this bit. */
const extended = 1;
/** Data layouts (EROFS_INODE_FLAT_PLAIN, EROFS_INODE_FLAT_INLINE), as `i_format` holds them. */
const plain = 0 << 1;
const inline = 2 << 1;

/** File types of directory entries (EROFS_FT_*), and the S_IFMT bits of modes. */
const types = {
  file: { entry: 1, mode: 0o100000 },
  directory: { entry: 2, mode: 0o040000 },
  symlink: { entry: 7, mode: 0o120000 },
} as const;

interface Entry {
  name: Buffer;
  inode: Inode;
}

interface Inode {
  readonly node: Node;
  /** Where it was first found, for messages. */
  readonly path: string;
  readonly mode: number;
  readonly user: number;
  readonly group: number;
  readonly time: number | undefined;
  links: number;
  /** i_size: bytes of content. */
  size: number;
  /** What the inode contains: bytes of a file or symlink target, or a directory's entries, block by block. */
  data: Content | Entry[][];
  layout: number;
  /** Byte offset of the inode in the image. */
  offset: number;
  /** First data block; 0 when there is none. */
  block: number;
  /** False when another inode with the same content writes the blocks. */
  ownsBlocks: boolean;
}

const isExtended = ({ size, user, group, links, time }: Inode): boolean =>
  size > 0xffff_ffff || user > 0xffff || group > 0xffff || links > 0xffff || time !== undefined;

/** Bytes of the inode itself. */
const headSize = (inode: Inode): number => (isExtended(inode) ? 2 * slotSize : slotSize);

/** SHA-256 of files' contents, lower-case hex. */
type Digests = ReadonlyMap<FileNode, string>;

const digestOf = ({ node }: Inode, digests: Digests): string | undefined =>
  node.kind === "file" ? digests.get(node) : undefined;

/** A file system that is laid out but not yet written. */
export interface Erofs {
  /** Size of the file system in blocks of 4096 bytes. */
  readonly blocks: number;
  /** SHA-256 of every file's content, lower-case hex. */
  readonly digests: Digests;
  /** The bytes, in order; each chunk is a whole number of blocks and valid until the next is asked for. */
  chunks(): Generator<Buffer, void>;
}

/**
 * Lays out `root` as an EROFS file system whose inodes carry `time` (seconds since 1970) unless they have their own.
 * Reads each file whose SHA-256 is not known once here, to know what is identical, and every file in `chunks()`. Throws
 * ImageError `erofs/name`, `erofs/mode`, `erofs/owner`, `erofs/size`, `erofs/links`, `erofs/changed`.
 */
export function layoutErofs(root: DirectoryNode, time: number): Erofs {
  const inodes = collect(root);
  const digests = new Map<FileNode, string>();
  using files = new HostFiles();
  for (const { node } of inodes) {
    if (node.kind === "file") digests.set(node, digest(node.content, files));
  }
  const metadataBlocks = placeInodes(inodes);
  const blocks = placeData(inodes, digests, metadataBlocks);
  return {
    blocks,
    digests,
    *chunks() {
      using files = new HostFiles();
      yield* gathered(
        metadata(inodes, digests, metadataBlocks, superblock(inodes.length, blocks, time), files, time),
      );
      yield* gathered(data(inodes, digests, files));
    },
  };
}

/** Every inode, each once, breadth first: the root is the first, and no depth of the tree is too deep. */
function collect(root: DirectoryNode): Inode[] {
  const first = newInode(root, "");
  const inodes = [first];
  const known = new Map<Node, Inode>([[root, first]]);

  const child = (node: Node, path: string): Inode => {
    const linked = known.get(node);
    if (linked === undefined) {
      const inode = newInode(node, path);
      known.set(node, inode);
      inodes.push(inode);
      return inode;
    }
    if (node.kind === "directory")
      throw new ImageError("erofs/links", `${path} is a directory with two names`);
    linked.links++;
    return linked;
  };

  const parents = new Map([[first, first]]);
  for (const inode of inodes) {
    if (inode.node.kind !== "directory") continue;
    const entries: Entry[] = [
      { name: Buffer.from("."), inode },
      { name: Buffer.from(".."), inode: parents.get(inode)! },
    ];
    for (const { name, node } of sortedEntries(inode.node, inode.path)) {
      const entry = { name, inode: child(node, `${inode.path}/${name.toString()}`) };
      entries.push(entry);
      if (node.kind !== "directory") continue;
      parents.set(entry.inode, inode);
      inode.links++;
    }
    // `.` and `..` are sorted among the names: the kernel looks up by bisection over all of them.
    inode.data = [...packEntries(entries.sort((a, b) => Buffer.compare(a.name, b.name)))];
    inode.size = sizeOf(inode.data);
  }
  return inodes;
}

function newInode(node: Node, path: string): Inode {
  const permissions = node.kind === "symlink" ? 0o777 : node.mode;
  const { user, group } = node.owner ?? { user: 0, group: 0 };
  if ((permissions & ~allowedMode(node)) !== 0 || !Number.isInteger(permissions)) {
    throw new ImageError(
      "erofs/mode",
      `${path} has mode ${permissions.toString(8)}: only 0000 to ${allowedMode(node).toString(8)} are allowed`,
    );
  }
  if (![user, group].every((id) => Number.isInteger(id) && id >= 0 && id < 0xffff_ffff)) {
    throw new ImageError("erofs/owner", `${path} belongs to ${user}:${group}, which are not ids`);
  }
  const data =
    node.kind === "directory" ? [] : node.kind === "file" ? node.content : encoded(node.target, path, 4095);
  const size = node.kind === "directory" ? 0 : sizeOf(data);
  return {
    node,
    path,
    mode: types[node.kind].mode | permissions,
    user,
    group,
    time: node.kind === "file" ? node.time : undefined,
    // A directory's own `.` and its name (or, for the root, its `..`).
    links: node.kind === "directory" ? 2 : 1,
    size,
    data,
    layout: plain,
    offset: 0,
    block: 0,
    ownsBlocks: true,
  };
}

/** A directory's entries in the order of their bytes: inode numbers must not depend on the order of insertion. */
function sortedEntries({ entries }: DirectoryNode, path: string): { name: Buffer; node: Node }[] {
  return [...entries]
    .map(([name, node]) => ({ name: encodedName(name, path), node }))
    .sort((a, b) => Buffer.compare(a.name, b.name));
}

function encoded(text: string, path: string, limit: number): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length === 0 || bytes.length > limit || bytes.includes(0) || !text.isWellFormed()) {
    throw new ImageError(
      "erofs/name",
      `'${text}' in '${path}' cannot be stored: 1 to ${limit} bytes without NUL`,
    );
  }
  return bytes;
}

function encodedName(name: string, path: string): Buffer {
  if (name === "." || name === ".." || name.includes("/") || path.length + name.length > 4000) {
    throw new ImageError("erofs/name", `'${name}' in '${path}' is not a file name, or its path is too long`);
  }
  return encoded(name, path, 255);
}

/** Splits sorted entries into blocks: a block holds its entries' headers, then their names. */
function* packEntries(entries: Entry[]): Generator<Entry[]> {
  let block: Entry[] = [];
  let used = 0;
  for (const entry of entries) {
    const size = direntSize + entry.name.length;
    if (used + size > blockSize) {
      yield block;
      block = [];
      used = 0;
    }
    block.push(entry);
    used += size;
  }
  yield block;
}

function sizeOf(data: Content | Entry[][]): number {
  if (!Array.isArray(data)) return data instanceof Uint8Array ? data.length : data.size;
  const last = data.at(-1)!.reduce((sum, { name }) => sum + direntSize + name.length, 0);
  return (data.length - 1) * blockSize + last;
}

/** The part of the content that is stored behind the inode, in bytes. */
function inlineSize(inode: Inode): number {
  return inode.layout === inline ? inode.size % blockSize : 0;
}

/** Gives every inode its layout and its place; returns the number of metadata blocks. */
function placeInodes(inodes: Inode[]): number {
  let position = superOffset + superSize;
  for (const inode of inodes) {
    const tail = inode.size % blockSize;
    const whole = inode.node.kind === "directory" || inode.size < blockSize;
    inode.layout = whole && tail > 0 && tail <= blockSize - headSize(inode) ? inline : plain;
    const size = headSize(inode) + inlineSize(inode);
    const room = blockSize - (position % blockSize);
    if (size > room) position += room;
    inode.offset = position;
    position += Math.ceil(size / slotSize) * slotSize;
  }
  return Math.ceil(position / blockSize);
}

/** Gives every content that is not inline its blocks, identical contents the same; returns the number of blocks. */
function placeData(inodes: Inode[], digests: Digests, firstBlock: number): number {
  const placed = new Map<string, number>();
  let next = firstBlock;
  for (const inode of inodes) {
    const count = Math.ceil((inode.size - inlineSize(inode)) / blockSize);
    if (count === 0) continue;
    const key = digestOf(inode, digests);
    const known = key === undefined ? undefined : placed.get(key);
    inode.ownsBlocks = known === undefined;
    inode.block = known ?? next;
    if (known !== undefined) continue;
    if (key !== undefined) placed.set(key, next);
    next += count;
  }
  if (next > 0xffff_ffff) throw new ImageError("erofs/size", "the image would have more than 2^32 blocks");
  return next;
}

function superblock(inodes: number, blocks: number, time: number): Buffer {
  const sb = Buffer.alloc(superSize);
  sb.writeUInt32LE(0xe0f5e1e2, 0); // magic
  sb.writeUInt32LE(0x3, 8); // feature_compat: SB_CHKSUM, MTIME
  sb.writeUInt8(Math.log2(blockSize), 12);
  sb.writeUInt16LE((superOffset + superSize) / slotSize, 14); // root_nid: the root is the first inode
  sb.writeBigUInt64LE(BigInt(inodes), 16);
  sb.writeBigUInt64LE(BigInt(time), 24); // epoch
  sb.writeUInt32LE(blocks, 36);
  return sb;
}

/** The blocks that hold the superblock, the inodes and the data behind them. */
function* metadata(
  inodes: Inode[],
  digests: Digests,
  count: number,
  sb: Buffer,
  files: HostFiles,
  time: number,
): Generator<Buffer, void> {
  let block = Buffer.alloc(blockSize);
  sb.copy(block, superOffset);
  let next = 0;
  for (let index = 0; index < count; index++) {
    for (; next < inodes.length && inodes[next]!.offset < (index + 1) * blockSize; next++) {
      writeInode(block, inodes[next]!, next + 1, digests, files, time);
    }
    // The checksum covers what follows the superblock in its block, too (erofs_superblock_csum_verify).
    if (index === 0) block.writeUInt32LE(crc32c(block.subarray(superOffset)), superOffset + 4);
    yield block;
    block = Buffer.alloc(blockSize);
  }
}

/**
 * An inode (struct erofs_inode_compact or erofs_inode_extended) and its inline data; what is left out is zero: no
 * extended attributes. An extended inode has a time of its own; the others' is the superblock's.
 */
function writeInode(
  block: Buffer,
  inode: Inode,
  number: number,
  digests: Digests,
  files: HostFiles,
  time: number,
): void {
  const at = inode.offset % blockSize;
  block.writeUInt16LE(inode.mode, at + 4);
  block.writeUInt32LE(inode.block, at + 16);
  block.writeUInt32LE(number, at + 20);
  if (isExtended(inode)) {
    block.writeUInt16LE(inode.layout | extended, at);
    block.writeBigUInt64LE(BigInt(inode.size), at + 8);
    block.writeUInt32LE(inode.user, at + 24);
    block.writeUInt32LE(inode.group, at + 28);
    block.writeBigUInt64LE(BigInt(inode.time ?? time), at + 32);
    block.writeUInt32LE(inode.links, at + 44);
  } else {
    block.writeUInt16LE(inode.layout, at);
    block.writeUInt16LE(inode.links, at + 6);
    block.writeUInt32LE(inode.size, at + 8);
    block.writeUInt16LE(inode.user, at + 24);
    block.writeUInt16LE(inode.group, at + 26);
  }
  if (inode.layout !== inline) return;
  const { data } = inode;
  const start = at + headSize(inode);
  if (Array.isArray(data)) encodeEntries(data.at(-1)!).copy(block, start);
  else for (const chunk of chunksOf(data, files, digestOf(inode, digests))) chunk.copy(block, start);
}

/** The data blocks, in the order in which `placeData` gave them out. */
function* data(inodes: Inode[], digests: Digests, files: HostFiles): Generator<Buffer, void> {
  for (const inode of inodes) {
    if (inode.block === 0 || !inode.ownsBlocks) continue;
    if (!Array.isArray(inode.data)) {
      for (const chunk of chunksOf(inode.data, files, digestOf(inode, digests))) yield padded(chunk);
      continue;
    }
    const whole = inode.layout === inline ? inode.data.slice(0, -1) : inode.data;
    for (const entries of whole) yield padded(encodeEntries(entries));
  }
}

/** One block of a directory, as far as it is used: headers (struct erofs_dirent), then names. */
function encodeEntries(entries: Entry[]): Buffer {
  const headers = Buffer.alloc(entries.length * direntSize);
  let nameOffset = headers.length;
  entries.forEach(({ name, inode }, i) => {
    headers.writeBigUInt64LE(nidOf(inode), i * direntSize);
    headers.writeUInt16LE(nameOffset, i * direntSize + 8);
    headers.writeUInt8(types[inode.node.kind].entry, i * direntSize + 10);
    nameOffset += name.length;
  });
  return Buffer.concat([headers, ...entries.map(({ name }) => name)]);
}

function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % blockSize;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(blockSize - rest)]);
}

const chunkSize = 256 * blockSize;

/** The same bytes in few chunks: most files are small. */
function* gathered(parts: Iterable<Buffer>): Generator<Buffer, void> {
  const buffer = Buffer.alloc(chunkSize);
  let used = 0;
  for (const part of parts) {
    if (used + part.length > chunkSize) {
      yield buffer.subarray(0, used);
      used = 0;
    }
    if (part.length >= chunkSize) yield part;
    else used += part.copy(buffer, used);
  }
  if (used > 0) yield buffer.subarray(0, used);
}

/** CRC-32C (Castagnoli, reflected 0x82f63b78) without the final inversion, as the kernel's crc32c(~0, …). */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return crc >>> 0;
}
