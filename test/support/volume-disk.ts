// SPDX-License-Identifier: Apache-2.0
/**
 * A volume's disk as only the guest sees it: tests have the KMS's root secret. The attacks of a host are done to the bytes
 * of the file; this only tells them where to strike, which a real host would have to guess.
 */
import { createCipheriv, createDecipheriv, createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { openVolumeBook } from "@caisson/kms";
import { deriveVolumeKeys, deriveVolumeSecret, type VolumeKeys } from "@caisson/protocol/derivation";
import { reservedSize } from "@caisson/protocol/volumes";

/** One node, one sector of the cipher. Bytes. */
export const blockSize = 4096;
const superblock = 65_536;
/** The superblock and its copy, which no node lies in. */
const superblocks = [superblock, 2 ** 26];

/** What a node of btrfs says of itself, in plaintext. */
export interface NodeFacts {
  /** Byte of the decrypted device. */
  at: number;
  generation: bigint;
  owner: bigint;
  level: number;
  /** SHA-256 over its bytes as its header has it, hex. */
  content: string;
}

/** The keys of the only volume of a session's KMS. */
export async function volumeKeys(state: string): Promise<VolumeKeys> {
  const book = await openVolumeBook(join(state, "kms"));
  const [record] = await book.list();
  await book.close();
  const root = new Uint8Array(readFileSync(join(state, "kms", "root-secret")));
  return deriveVolumeKeys(
    deriveVolumeSecret(root, Uint8Array.fromHex(record!.volume), record!.secretVersion),
  );
}

/** The file of a session's volume. */
export const diskOf = (state: string, name = "data"): string => join(state, "volumes", `${name}.img`);

function tweakOf(at: number): Buffer {
  const tweak = Buffer.alloc(16);
  tweak.writeBigUInt64LE(BigInt(at / blockSize));
  return tweak;
}

/** One sector of the cipher, or the first blocks of one, decrypted: AES-256-XTS, its number as the tweak. */
export function decrypt({ cipher }: VolumeKeys, at: number, sector: Uint8Array): Buffer {
  const decipher = createDecipheriv("aes-256-xts", cipher, tweakOf(at)).setAutoPadding(false);
  return Buffer.concat([decipher.update(sector), decipher.final()]);
}

/** A node as the kernel would write it there, with another file system's id: all of it is right but that. */
export function foreignNode(keys: VolumeKeys, at: number, sealed: Uint8Array): Buffer {
  const bytes = decrypt(keys, at, sealed);
  const encrypt = (): Buffer => {
    createHash("sha256").update(bytes.subarray(32)).digest().copy(bytes);
    const cipher = createCipheriv("aes-256-xts", keys.cipher, tweakOf(at)).setAutoPadding(false);
    return Buffer.concat([cipher.update(bytes), cipher.final()]);
  };
  if (!encrypt().equals(sealed)) throw new Error(`what lies at ${at} is not a node`);
  bytes.fill(0x5a, 32, 48);
  return encrypt();
}

/** Reads the blocks of a disk's file that were ever written: sparse parts are zeros. */
export function* blocks(path: string): Generator<{ at: number; sealed: Buffer }> {
  const file = openSync(path, "r");
  try {
    const { size } = fstatSync(file);
    const piece = Buffer.alloc(1 << 20);
    const zeros = Buffer.alloc(blockSize);
    for (let place = reservedSize; place < size; place += piece.length) {
      const length = readSync(file, piece, 0, Math.min(piece.length, size - place), place);
      for (let at = 0; at + blockSize <= length; at += blockSize) {
        const sealed = piece.subarray(at, at + blockSize);
        if (!sealed.equals(zeros)) yield { at: place - reservedSize + at, sealed: Buffer.from(sealed) };
      }
    }
  } finally {
    closeSync(file);
  }
}

/** The node that a sector of the cipher is; undefined for everything else. */
function nodeOf(keys: VolumeKeys, at: number, sealed: Uint8Array): NodeFacts | undefined {
  if (superblocks.includes(at)) return undefined;
  const bytes = decrypt(keys, at, sealed);
  if (bytes.compare(keys.fsid, 0, 16, 32, 48) !== 0) return undefined;
  return {
    at,
    generation: bytes.readBigUInt64LE(80),
    owner: bytes.readBigUInt64LE(88),
    level: bytes.readUInt8(100),
    content: bytes.toString("hex", 0, 32),
  };
}

/**
 * Looks for two contents at one place and generation in what is written to a disk, one write after the other: nodes, and
 * the superblock with its copy. No place may go back to a generation before the one that it had either.
 */
export class GenerationSearch {
  /** Pairs of place and generation that were seen. */
  pairs = 0;
  /** What was found, in words. */
  readonly found: string[] = [];
  readonly #last = new Map<number, { generation: bigint; content: string }>();
  readonly #early: [at: number, bytes: Buffer][] = [];
  #keys: VolumeKeys | undefined;

  /** From here on writes can be read; those that came before are looked at now. */
  set keys(keys: VolumeKeys) {
    this.#keys = keys;
    for (const [at, bytes] of this.#early.splice(0)) this.see(at, bytes);
  }

  /** One write: byte of the disk, whole sectors of the cipher. */
  see(at: number, bytes: Buffer): void {
    if (this.#keys === undefined) {
      this.#early.push([at, Buffer.from(bytes)]);
      return;
    }
    for (
      let part = at < reservedSize ? reservedSize - at : 0;
      part + blockSize <= bytes.length;
      part += blockSize
    ) {
      this.#block(at - reservedSize + part, bytes.subarray(part, part + 128), this.#keys);
    }
  }

  #block(at: number, sealed: Buffer, keys: VolumeKeys): void {
    const one = superblocks.includes(at) ? superblockFacts(keys, at, sealed) : nodeOf(keys, at, sealed);
    if (one === undefined) return;
    const last = this.#last.get(at);
    if (last?.generation !== one.generation) this.pairs++;
    const isOther = last?.generation === one.generation && last.content !== one.content;
    if (isOther || (last !== undefined && one.generation < last.generation)) {
      this.found.push(`at ${at}, generation ${one.generation} after ${last!.generation}`);
    }
    this.#last.set(at, { generation: one.generation, content: one.content });
  }
}

function superblockFacts(
  keys: VolumeKeys,
  at: number,
  sealed: Buffer,
): Pick<NodeFacts, "generation" | "content"> {
  const bytes = decrypt(keys, at, sealed);
  return { generation: bytes.readBigUInt64LE(72), content: bytes.toString("hex", 0, 32) };
}

/** Every node of the file system that its disk holds now, current or left over. */
export function nodes(path: string, keys: VolumeKeys): NodeFacts[] {
  const found: NodeFacts[] = [];
  for (const { at, sealed } of blocks(path)) {
    const node = nodeOf(keys, at, sealed);
    if (node !== undefined) found.push(node);
  }
  return found;
}

/** One decrypted block. */
function readBlock(path: string, keys: VolumeKeys, at: number): Buffer {
  return decrypt(keys, at, readSealed(path, at));
}

/** The superblock's generation. */
export const generationOf = (path: string, keys: VolumeKeys): bigint =>
  readBlock(path, keys, superblock).readBigUInt64LE(72);

/** The bytes of a block as the host has them. */
export function readSealed(path: string, at: number): Buffer {
  const bytes = Buffer.alloc(blockSize);
  const file = openSync(path, "r");
  readSync(file, bytes, 0, blockSize, reservedSize + at);
  closeSync(file);
  return bytes;
}

/** What a host does: other bytes in the place of a block. */
export function writeSealed(path: string, at: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, reservedSize + at);
  closeSync(file);
}
