// SPDX-License-Identifier: Apache-2.0
/**
 * The disks of an image's persistent volumes, as files of the host: made once, sparse, then used again by every start and
 * every later version of the image. Nothing in them can be read here, and a copy of one is not a backup that a guest takes
 * back by itself (docs/state.md).
 */
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, statSync } from "node:fs";
import { join } from "node:path";
import { type AppDescription, persistentVolumes } from "@caisson/protocol/guest-config";
import { reservedSize } from "@caisson/protocol/volumes";

export interface VolumeDisk {
  name: string;
  path: string;
  /** Bytes, and how many of them take room on the host now. */
  size: number;
  used: number;
  /** What was done with the file just now. */
  state: "made" | "reused" | "grown";
}

/** Makes, or grows, what is missing in `<state>/volumes`. Files are never made shorter. */
export function volumeDisks(state: string, app: AppDescription): VolumeDisk[] {
  const directory = join(state, "volumes");
  return persistentVolumes(app).map((name) => {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const path = join(directory, `${name}.img`);
    const wanted = app.volumes[name]!.size! + reservedSize;
    const before = existsSync(path) ? statSync(path).size : undefined;
    if (before === undefined || before < wanted) {
      const file = openSync(path, before === undefined ? "wx" : "r+", 0o600);
      ftruncateSync(file, wanted);
      closeSync(file);
    }
    const { size, blocks } = statSync(path);
    return {
      name,
      path,
      size,
      used: blocks * 512,
      state: before === undefined ? "made" : before < wanted ? "grown" : "reused",
    };
  });
}
