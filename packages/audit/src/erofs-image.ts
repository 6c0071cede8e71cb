/**
 * Reads the root file system of an image as the kernel would (format: Linux fs/erofs/erofs_fs.h), to audit what is
 * there rather than what a list says is there.
 *
 * Only what Caisson writes is accepted: 4096-byte blocks, flat data, no optional feature. Every offset
 * is checked against the image before use, and the number of inodes is bounded, so that no image costs more than its
 * size.
 */
import { hash } from "node:crypto";
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

export interface ErofsImage {
  files: ReadonlyMap<string, FileFact>;
  root: ImageFacts["root"];
  /** Content of a regular file; undefined when there is none at that path. */
  readonly read: (path: string) => Buffer | undefined;
}

/** `image` is the file system followed by its verity hash tree. Throws AuditError `image/rootfs`. */
export function readErofsImage(image: Buffer): ErofsImage {
  const bad = (why: string) =>
    new AuditError("image/rootfs", `this root file system cannot be audited: ${why}`);
  if (image.length < 4096 || image.readUInt32LE(superOffset) !== magic) throw bad("it is no EROFS image");
  const blockBits = image[superOffset + 12];
  const rootNid = image.readUInt16LE(superOffset + 14);
  const blocks = image.readUInt32LE(superOffset + 36);
  const metaBlock = image.readUInt32LE(superOffset + 40);
  const incompatibleFeatures = image.readUInt32LE(superOffset + 80);
  if (blockBits !== 12) throw bad(`blocks of 2^${blockBits} bytes`);
  if (incompatibleFeatures !== 0)
    throw bad(`features 0x${incompatibleFeatures.toString(16)}, which Caisson never writes`);
  const end = blocks * 4096;
  if (end > image.length) throw bad(`${blocks} blocks, but ${image.length} bytes`);

  const files = new Map<string, FileFact>();
  const offsets = new Map<string, number>();
  let extendedAttributes = false;

  const inode = (offset: number) => {
    const outside = () => bad(`an inode at ${offset}, outside of the file system`);
    if (offset < 0 || offset + slotSize > end) throw outside();
    const format = image.readUInt16LE(offset);
    const layout = format >> 1;
    const isExtended = (format & 1) === 1;
    if (layout !== 0 && layout !== 2) throw bad(`an inode of format ${format} at ${offset}`);
    if (isExtended && offset + 2 * slotSize > end) throw outside();
    if (image.readUInt16LE(offset + 2) !== 0) extendedAttributes = true;
    return {
      inline: layout === 2,
      mode: image.readUInt16LE(offset + 4),
      size: isExtended ? Number(image.readBigUInt64LE(offset + 8)) : image.readUInt32LE(offset + 8),
      block: image.readUInt32LE(offset + 16),
      uid: isExtended ? image.readUInt32LE(offset + 24) : image.readUInt16LE(offset + 24),
      gid: isExtended ? image.readUInt32LE(offset + 28) : image.readUInt16LE(offset + 26),
      behind: offset + (isExtended ? 2 * slotSize : slotSize),
    };
  };

  const content = (offset: number): Buffer => {
    const { inline, size, block, behind } = inode(offset);
    const tail = inline ? size % 4096 : 0;
    const start = block * 4096;
    if (start + size - tail > end || behind + tail > end)
      throw bad(`content outside of the file system at ${offset}`);
    const whole = image.subarray(start, start + size - tail);
    return tail === 0 ? whole : Buffer.concat([whole, image.subarray(behind, behind + tail)]);
  };

  const entries = (offset: number): { name: string; offset: number }[] => {
    const bytes = content(offset);
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
        list.push({ name: block.toString("utf8", start, stop), offset: metaBlock * 4096 + nid * slotSize });
      }
    }
    return list;
  };

  const visit = (path: string, offset: number, parents: ReadonlySet<number>): void => {
    if (files.size > inodeLimit || parents.size > 256) throw bad("too many files, or directories too deep");
    if (parents.has(offset)) throw bad(`${path} contains itself`);
    const { mode, size, uid, gid } = inode(offset);
    const kind = kinds[mode & 0o170000] ?? "other";
    if (path !== "") {
      files.set(path, { kind, mode: mode & 0o7777, uid, gid, size, ...describe(kind, offset, path) });
      offsets.set(path, offset);
    }
    if (kind !== "directory") return;
    const within = new Set([...parents, offset]);
    for (const entry of entries(offset)) {
      if (entry.name !== "." && entry.name !== "..") visit(`${path}/${entry.name}`, entry.offset, within);
    }
  };

  const describe = (kind: FileFact["kind"], offset: number, path: string): Partial<FileFact> => {
    if (kind === "symlink") return { target: content(offset).toString("utf8") };
    if (kind !== "file") return {};
    const bytes = content(offset);
    return {
      sha256: hash("sha256", bytes, "hex"),
      // What the application brings may be no ELF file of a kind that is understood here; it is not judged.
      ...(isElf(bytes) && !path.startsWith("/app/") && { elf: parseElf(bytes, path) }),
      ...(bytes[0] === 0x23 &&
        bytes[1] === 0x21 && { script: bytes.toString("utf8", 2, 66).split("\n")[0]!.trim() }),
    };
  };

  visit("", metaBlock * 4096 + rootNid * slotSize, new Set());
  return {
    files,
    root: { incompatibleFeatures, extendedAttributes, ...verity(image, end) },
    read(path) {
      const offset = offsets.get(path);
      return offset === undefined || files.get(path)?.kind !== "file" ? undefined : content(offset);
    },
  };
}

/** The last name of a block ends with the block or at a NUL. */
function endOfName(block: Buffer, start: number): number {
  const nul = block.indexOf(0, start);
  return nul < 0 ? block.length : nul;
}

function verity(image: Buffer, end: number): { rootHash: string; treeIntact: boolean } {
  const hasher = new VerityHasher();
  hasher.update(image.subarray(0, end - (end % verityBlockSize)));
  const tree = hasher.finish();
  return { rootHash: tree.rootHash, treeIntact: tree.bytes.equals(image.subarray(end)) };
}
