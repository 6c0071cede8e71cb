/**
 * An EROFS writer (format: Linux fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst).
 *
 * Invariants:
 * - The bytes depend on the tree and the time alone: no host order, no clock, no random UUID.
 * - No optional feature of the format is used (feature_incompat is 0): uncompressed, one device, no extended
 *   attributes, 4096-byte blocks, 32-byte inodes. The less the kernel has to parse, the better.
 * - Everything belongs to root and carries the same time, which is the superblock's epoch: compact inodes keep
 *   all 64 bits of it.
 * - An inode and the data behind it never cross a block. What fits there is stored there (files, symlinks, the last
 *   block of a directory); any other content starts on its own block, and identical contents share their blocks.
 *
 * Layout: [boot area 1024 | superblock | inodes with inline data …] [data blocks …], both breadth first.
 */
import { createHash, hash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import type { Content, DirectoryNode, FileNode, Node } from "../build/tree.ts";
import { ImageError } from "../errors.ts";

export const blockSize = 4096;

const superOffset = 1024;
const superSize = 128;
const inodeSize = 32;
const direntSize = 12;
/** Metadata starts at block 0, so an inode's number is its byte offset / 32 (erofs_iloc). */
const nidOf = (inode: Inode): bigint => BigInt(inode.offset / inodeSize);

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
 * Lays out `root` as an EROFS file system whose every inode carries `time` (seconds since 1970). Reads each file once
 * here, to know what is identical, and once more in `chunks()`.
 * Throws ImageError `erofs/name`, `erofs/mode`, `erofs/size`, `erofs/links`, `erofs/changed`.
 */
export function layoutErofs(root: DirectoryNode, time: number): Erofs {
  const inodes = collect(root);
  const digests = new Map<FileNode, string>();
  for (const { node } of inodes) {
    if (node.kind === "file") digests.set(node, digest(node.content));
  }
  const metadataBlocks = placeInodes(inodes);
  const blocks = placeData(inodes, digests, metadataBlocks);
  return {
    blocks,
    digests,
    *chunks() {
      yield* metadata(inodes, digests, metadataBlocks, superblock(inodes.length, blocks, time));
      yield* data(inodes, digests);
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
  const crowded = inodes.find(({ links }) => links > 0xffff);
  if (crowded !== undefined) {
    throw new ImageError("erofs/links", `${crowded.path} has more than 65535 names or 65533 directories`);
  }
  return inodes;
}

function newInode(node: Node, path: string): Inode {
  const permissions = node.kind === "symlink" ? 0o777 : node.mode;
  if ((permissions & ~0o777) !== 0 || !Number.isInteger(permissions)) {
    throw new ImageError(
      "erofs/mode",
      `${path} has mode ${permissions.toString(8)}: only 0000 to 0777 are allowed`,
    );
  }
  const data =
    node.kind === "directory" ? [] : node.kind === "file" ? node.content : encoded(node.target, path, 4095);
  const size = node.kind === "directory" ? 0 : sizeOf(data);
  if (size > 0xffff_ffff) throw new ImageError("erofs/size", `${path} is larger than 4 GiB`);
  return {
    node,
    path,
    mode: types[node.kind].mode | permissions,
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
    throw new ImageError("erofs/name", `'${name}' in '${path}' is no file name, or its path is too long`);
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
    inode.layout = whole && tail > 0 && tail <= blockSize - inodeSize ? inline : plain;
    const size = inodeSize + inlineSize(inode);
    const room = blockSize - (position % blockSize);
    if (size > room) position += room;
    inode.offset = position;
    position += Math.ceil(size / inodeSize) * inodeSize;
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
  sb.writeUInt16LE((superOffset + superSize) / inodeSize, 14); // root_nid: the root is the first inode
  sb.writeBigUInt64LE(BigInt(inodes), 16);
  sb.writeBigUInt64LE(BigInt(time), 24); // epoch
  sb.writeUInt32LE(blocks, 36);
  return sb;
}

/** The blocks that hold the superblock, the inodes and the data behind them. */
function* metadata(inodes: Inode[], digests: Digests, count: number, sb: Buffer): Generator<Buffer, void> {
  let block = Buffer.alloc(blockSize);
  sb.copy(block, superOffset);
  let next = 0;
  for (let index = 0; index < count; index++) {
    for (; next < inodes.length && inodes[next]!.offset < (index + 1) * blockSize; next++) {
      writeInode(block, inodes[next]!, digests, next + 1);
    }
    // The checksum covers what follows the superblock in its block, too (erofs_superblock_csum_verify).
    if (index === 0) block.writeUInt32LE(crc32c(block.subarray(superOffset)), superOffset + 4);
    yield block;
    block = Buffer.alloc(blockSize);
  }
}

/** A compact inode (struct erofs_inode_compact) and its inline data; what is left out is zero: no xattrs, root owns it. */
function writeInode(block: Buffer, inode: Inode, digests: Digests, number: number): void {
  const at = inode.offset % blockSize;
  block.writeUInt16LE(inode.layout, at);
  block.writeUInt16LE(inode.mode, at + 4);
  block.writeUInt16LE(inode.links, at + 6);
  block.writeUInt32LE(inode.size, at + 8);
  block.writeUInt32LE(inode.block, at + 16);
  block.writeUInt32LE(number, at + 20);
  if (inode.layout !== inline) return;
  const { data } = inode;
  const tail = block.subarray(at + inodeSize, at + inodeSize + inlineSize(inode));
  if (Array.isArray(data)) encodeEntries(data.at(-1)!).copy(tail);
  else for (const chunk of read(data, digestOf(inode, digests))) chunk.copy(tail);
}

/** The data blocks, in the order in which `placeData` gave them out. */
function* data(inodes: Inode[], digests: Digests): Generator<Buffer, void> {
  for (const inode of inodes) {
    if (inode.block === 0 || !inode.ownsBlocks) continue;
    if (!Array.isArray(inode.data)) {
      yield* read(inode.data, digestOf(inode, digests));
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

/**
 * The content in whole blocks, the last one padded with zeros. A file of the host has to have the length it had when it
 * became part of the tree and, where `expected` is given, that SHA-256. Throws ImageError `erofs/changed`.
 */
function* read(content: Content, expected?: string): Generator<Buffer, void> {
  if (content instanceof Uint8Array) {
    yield padded(Buffer.from(content.buffer, content.byteOffset, content.byteLength));
    return;
  }
  const { path, size } = content;
  const sum = expected === undefined ? undefined : createHash("sha256");
  const file = openSync(path, "r");
  try {
    const buffer = Buffer.alloc(Math.min(chunkSize, Math.ceil(size / blockSize) * blockSize));
    for (let done = 0; done < size; ) {
      const wanted = Math.min(buffer.length, size - done);
      const got = readSync(file, buffer, 0, wanted, done);
      if (got !== wanted) throw changed(path);
      sum?.update(buffer.subarray(0, got));
      done += got;
      const end = Math.ceil(got / blockSize) * blockSize;
      yield buffer.subarray(0, end).fill(0, got);
    }
    if (readSync(file, Buffer.alloc(1), 0, 1, size) !== 0 || sum?.digest("hex") !== expected) {
      throw changed(path);
    }
  } finally {
    closeSync(file);
  }
}

function changed(path: string): ImageError {
  return new ImageError("erofs/changed", `${path} changed during the build`, {
    fix: "run the build again",
  });
}

/** SHA-256 of a content, lower-case hex. */
export function digest(content: Content): string {
  if (content instanceof Uint8Array) return hash("sha256", content, "hex");
  const sum = createHash("sha256");
  let left = content.size;
  for (const chunk of read(content)) {
    sum.update(chunk.subarray(0, Math.min(left, chunk.length)));
    left -= chunk.length;
  }
  return sum.digest("hex");
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
