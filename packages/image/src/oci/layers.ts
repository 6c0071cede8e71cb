// SPDX-License-Identifier: Apache-2.0
/**
 * The tree that layers make when they lie over each other (image-spec 1.1, layer.md), as containerd and umoci unpack
 * them.
 *
 * Invariants: the parents of every entry are resolved inside the image's root, symlinks of all layers included, so
 * nothing is ever put, linked or removed outside of it; entries apply in their order, and a whiteout removes only what
 * lower layers put there. What an image here cannot hold is not smuggled through: setuid and setgid bits, extended
 * attributes, file capabilities, device nodes and FIFOs are dropped and listed in `changes`.
 */
import { type DirectoryNode, directory, type FileNode, type Node, type Owner, walk } from "../build/tree.ts";
import { ImageError } from "../errors.ts";
import { fileCapabilities } from "./file-capabilities.ts";
import { refusedType } from "./tar.ts";
import type { TarItem } from "./tar-format.ts";
import { decodePath, pathParts, symlinkTarget } from "./tar-path.ts";

/** `attribute`: extended attributes other than file capabilities. A device or FIFO is not there at all. */
export type Dropped = "setuid" | "setgid" | "sticky" | "attribute" | "capability" | "device" | "fifo";

/** Where the tree departs from the image on purpose. */
export interface OciChange {
  /** Absolute, in the image. */
  path: string;
  dropped: Dropped;
  /** Of a file that had some: those that it permits, without CAP_. */
  capabilities?: readonly string[];
}

/** Makes the content of a file entry; its data is read before the next entry. */
export type KeepContent = (item: TarItem) => Promise<FileNode["content"]>;

/** All layers together; real images have up to some hundred thousand files. */
const maximumNodes = 1_000_000;
const maximumLinks = 255;

/** Stands for a device or FIFO until all layers are there: a later layer may remove, replace or link it. */
interface SpecialNode {
  kind: "special";
  dropped: "device" | "fifo";
}

type LayerNode = Node | SpecialNode;

/** While layers are applied, `DirectoryNode`s may hold special nodes; `finish` takes them out. */
const entriesOf = (folder: DirectoryNode): Map<string, LayerNode> => folder.entries;

const isDirectory = (node: LayerNode | undefined): node is DirectoryNode => node?.kind === "directory";

/** A path without symlinks, as far as it exists. */
interface Place {
  names: string[];
  /** What stands at each prefix of `names`, the root first; undefined where nothing does. */
  nodes: (LayerNode | undefined)[];
}

const whiteout = ".wh.";
const opaque = ".wh..wh..opq";
/** Metadata of aufs, which nobody unpacks. */
const aufs = ".wh..wh.";

const typeOf = ({ type, path }: TarItem): string => {
  if (type === "7") return "0"; // contiguous: a file
  // Version 7 marks directories by the slash alone.
  if (type === "\0") return path.at(-1) === 0x2f ? "5" : "0";
  return type;
};

export class LayeredTree {
  readonly #root = directory();
  readonly #drops = new Map<LayerNode, Set<Dropped>>();
  readonly #capabilities = new Map<LayerNode, readonly string[]>();
  /** What the current layer put or touched: names by directory. */
  #upper = new Map<DirectoryNode, Set<string>>();
  #nodes = 0;
  readonly #maximumNodes: number;

  constructor(limit = maximumNodes) {
    this.#maximumNodes = limit;
  }

  /** What follows is of the next layer. */
  nextLayer(): void {
    this.#upper = new Map();
  }

