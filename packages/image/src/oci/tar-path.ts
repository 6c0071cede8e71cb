// SPDX-License-Identifier: Apache-2.0
/** Paths as archives name them, made clean. */
import { ImageError } from "../errors.ts";

const maximumPath = 4095;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** UTF-8 without NUL, at most 4095 bytes. Throws ImageError `archive/path`. */
export function decodePath(bytes: Uint8Array, name: string): string {
  if (bytes.length > maximumPath || bytes.includes(0)) {
    throw new ImageError("archive/path", `${name}: a path is too long or has a NUL byte`);
  }
  try {
    return utf8.decode(bytes);
  } catch {
    throw new ImageError(
      "archive/path",
      `${name}: a path is not UTF-8: ${JSON.stringify(Buffer.from(bytes).toString("latin1"))}`,
    );
  }
}

/** The components of a path counted from the root, however it begins; none is the root itself. */
export function pathParts(path: string, name: string): string[] {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.some((part) => part === ".." || Buffer.byteLength(part) > 255)) {
    throw new ImageError("archive/path", `${name}: '${path}' is not a path below its root`);
  }
  return parts;
}

/**
 * The target of a symlink that lies `depth` directories below the root. An absolute one counts from the root; none may
 * climb above it. Throws ImageError `archive/link`.
 */
export function symlinkTarget(bytes: Uint8Array, depth: number, path: string, name: string): string {
  const target = decodePath(bytes, name);
  let at = target.startsWith("/") ? 0 : depth;
  for (const part of target.split("/")) {
    if (part === "..") at--;
    else if (part !== "" && part !== ".") at++;
    if (at < 0) throw new ImageError("archive/link", `${name}: '${path}' links out of its root: '${target}'`);
  }
  if (target === "") throw new ImageError("archive/link", `${name}: '${path}' links to nothing`);
  return target;
}
