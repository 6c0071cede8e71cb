// SPDX-License-Identifier: Apache-2.0
/** Where a path of an image leads, and which of its programs a name means: as in the sandbox, decided at build time. */
import { posix } from "node:path";
import { ImageError } from "../errors.ts";
import { type DirectoryNode, lookup, type Node } from "./tree.ts";

/** Where programs are looked for when nobody says. */
export const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Follows symlinks inside the tree, as the sandbox will; undefined when nothing is there. */
export function follow(tree: DirectoryNode, path: string): Node | undefined {
  let rest = path.split("/").filter((part) => part !== "");
  let at: string[] = [];
  let links = 0;
  for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
    if (part === ".") continue;
    if (part === "..") {
      at.pop();
      continue;
    }
    const node = lookup(tree, [...at, part].join("/"));
    if (node?.kind !== "symlink") {
      if (node === undefined) return undefined;
      at.push(part);
      continue;
    }
    if (++links > 40) return undefined;
    if (node.target.startsWith("/")) at = [];
    rest = [...node.target.split("/").filter((piece) => piece !== ""), ...rest];
  }
  return lookup(tree, at.join("/"));
}

/**
 * The absolute path of a program, found as execvp(3) would: by `path` when its name has no slash. `fix` says where
 * another can be named. Throws ImageError `app/program`.
 */
export function findProgram(
  tree: DirectoryNode,
  program: string,
  directory: string,
  path: string | undefined,
  fix: string,
): string {
  const candidates = program.includes("/")
    ? [posix.resolve(directory, program)]
    : (path ?? defaultPath).split(":").map((place) => posix.resolve("/", place, program));
  for (const candidate of candidates) {
    const node = follow(tree, candidate);
    if (node?.kind === "file" && (node.mode & 0o111) !== 0) return candidate;
  }
  throw new ImageError("app/program", `the image has no program '${program}'`, {
    facts: [["looked at", candidates.join(", ")]],
    fix,
  });
}