  /**
   * Applies one entry of the current layer, which messages call `name`. Throws ImageError `archive/path`,
   * `archive/link`, `archive/type`, `archive/limit`, `oci/layer`; what `keep` throws.
   */
  async apply(item: TarItem, keep: KeepContent, name: string): Promise<void> {
    const path = decodePath(item.path, name);
    const parts = pathParts(path, name);
    const last = parts.pop();
    if (last === undefined) return this.#applyRoot(item, name);
    const parent = this.#resolve(parts, path, name);
    if (last.startsWith(whiteout)) return this.#applyWhiteout(parent, last, path, name);
    const hidden = parts.find((part) => part.startsWith(whiteout));
    if (hidden !== undefined) {
      if (hidden.startsWith(aufs)) return;
      throw new ImageError("oci/layer", `${name}: '${path}' lies below a whiteout`);
    }
    const into = this.#make(parent, path, name);
    const existing = entriesOf(into).get(last);
    const type = typeOf(item);
    if (!(type === "5" && isDirectory(existing))) entriesOf(into).delete(last);
    const node = await this.#node(item, type, { existing, depth: parent.names.length, path, name }, keep);
    entriesOf(into).set(last, node);
    this.#touch(into, last);
  }

  /** The whole tree, and what it has lost, in the order of `walk`. The object is used up. */
  finish(): { tree: DirectoryNode; changes: OciChange[] } {
    const changes = [...walk(this.#root)].flatMap(([path, node]) =>
      [...(this.#drops.get(node) ?? [])].map((dropped): OciChange => {
        const capabilities = dropped === "capability" ? this.#capabilities.get(node) : undefined;
        return { path, dropped, ...(capabilities && { capabilities }) };
      }),
    );
    removeSpecial(this.#root);
    return { tree: this.#root, changes };
  }

  #applyRoot(item: TarItem, name: string): void {
    if (typeOf(item) !== "5") throw new ImageError("archive/path", `${name}: an entry has no path`);
    this.#describe(this.#root, item);
  }

  /** Follows `parts` from the root; a symlink leads on from there, `..` never above the root. */
  #resolve(parts: readonly string[], path: string, name: string): Place {
    const place: Place = { names: [], nodes: [this.#root] };
    const rest = parts.toReversed();
    let links = 0;
    for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
      if (part === "..") {
        if (place.names.pop() !== undefined) place.nodes.pop();
        continue;
      }
      const at = place.nodes.at(-1);
      const next = isDirectory(at) ? entriesOf(at).get(part) : undefined;
      if (next?.kind !== "symlink") {
        place.names.push(part);
        place.nodes.push(next);
        continue;
      }
      if (++links > maximumLinks) {
        throw new ImageError("oci/layer", `${name}: '${path}' lies behind symlinks that lead nowhere`);
      }
      if (next.target.startsWith("/")) {
        place.names = [];
        place.nodes = [this.#root];
      }
      const target = next.target.split("/").filter((piece) => piece !== "" && piece !== ".");
      rest.push(...target.toReversed());
    }
    return place;
  }

  /** The directory at a place, made where it is missing; it and all above it count as touched. */
  #make({ names, nodes }: Place, path: string, name: string): DirectoryNode {
    let at = this.#root;
    for (const [i, part] of names.entries()) {
      let next = nodes[i + 1];
      if (next === undefined) {
        next = directory();
        this.#count(name);
        entriesOf(at).set(part, next);
      }
      if (!isDirectory(next)) {
        const below = names.slice(0, i + 1).join("/");
        const what = next.kind === "special" ? next.dropped : next.kind;
        throw new ImageError("oci/layer", `${name}: '${path}' lies below '${below}', which is a ${what}`);
      }
      this.#touch(at, part);
      at = next;
    }
    return at;
  }

  #touch(folder: DirectoryNode, name: string): void {
    const names = this.#upper.get(folder);
    if (names === undefined) this.#upper.set(folder, new Set([name]));
    else names.add(name);
  }

  #count(name: string): void {
    if (++this.#nodes > this.#maximumNodes) {
      throw new ImageError("archive/limit", `${name}: the image has more than ${this.#maximumNodes} files`);
    }
  }

