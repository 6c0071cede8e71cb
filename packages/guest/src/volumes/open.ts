// SPDX-License-Identifier: Apache-2.0
/**
 * Opens one volume: cipher, stamp, a read-only mount that is compared with what was stamped, then a writable one and its
 * first commit. docs/state.md says why each step.
 *
 * Invariants: a file system is made only where the KMS says that nothing of the volume was ever anchored; what was
 * stamped is what the kernel mounted, by its own word, before anything is written; nothing is repaired.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { basename, join } from "node:path";
import { deriveVolumeKeys, type VolumeKeys } from "@caisson/protocol/derivation";
import { firstGeneration, reservedSize } from "@caisson/protocol/volumes";
import { messageOf } from "@caisson/vocabulary/failure";
import type { ReleasedVolume } from "../key-client.ts";
import { MS, type Syscalls } from "../syscalls.ts";
import { blockSize } from "./btrfs.ts";
import { VolumeError } from "./errors.ts";
import { type Preparation, prepareVolume } from "./prepare.ts";
import { readRedo, writeRedo } from "./reserved.ts";

const sectorSize = 512;
const quiet = MS.nosuid | MS.nodev | MS.noexec | MS.noatime;
/**
 * No log of single fsyncs, no free map for the host, checksums for everything (said aloud), and a fault of the file system
 * that it notices itself ends the machine.
 */
const options = "notreelog,nodiscard,datacow,datasum,space_cache=v2,fatal_errors=panic";

/** Where a volume is mounted, whole, and what services see of it there. */
export const mountOf = (name: string): string => join("/run/persistent", name);
const served = "data";
/** What PID 1 itself writes at each opening, so that there is a first commit. */
const opening = "opening";

/** A volume that is mounted. */
export interface OpenVolume {
  name: string;
  /** Where it is mounted, and the directory of it that services see. */
  mount: string;
  data: string;
  /** The generation of its first commit. */
  generation: bigint;
  /** Whether it was made just now. */
  made: boolean;
}

/** Opens a volume of at least `size` bytes on a block device. Throws VolumeError. */
export async function openVolume(
  syscalls: Syscalls,
  device: string,
  released: ReleasedVolume,
  size: number,
): Promise<OpenVolume> {
  const { name, grant } = released;
  const keys = deriveVolumeKeys(released.secret);
  const raw = await open(device, "r+");
  try {
    const bytes = deviceBytes(device) - reservedSize;
    if (bytes < size) {
      throw new VolumeError(
        "volume/too-small",
        `the disk of '${name}' holds ${bytes} bytes, and ${size} are asked for: an earlier or another disk, or one that was not grown`,
      );
    }
    const mapped = `caisson-${name}`;
    const minor = syscalls.cryptOpen(
      mapped,
      readFileSync(join("/sys/class/block", basename(device), "dev"), "utf8").trim(),
      keys.cipher,
      reservedSize / sectorSize,
      Math.floor(bytes / blockSize) * (blockSize / sectorSize),
    );
    try {
      const made = grant.state === "creating";
      const to = firstGeneration(BigInt(grant.epoch));
      const least = BigInt(grant.anchor);
      const now = await onDevice(raw, `/dev/dm-${minor}`, keys, { made, to, least, deviceSize: bytes });
      const mount = mountOf(name);
      mkdirSync(mount, { recursive: true, mode: 0o700 });
      mountCompared(syscalls, `/dev/dm-${minor}`, mount, keys, to);
      return await begin(syscalls, { name, mount, data: join(mount, served), made }, to, size > now && size);
    } catch (error) {
      // Busy where it is mounted: then the machine ends with it.
      try {
        syscalls.cryptClose(mapped);
      } catch {}
      throw error;
    }
  } finally {
    await raw.close();
    for (const key of Object.values(keys)) key.fill(0);
  }
}

const deviceBytes = (device: string): number =>
  Number(readFileSync(join("/sys/class/block", basename(device), "size"), "utf8")) * sectorSize;

/** The blocks of the mapped device at `path`, with the reserved part of the disk below it. */
async function onDevice(
  raw: FileHandle,
  path: string,
  keys: VolumeKeys,
  preparation: Preparation,
): Promise<number> {
  const file = await open(path, "r+");
  try {
    return await prepareVolume(
      {
        async read(at) {
          const bytes = new Uint8Array(blockSize);
          try {
            await file.read(bytes, 0, blockSize, at);
          } catch (error) {
            const message = `the disk cannot be read at ${at}: ${messageOf(error)}`;
            throw new VolumeError("volume/read-error", message, error);
          }
          return bytes;
        },
        async put(...blocks) {
          for (const { at, bytes } of blocks) await file.write(bytes, 0, blockSize, at);
          await file.sync();
        },
        readRedo: () => readRedo(raw, keys.redo),
        writeRedo: (stamp) => writeRedo(raw, keys.redo, stamp),
      },
      keys,
      preparation,
    );
  } finally {
    await file.close();
  }
}

/** Mounts read-only, asks the kernel what it mounted, and only then lets it write. */
export function mountCompared(
  syscalls: Pick<Syscalls, "mount" | "unmount" | "btrfsInfo">,
  device: string,
  mount: string,
  keys: VolumeKeys,
  generation: bigint,
): void {
  try {
    syscalls.mount(device, mount, "btrfs", quiet | MS.readOnly, options);
  } catch (error) {
    throw new VolumeError(
      "volume/damaged",
      `the file system does not mount: ${(error as NodeJS.ErrnoException).code}`,
      error,
    );
  }
  const found = syscalls.btrfsInfo(mount);
  const faults = [
    Buffer.compare(found.fsid, keys.fsid) === 0 ? "" : "another file system",
    found.generation === generation ? "" : `generation ${found.generation} instead of ${generation}`,
    found.checksumType === 2 ? "" : "other checksums than SHA-256",
    found.nodeSize === blockSize ? "" : `nodes of ${found.nodeSize} bytes`,
    found.devices === 1 ? "" : `${found.devices} devices`,
  ].filter((fault) => fault !== "");
  if (faults.length > 0) {
    syscalls.unmount(mount);
    throw new VolumeError(
      "volume/changed",
      `the disk answered the kernel otherwise than PID 1: ${faults.join(", ")}`,
    );
  }
  syscalls.mount(device, mount, "btrfs", quiet | MS.remount, options);
}

/** The first commit of this opening: it grows to `size` where there is one, and leaves a line of its own. */
async function begin(
  syscalls: Syscalls,
  volume: Omit<OpenVolume, "generation">,
  to: bigint,
  size: number | false,
): Promise<OpenVolume> {
  const { mount, data } = volume;
  const before = syscalls.btrfsErrors(mount);
  try {
    writeFileSync(join(mount, opening), `${to}\n`);
    if (!existsSync(data)) mkdirSync(data, { mode: 0o755 });
    if (size !== false) syscalls.btrfsResize(mount, size);
    const generation = await syscalls.btrfsCommit(mount);
    if (generation <= to)
      throw new VolumeError(
        "volume/changed",
        `its first commit has generation ${generation}, not above ${to}`,
      );
    if (syscalls.btrfsErrors(mount) !== before)
      throw new VolumeError("volume/read-error", "the kernel counts errors of its disk");
    return { ...volume, generation };
  } catch (error) {
    if (error instanceof VolumeError) throw error;
    throw new VolumeError("volume/read-error", `its first commit fails: ${messageOf(error)}`, error);
  }
}
