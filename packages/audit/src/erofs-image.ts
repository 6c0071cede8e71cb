// SPDX-License-Identifier: Apache-2.0
/**
 * Reads the root file system of an image as the kernel would (format: Linux fs/erofs/erofs_fs.h), to audit what is
 * there rather than what a list says is there.
 *
 * Only what Caisson writes is accepted: 4096-byte blocks, flat data, no optional feature. Every offset
 * is checked against the image before use, and the number of inodes is bounded, so that no image costs more than its
 * size. Files are hashed a chunk at a time: an image may be larger than memory.
 */
import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { isElf, parseElf } from "@caisson/image/elf";
import { VerityHasher, verityBlockSize } from "@caisson/image/verity";
import { AuditError } from "./errors.ts";
import type { FileFact, ImageFacts } from "./facts.ts";

const superOffset = 1024;
const magic = 0xe0f5e1e2;
/** Inodes start at multiples of this: compact ones are one slot, extended ones two. */
const slotSize = 32;
const inodeLimit = 1_000_000;
const kinds: Record<number, FileFact["kind"]> = {
  0o100000: "file",
  0o040000: "directory",
  0o120000: "symlink",
};

const chunkSize = 1 << 20;

/** The bytes of an image, in memory or on a disk. */
export interface ImageBytes {
  readonly length: number;
  /** `size` bytes from `offset` on, or as many as there are. */
  read(offset: number, size: number): Buffer;
}

const inMemory = (image: Buffer): ImageBytes => ({
  length: image.length,
  read: (offset, size) => image.subarray(offset, offset + size),
});

/** A file, open until it is disposed of. Throws what `open` and `read` throw. */
export function openImageFile(path: string): ImageBytes & Disposable {
  const file = openSync(path, "r");
  return {
    length: fstatSync(file).size,
    read(offset, size) {
      const buffer = Buffer.alloc(Math.max(0, Math.min(size, this.length - offset)));
      return buffer.subarray(0, readSync(file, buffer, 0, buffer.length, offset));
    },
    [Symbol.dispose]: () => closeSync(file),
  };
}

export interface ErofsImage {
  files: ReadonlyMap<string, FileFact>;
  root: ImageFacts["root"];
  /** Content of a regular file; undefined when there is none at that path. */
  readonly read: (path: string) => Buffer | undefined;
}

const bad = (why: string) =>
  new AuditError("image/rootfs", `this root file system cannot be audited: ${why}`);

/** `image` is the file system followed by its verity hash tree. Throws AuditError `image/rootfs`. */
export function readErofsImage(source: Buffer | ImageBytes): ErofsImage {
  const image = Buffer.isBuffer(source) ? inMemory(source) : source;
  const reader = new ErofsReader(image);
  reader.visit("", reader.rootInode, new Set());
  const { files, offsets, incompatibleFeatures, extendedAttributes, end } = reader;
  return {
    files,
    root: { incompatibleFeatures, extendedAttributes, ...verity(image, end) },
    read(path) {
      const offset = offsets.get(path);
      return offset === undefined || files.get(path)?.kind !== "file" ? undefined : reader.content(offset);
    },
  };
}

/** Walks a file system. Everything in it is told by its offset in the image, which is looked at before it is used. */
class ErofsReader {
  readonly #image: ImageBytes;
  readonly #metadata: number;
  readonly rootInode: number;
  readonly incompatibleFeatures: number;
  /** Where the file system ends and its hash tree begins. */
  readonly end: number;
  readonly files = new Map<string, FileFact>();
  readonly offsets = new Map<string, number>();
  extendedAttributes = false;

  constructor(image: ImageBytes) {
    const superblock = image.read(superOffset, 128);
    if (image.length < 4096 || superblock.readUInt32LE(0) !== magic) throw bad("it is not an EROFS image");
    const blockBits = superblock[12];
    const blocks = superblock.readUInt32LE(36);
    const incompatibleFeatures = superblock.readUInt32LE(80);
    if (blockBits !== 12) throw bad(`blocks of 2^${blockBits} bytes`);
    if (incompatibleFeatures !== 0)
      throw bad(`features 0x${incompatibleFeatures.toString(16)}, which Caisson never writes`);
    this.end = blocks * 4096;
    if (this.end > image.length) throw bad(`${blocks} blocks, but ${image.length} bytes`);
    this.#image = image;
    this.#metadata = superblock.readUInt32LE(40) * 4096;
    this.rootInode = this.#metadata + superblock.readUInt16LE(14) * slotSize;
    this.incompatibleFeatures = incompatibleFeatures;
  }

