// SPDX-License-Identifier: Apache-2.0
/**
 * The dm-verity hash tree (format: Linux Documentation/admin-guide/device-mapper/verity.rst, hash format 1).
 *
 * Invariants: SHA-256 over salt ‖ block, 4096-byte data and hash blocks, a constant salt, no superblock: the kernel
 * gets every parameter from its measured command line and parses nothing from the disk before it is verified.
 * The tree lies behind the data, its highest level first, so the first hash block is number `dataBlocks`.
 */
import { hash } from "node:crypto";
import { ImageError } from "../errors.ts";

export const verityBlockSize = 4096;

/**
 * The same for all images. A salt only hinders precomputed collisions for one block, which SHA-256 rules out anyway;
 * a random one would make builds differ. (SHA-256 of "caisson/verity/v1".)
 */
export const veritySalt = Buffer.from(hash("sha256", "caisson/verity/v1", "hex"), "hex");

const digestSize = 32;
const digestsPerBlock = verityBlockSize / digestSize;

export interface VerityTree {
  /** Lower-case hex. */
  rootHash: string;
  dataBlocks: number;
  /** The hash blocks, as they follow the data. */
  bytes: Buffer;
}

/** Collects the hashes of a device's blocks, first to last, in one pass. */
export class VerityHasher {
  readonly #salt: Buffer;
  /** Salt ‖ one block: hashed in one call, which costs less than making a hash object a block. */
  readonly #message: Buffer;
  #digests = Buffer.alloc(1024 * digestSize);
  #blocks = 0;

  constructor(salt: Buffer = veritySalt) {
    this.#salt = salt;
    this.#message = Buffer.alloc(salt.length + verityBlockSize);
    salt.copy(this.#message);
  }

  /** Adds a whole number of blocks; throws ImageError `verity/size` otherwise. */
  update(bytes: Buffer): void {
    if (bytes.length % verityBlockSize !== 0) {
      throw new ImageError(
        "verity/size",
        `${bytes.length} bytes are not whole blocks of ${verityBlockSize}`,
        {
          kind: "internal",
        },
      );
    }
    for (let at = 0; at < bytes.length; at += verityBlockSize) {
      if (this.#blocks * digestSize === this.#digests.length) {
        this.#digests = Buffer.concat([this.#digests, Buffer.alloc(this.#digests.length)]);
      }
      this.#hash(bytes, at).copy(this.#digests, this.#blocks * digestSize);
      this.#blocks++;
    }
  }

  /** The tree over all blocks added. Throws ImageError `verity/size` when there was none. */
  finish(): VerityTree {
    const dataBlocks = this.#blocks;
    if (dataBlocks === 0)
      throw new ImageError("verity/size", "a device without blocks", { kind: "internal" });
    let digests: Buffer = this.#digests.subarray(0, dataBlocks * digestSize);
    const levels: Buffer[] = [];
    while (digests.length > digestSize) {
      const count = Math.ceil(digests.length / digestSize / digestsPerBlock);
      const level = Buffer.alloc(count * verityBlockSize);
      digests.copy(level);
      levels.unshift(level);
      digests = Buffer.alloc(count * digestSize);
      for (let i = 0; i < count; i++) this.#hash(level, i * verityBlockSize).copy(digests, i * digestSize);
    }
    return { rootHash: digests.toString("hex"), dataBlocks, bytes: Buffer.concat(levels) };
  }

  #hash(bytes: Buffer, at: number): Buffer {
    bytes.copy(this.#message, this.#salt.length, at, at + verityBlockSize);
    return hash("sha256", this.#message, "buffer");
  }
}
