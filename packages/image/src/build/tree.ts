// SPDX-License-Identifier: Apache-2.0
/**
 * The file tree of an image, before it becomes a file system.
 *
 * Invariants: names are single path components (no `/`, no NUL, not `.` or `..`, at most 255 bytes of UTF-8);
 * everything carries the image's source date, so no time is stored here; a hard link is the same node object, of a
 * file or a symlink, reachable under two names.
 */

/** A file of the host that is read when the image is written, or the part of it at `offset`. */
export interface FileContent {
  path: string;
  size: number;
  offset?: number;
  /** Lower-case hex, where it is known already. */
  sha256?: string;
}

/** The content of a file: bytes in memory, or on the host (`content.ts` reads both). */
export type Content = Uint8Array | FileContent;

/** Numbers from 0 to 2^32 - 2. */
export interface Owner {
  user: number;
  group: number;
}

export interface FileNode {
  kind: "file";
  /** Permission bits only (0o755): setuid, setgid and sticky are refused. */
  mode: number;
  /** Root when left out. */
  owner?: Owner;
  /** When it was last changed, in seconds since 1970; the image's own time when left out. */
  time?: number;
  content: Content;
}

export interface SymlinkNode {
  kind: "symlink";
  target: string;
  owner?: Owner;
}

export interface DirectoryNode {
  kind: "directory";
  /** Permission bits and sticky (0o1777). */
  mode: number;
  owner?: Owner;
  entries: Map<string, Node>;
}

export type Node = FileNode | SymlinkNode | DirectoryNode;

export type TreeErrorCode = "tree/name" | "tree/mode" | "tree/exists" | "tree/not-directory";

/** A path that cannot be part of an image. All are Caisson's own: users do not see this. */
class TreeError extends Error {
  readonly code: TreeErrorCode;
  constructor(code: TreeErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** The bits that the mode of a node may have: only on directories is sticky more than an oddity. */
export const allowedMode = ({ kind }: Node): number => (kind === "directory" ? 0o1777 : 0o777);

export function directory(mode = 0o755): DirectoryNode {
  return { kind: "directory", mode, entries: new Map() };
}

/** Splits an absolute or relative path into checked components; throws TreeError `tree/name`. */
function components(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "");
  for (const part of parts) {
    if (part === "." || part === ".." || part.includes("\0") || Buffer.byteLength(part) > 255) {
      throw new TreeError("tree/name", `'${path}' is not a path inside an image`);
    }
  }
  return parts;
}

/**
 * Puts `node` at `path`, making missing parents (mode 0755). Throws TreeError `tree/exists` when something is already
 * there, `tree/not-directory` when a parent is not a directory.
 */
export function put(root: DirectoryNode, path: string, node: Node): void {
  const parts = components(path);
  const name = parts.pop();
  if (name === undefined) throw new TreeError("tree/name", `'${path}' names the root itself`);
  if (node.kind !== "symlink" && (node.mode & ~allowedMode(node)) !== 0) {
    throw new TreeError(
      "tree/mode",
      `'${path}' has mode ${node.mode.toString(8)}: only permission bits are allowed`,
    );
  }
  let parent = root;
  for (const part of parts) {
    let next = parent.entries.get(part);
    if (next === undefined) {
      next = directory();
      parent.entries.set(part, next);
    }
    if (next.kind !== "directory")
      throw new TreeError("tree/not-directory", `a parent of '${path}' is not a directory`);
    parent = next;
  }
  if (parent.entries.has(name)) throw new TreeError("tree/exists", `'${path}' is in the image twice`);
  parent.entries.set(name, node);
}

/** The node at `path`, without following symlinks; undefined when there is none. */
export function lookup(root: DirectoryNode, path: string): Node | undefined {
  let node: Node | undefined = root;
  for (const part of components(path)) {
    if (node?.kind !== "directory") return undefined;
    node = node.entries.get(part);
  }
  return node;
}

/** Every path and node below `root`, depth first, names in byte order; directories before what is in them. */
export function* walk(root: DirectoryNode, prefix = ""): Generator<[path: string, node: Node]> {
  const names = [...root.entries.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  for (const name of names) {
    const node = root.entries.get(name)!;
    yield [`${prefix}/${name}`, node];
    if (node.kind === "directory") yield* walk(node, `${prefix}/${name}`);
  }
}