  #inode(offset: number) {
    const outside = () => bad(`an inode at ${offset}, outside of the file system`);
    if (offset < 0 || offset + slotSize > this.end) throw outside();
    const head = this.#image.read(offset, 2 * slotSize);
    const format = head.readUInt16LE(0);
    const layout = format >> 1;
    const isExtended = (format & 1) === 1;
    if (layout !== 0 && layout !== 2) throw bad(`an inode of format ${format} at ${offset}`);
    if (isExtended && offset + 2 * slotSize > this.end) throw outside();
    if (head.readUInt16LE(2) !== 0) this.extendedAttributes = true;
    return {
      inline: layout === 2,
      mode: head.readUInt16LE(4),
      size: isExtended ? Number(head.readBigUInt64LE(8)) : head.readUInt32LE(8),
      block: head.readUInt32LE(16),
      uid: isExtended ? head.readUInt32LE(24) : head.readUInt16LE(24),
      gid: isExtended ? head.readUInt32LE(28) : head.readUInt16LE(26),
      behind: offset + (isExtended ? 2 * slotSize : slotSize),
    };
  }

  *#chunks(offset: number): Generator<Buffer> {
    const { inline, size, block, behind } = this.#inode(offset);
    const tail = inline ? size % 4096 : 0;
    const start = block * 4096;
    const stop = start + size - tail;
    if (stop > this.end || behind + tail > this.end)
      throw bad(`content outside of the file system at ${offset}`);
    for (let at = start; at < stop; at += chunkSize)
      yield this.#image.read(at, Math.min(chunkSize, stop - at));
    if (tail > 0) yield this.#image.read(behind, tail);
  }

  content(offset: number): Buffer {
    return Buffer.concat([...this.#chunks(offset)]);
  }

  #entries(offset: number): { name: string; offset: number }[] {
    const bytes = this.content(offset);
    const list: { name: string; offset: number }[] = [];
    for (let at = 0; at < bytes.length; at += 4096) {
      const block = bytes.subarray(at, at + 4096);
      const names = block.length >= 12 ? block.readUInt16LE(8) : 0;
      if (names === 0 || names % 12 !== 0 || names > block.length)
        throw bad(`a directory at ${offset} is malformed`);
      for (let i = 0; i < names; i += 12) {
        const start = block.readUInt16LE(i + 8);
        const stop = i + 12 < names ? block.readUInt16LE(i + 20) : endOfName(block, start);
        if (stop < start || stop > block.length) throw bad(`a name outside of its directory at ${offset}`);
        const nid = Number(block.readBigUInt64LE(i));
        list.push({ name: block.toString("utf8", start, stop), offset: this.#metadata + nid * slotSize });
      }
    }
    return list;
  }

  /** Puts what is at `offset`, and all below it, into `files`. */
  visit(path: string, offset: number, parents: ReadonlySet<number>): void {
    if (this.files.size > inodeLimit || parents.size > 256)
      throw bad("too many files, or directories too deep");
    if (parents.has(offset)) throw bad(`${path} contains itself`);
    const { mode, size, uid, gid } = this.#inode(offset);
    const kind = kinds[mode & 0o170000] ?? "other";
    if (path !== "") {
      const more = this.#describe(kind, offset, path);
      this.files.set(path, { kind, mode: mode & 0o7777, uid, gid, size, ...more });
      this.offsets.set(path, offset);
    }
    if (kind !== "directory") return;
    const within = new Set([...parents, offset]);
    for (const entry of this.#entries(offset)) {
      if (entry.name !== "." && entry.name !== "..")
        this.visit(`${path}/${entry.name}`, entry.offset, within);
    }
  }

  #describe(kind: FileFact["kind"], offset: number, path: string): Partial<FileFact> {
    if (kind === "symlink") return { target: this.content(offset).toString("utf8") };
    if (kind !== "file") return {};
    const sum = createHash("sha256");
    let first: Buffer | undefined;
    for (const chunk of this.#chunks(offset)) {
      first ??= chunk;
      sum.update(chunk);
    }
    const bytes = first ?? Buffer.alloc(0);
    return {
      sha256: sum.digest("hex"),
      // What the application brings may be no ELF file of a kind that is understood here; it is not judged.
      ...(isElf(bytes) && !path.startsWith("/app/") && { elf: parseElf(this.content(offset), path) }),
      ...(bytes[0] === 0x23 &&
        bytes[1] === 0x21 && { script: bytes.toString("utf8", 2, 66).split("\n")[0]!.trim() }),
    };
  }
}

/** The last name of a block ends with the block or at a NUL. */
function endOfName(block: Buffer, start: number): number {
  const nul = block.indexOf(0, start);
  return nul < 0 ? block.length : nul;
}

function verity(image: ImageBytes, end: number): { rootHash: string; treeIntact: boolean } {
  const hasher = new VerityHasher();
  const whole = end - (end % verityBlockSize);
  for (let at = 0; at < whole; at += chunkSize)
    hasher.update(image.read(at, Math.min(chunkSize, whole - at)));
  const tree = hasher.finish();
  const isIntact = tree.bytes.equals(image.read(end, image.length - end));
  return { rootHash: tree.rootHash, treeIntact: isIntact };
}
