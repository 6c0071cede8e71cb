// SPDX-License-Identifier: Apache-2.0
/**
 * The disks of an image's persistent volumes, as files of the host: made once, sparse, then used again by every start and
 * every later version of the image. Nothing in them can be read here, and a copy of one is not a backup that a guest takes
 * back by itself (docs/state.md).
 *
 * Invariants: a file is never made shorter, and a new one only where there is nothing; what is not a file is left alone.
 */
import { closeSync, ftruncateSync, lstatSync, openSync, rmSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";
import { type AppDescription, persistentVolumes } from "@caisson/protocol/guest-config";
import { reservedSize } from "@caisson/protocol/volumes";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { Failure, messageOf } from "@caisson/vocabulary/failure";

export interface VolumeDisk {
  name: string;
  path: string;
  /** Bytes, and how many of them take room on the host now. */
  size: number;
  used: number;
  /** What was done with the file just now. */
  state: "made" | "reused" | "grown";
}

/** The file of a volume cannot be used now. */
export class VolumeDiskError extends Failure<"up/volume", "unavailable"> {
  override readonly name = "VolumeDiskError";
  constructor(path: string, reason: string, fix: string) {
    super("up/volume", "unavailable", `the volume ${path} cannot be used: ${reason}`, { fix });
  }
}

/** Makes, or grows, what is missing in `<state>/volumes`. Throws VolumeDiskError. */
export function volumeDisks(state: string, app: AppDescription): VolumeDisk[] {
  return persistentVolumes(app).map((name) => {
    const path = join(state, "volumes", `${name}.img`);
    const wanted = app.volumes[name]!.size! + reservedSize;
    try {
      const before = sizeOf(path);
      if (before === undefined || before < wanted) resize(path, wanted, before === undefined);
      const { size, blocks } = statSync(path);
      const done = before === undefined ? "made" : before < wanted ? "grown" : "reused";
      return { name, path, size, used: blocks * 512, state: done };
    } catch (error) {
      if (error instanceof VolumeDiskError) throw error;
      const fix = `a place that can be written to and takes a sparse file of ${wanted} bytes`;
      throw new VolumeDiskError(path, messageOf(error), fix);
    }
  });
}

/** Bytes of a file, or of the file that a link leads to; undefined where there is nothing. Throws VolumeDiskError. */
function sizeOf(path: string): number | undefined {
  const entry = lstatSync(path, { throwIfNoEntry: false });
  const file: Stats | undefined = statSync(path, { throwIfNoEntry: false });
  if (entry === undefined) return undefined;
  if (file === undefined) {
    const fix = "mount the disk that it is on, or remove the link: then a new volume is made";
    throw new VolumeDiskError(path, "it is a link to what is not there", fix);
  }
  if (!file.isFile()) {
    throw new VolumeDiskError(path, "it is not a file", "a file, or a link to one; or remove it");
  }
  return file.size;
}

function resize(path: string, size: number, made: boolean): void {
  makeDirectory(join(path, ".."), 0o700);
  const file = openSync(path, made ? "wx" : "r+", 0o600);
  try {
    ftruncateSync(file, size);
  } catch (error) {
    if (made) rmSync(path);
    throw error;
  } finally {
    closeSync(file);
  }
}