  /** Whatever type the entry has: its name alone makes it a whiteout. */
  #applyWhiteout({ names, nodes }: Place, last: string, path: string, name: string): void {
    const folder = nodes[names.length];
    if (last === opaque) {
      if (isDirectory(folder)) for (const child of entriesOf(folder).keys()) this.#purge(folder, child);
      return;
    }
    if (last.startsWith(aufs)) return;
    const hidden = last.slice(whiteout.length);
    if (hidden === "" || hidden === "." || hidden === "..") {
      throw new ImageError("oci/layer", `${name}: '${path}' is a malformed whiteout`);
    }
    if (isDirectory(folder)) this.#purge(folder, hidden);
  }

  /** Removes an entry and what is below it, but for what this layer put there. */
  #purge(folder: DirectoryNode, name: string): void {
    const pending: [DirectoryNode, string][] = [[folder, name]];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const [from, child] = next;
      const node = entriesOf(from).get(child);
      if (!this.#upper.get(from)?.has(child)) entriesOf(from).delete(child);
      else if (isDirectory(node)) for (const below of entriesOf(node).keys()) pending.push([node, below]);
    }
  }

  async #node(
    item: TarItem,
    type: string,
    {
      existing,
      depth,
      path,
      name,
    }: { existing: LayerNode | undefined; depth: number; path: string; name: string },
    keep: KeepContent,
  ): Promise<LayerNode> {
    if (type === "5" && isDirectory(existing)) return this.#describe(existing, item);
    this.#count(name);
    if (type === "1") return this.#linked(item, path, name);
    switch (type) {
      case "0":
        return this.#describe({ kind: "file", mode: 0, content: await keep(item) }, item);
      case "2":
        return this.#describe({ kind: "symlink", target: symlinkTarget(item.link, depth, path, name) }, item);
      case "5":
        return this.#describe(directory(), item);
      case "3":
      case "4":
      case "6": {
        const node: SpecialNode = { kind: "special", dropped: type === "6" ? "fifo" : "device" };
        this.#drops.set(node, new Set([node.dropped]));
        return node;
      }
      default:
        throw refusedType(type, path, name);
    }
  }

  /** What a hard link names: an entry of this or a lower layer, itself when it is a symlink (link(2)). */
  #linked(item: TarItem, path: string, name: string): LayerNode {
    const target = decodePath(item.link, name);
    const parts = pathParts(target, name);
    const last = parts.pop();
    const { nodes } = this.#resolve(parts, target, name);
    const folder = nodes.at(-1);
    const node = last !== undefined && isDirectory(folder) ? entriesOf(folder).get(last) : undefined;
    if (node === undefined || isDirectory(node)) {
      throw new ImageError(
        "archive/link",
        `${name}: '${path}' is a hard link to '${target}', which is not an earlier file`,
      );
    }
    return node;
  }

  /** Mode, owner and, of a file, time of an entry, on its node; what these lose is written down. */
  #describe<N extends Node>(node: N, { mode, uid, gid, time, xattrs }: TarItem): N {
    const owner: Owner = { user: uid, group: gid };
    if (uid !== 0 || gid !== 0) node.owner = owner;
    else delete node.owner;
    if (node.kind === "file" && time !== undefined) node.time = time;
    const drops = new Set<Dropped>();
    for (const attribute of xattrs.keys())
      drops.add(attribute === "security.capability" ? "capability" : "attribute");
    const capabilities = fileCapabilities(Buffer.from(xattrs.get("security.capability") ?? "", "latin1"));
    if (node.kind === "file" && capabilities.length > 0) this.#capabilities.set(node, capabilities);
    else this.#capabilities.delete(node);
    if (node.kind !== "symlink") {
      node.mode = mode & (node.kind === "directory" ? 0o1777 : 0o777);
      if ((mode & 0o4000) !== 0) drops.add("setuid");
      if ((mode & 0o2000) !== 0) drops.add("setgid");
      if ((mode & 0o1000) !== 0 && node.kind === "file") drops.add("sticky");
    }
    if (drops.size > 0) this.#drops.set(node, drops);
    else this.#drops.delete(node);
    return node;
  }
}

/** Takes out what a tree cannot hold. */
function removeSpecial(root: DirectoryNode): void {
  const pending = [root];
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    for (const [name, node] of entriesOf(folder)) {
      if (node.kind === "special") folder.entries.delete(name);
      else if (node.kind === "directory") pending.push(node);
    }
  }
}
