// SPDX-License-Identifier: Apache-2.0
import { realpathSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";

/** Whether a path is a directory or below it when links on the way are followed; a link at its end is not. */
export function isInside(directory: string, path: string): boolean {
  const real = (place: string): string => {
    try {
      return realpathSync(place);
    } catch {
      return place;
    }
  };
  return !/^\.\.(?:\/|$)/.test(relative(real(directory), join(real(dirname(path)), basename(path))));
}

/** What to do about a path that is not inside. */
export const moveInside = "move it below the compose file: the image is made of this directory";
