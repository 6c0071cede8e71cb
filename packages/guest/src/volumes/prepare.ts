// SPDX-License-Identifier: Apache-2.0
/**
 * What is done to a volume's blocks before the kernel mounts them: made where it is new, a torn stamp finished, a torn
 * superblock put together, stamped for this opening. Cut off at any write, the next opening finds a file system again.
 */
import type { VolumeKeys } from "@caisson/protocol/derivation";
import { type Block, type ReadBlock, type Stamp, stamp } from "./btrfs.ts";
import { VolumeError } from "./errors.ts";
import type { Redo } from "./reserved.ts";
import { emptyFileSystem, templateSize } from "./template.ts";
import { findSuperblock } from "./torn.ts";

/** A volume's decrypted blocks, and the record beside them. */
export interface VolumeBlocks {
  read: ReadBlock;
  /** Writes blocks in this order, durably. */
  put(...blocks: readonly Block[]): Promise<void>;
  readRedo(): Promise<Redo | undefined>;
  /** Durably, before the stamp itself is begun. */
  writeRedo(stamp: Stamp): Promise<void>;
}

export interface Preparation {
  /** Whether nothing of the volume was ever anchored: only then may a file system be made. */
  made: boolean;
  /** The generation to stamp, and the least that there must be. */
  to: bigint;
  least: bigint;
  /** Bytes of the device. */
  deviceSize: number;
}

/** Prepares a volume; the size of its file system, in bytes. Throws VolumeError. */
export async function prepareVolume(
  blocks: VolumeBlocks,
  { fsid, device, chunkTree }: VolumeKeys,
  { made, to, least, deviceSize }: Preparation,
): Promise<number> {
  if (made) {
    if (deviceSize < templateSize) {
      throw new VolumeError("volume/too-small", `a volume has ${templateSize} bytes at least`);
    }
    const [superblock, ...nodes] = emptyFileSystem({ fsid, device, chunkTree });
    await blocks.put(...nodes);
    await blocks.put(superblock!);
  } else {
    const begun = await blocks.readRedo();
    // Of an opening that never anchored: what came after its stamp is newer than that, and nothing else is.
    if (
      begun !== undefined &&
      begun.to > least &&
      begun.to < to &&
      (await isOlder(blocks.read, fsid, begun.to))
    ) {
      await blocks.put(begun.blocks[0]);
      await blocks.put(begun.blocks[1]);
    }
  }
  const superblock = await findSuperblock(blocks.read, fsid);
  const stamped = await stamp(blocks.read, superblock, to, { fsid, least, deviceSize });
  await blocks.writeRedo(stamped);
  await blocks.put(stamped.root);
  await blocks.put(stamped.superblock);
  return stamped.size;
}

/** Whether there is no superblock, or one of this generation at most. */
async function isOlder(read: ReadBlock, fsid: Uint8Array, generation: bigint): Promise<boolean> {
  try {
    return (await findSuperblock(read, fsid)).generation <= generation;
  } catch (error) {
    if (error instanceof VolumeError && error.code === "volume/damaged") return true;
    throw error;
  }
}
