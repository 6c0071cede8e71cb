// SPDX-License-Identifier: Apache-2.0
/** Files of a project that an image carries: configs, and what a service mounts from beside its compose file. */

import { lstatSync, readdirSync, readFileSync, type Stats } from "node:fs";
import { join } from "node:path";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { ImageError } from "../errors.ts";
import type { ComposedFile } from "../inputs/compose/composition.ts";
import { isInside, moveInside } from "../inputs/inside.ts";
import { directory, type Node } from "./tree.ts";

const maximumBytes = 256 << 20;
const maximumFiles = 10_000;

/**
 * The node of a file, or of a directory with everything in it; `base` is the directory that its path may not leave.
 * Throws ImageError `app/file`.
 */
export function projectNode({ content, mode }: ComposedFile, base: string): Node {
  if (content instanceof Uint8Array) return { kind: "file", mode, content };
  if (content.path !== base && !isInside(base, content.path)) {
    throw new ImageError("app/file", `${content.path} lies outside of ${base}`, {
      fix: moveInside,
    });
  }
  const left = { bytes: maximumBytes, files: maximumFiles };
  return read(content.path, left, content.path);
}

function read(path: string, left: { bytes: number; files: number }, whole: string): Node {
  const refuse = (what: string, fix: string): ImageError =>
    new ImageError("app/file", `${path} ${what}`, { fix });
  let found: Stats;
  try {
    found = lstatSync(path);
  } catch (error) {
    throw new ImageError("app/file", `cannot read ${path}: ${reasonOf(error)}`, {
      fix: "correct its path in the compose file; for data, a named volume",
      cause: error,
    });
  }
  if (--left.files < 0) throw new ImageError("app/file", `${whole} has more than ${maximumFiles} files`);
  if (found.isDirectory()) {
    const node = directory();
    for (const name of readdirSync(path).sort()) node.entries.set(name, read(join(path, name), left, whole));
    return node;
  }
  if (!found.isFile()) throw refuse("is neither a file nor a directory", "replace it by a file");
  left.bytes -= found.size;
  if (left.bytes < 0) throw new ImageError("app/file", `${whole} has more than ${maximumBytes >> 20} MiB`);
  // Of the mode only what git keeps: other bits are those of whoever checked it out.
  return { kind: "file", mode: (found.mode & 0o100) === 0 ? 0o644 : 0o755, content: readFileSync(path) };
}
