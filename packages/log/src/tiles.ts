// SPDX-License-Identifier: Apache-2.0
/**
 * The tree of a log as files of https://c2sp.org/tlog-tiles, of which the right edge is in memory. Whoever adds entries
 * writes the files that changed, when they may be seen.
 */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  type Checkpoint,
  readEntries,
  readHashes,
  tilePath,
  tileWidth,
  writeEntries,
} from "@caisson/releases";
import { concat, equal } from "@caisson/vocabulary/bytes";
import { LogServiceError } from "./errors.ts";
import { type Durable, readIfThere } from "./files.ts";
import { completeRoot, Frontier, leafOf } from "./tree.ts";

/** Files to be written, by their paths in the log; and levels whose last tile has more than its file. */
export interface Changes {
  files: Map<string, string | Uint8Array>;
  levels: Set<number>;
}
export const changes = (): Changes => ({ files: new Map(), levels: new Set() });

export class Tiles {
  readonly #directory: string;
  /** Where files wait to be synchronized, those of `Changes` too. */
  readonly #unsettled: Durable;
  /** Of each level, the file of its last tile as readers have it now; those before it are for readers of older trees. */
  readonly #partial: (string | undefined)[] = [];
  /** Directories of partial tiles that are full by now. */
  readonly #full = new Set<string>();
  #frontier = new Frontier();
  /** Of each level, the hashes of its last tile, which is not full. */
  readonly #edges: Uint8Array[][] = [];
  #entries: Uint8Array[] = [];

  constructor(directory: string, unsettled: Durable) {
    this.#directory = directory;
    this.#unsettled = unsettled;
  }

  get size(): number {
    return this.#frontier.size;
  }

  root(): Uint8Array {
    return this.#frontier.root();
  }

  /** Removes partial tiles of which the full ones are on disk. */
  removeFull(): void {
    for (const path of this.#full) rmSync(join(this.#directory, path), { recursive: true, force: true });
    this.#full.clear();
  }

  /**
   * Removes what a crash can have torn and nothing will write again: partial tiles of trees before this one. Who still has
   * an older checkpoint then asks for a newer one.
   */
  tidy(): void {
    for (const [level, edge] of this.#edges.entries()) {
      const tile = Math.floor(this.#frontier.size / tileWidth ** (level + 1));
      for (const name of level === 0 ? (["entries", level] as const) : [level]) {
        const directory = dirname(join(this.#directory, tilePath(name, tile, 1)));
        for (const width of existsSync(directory) ? readdirSync(directory) : []) {
          if (width !== `${edge.length}`) rmSync(join(directory, width));
        }
      }
    }
  }

  /** Adds an entry to the tree; tiles that are full by it are among the changed files then. */
  append(entry: Uint8Array, { files, levels }: Changes = changes()): void {
    const leaf = leafOf(entry);
    this.#frontier.add(leaf);
    this.#entries.push(entry);
    let hashes = leaf;
    for (let level = 0; ; level++) {
      const edge = (this.#edges[level] ??= []);
      edge.push(hashes);
      levels.add(level);
      if (edge.length < tileWidth) return;
      this.#replacePartial(level, undefined);
      const tile = Math.floor(this.#frontier.size / tileWidth ** (level + 1)) - 1;
      files.set(tilePath(level, tile), concat(...edge));
      this.#full.add(dirname(tilePath(level, tile, 1)));
      if (level === 0) {
        this.#full.add(dirname(tilePath("entries", tile, 1)));
        files.set(tilePath("entries", tile), writeEntries(this.#entries));
        this.#entries = [];
      }
      hashes = completeRoot(edge);
      this.#edges[level] = [];
    }
  }

  /** Adds to the changed files the last tiles of the levels, which are not full. */
  addPartial({ files, levels }: Changes): void {
    for (const level of levels) {
      const edge = this.#edges[level]!;
      if (edge.length === 0) continue;
      const tile = Math.floor(this.#frontier.size / tileWidth ** (level + 1));
      files.set(tilePath(level, tile, edge.length), concat(...edge));
      if (level === 0) files.set(tilePath("entries", tile, edge.length), writeEntries(this.#entries));
      this.#replacePartial(level, tilePath(level, tile, edge.length));
    }
  }

  /** The partial tile before is not synchronized: it is for readers of an older tree, and `tidy` removes what is torn. */
  #replacePartial(level: number, path: string | undefined): void {
    const before = this.#partial[level];
    this.#partial[level] = path;
    if (before === undefined) return;
    this.#unsettled.forget(join(this.#directory, before));
    if (level === 0)
      this.#unsettled.forget(join(this.#directory, before.replace("tile/0/", "tile/entries/")));
  }

  /** Hashes of a tile, from its file or from that of the full one. Throws LogServiceError "log-service/damaged". */
  tile(level: number, index: number, width: number): Uint8Array[] {
    for (const have of [width, tileWidth]) {
      const bytes = readIfThere(join(this.#directory, tilePath(level, index, have)));
      if (bytes !== undefined) return readHashes(bytes, have).slice(0, width);
    }
    throw new LogServiceError("log-service/damaged", `${tilePath(level, index, width)} is not there`);
  }

  /** Throws LogServiceError "log-service/damaged" where the tree is not the one that was signed. */
  checkRoot({ size, root }: Checkpoint, where: string): void {
    if (size !== this.#frontier.size || !equal(this.#frontier.root(), root)) this.#differs(where);
  }

  #differs(where: string): never {
    throw new LogServiceError(
      "log-service/damaged",
      `the entries in ${where} are not those of its checkpoint`,
    );
  }

  /** The last tile of each level, which together have the root that was signed. */
  readEdge(tree: Checkpoint): void {
    const { size } = tree;
    for (let level = 0; tileWidth ** level <= size; level++) {
      const hashes = Math.floor(size / tileWidth ** level);
      const [tile, width] = [Math.floor(hashes / tileWidth), hashes % tileWidth];
      this.#edges[level] = width === 0 ? [] : [...this.tile(level, tile, width)];
      if (width > 0) this.#partial[level] = tilePath(level, tile, width);
    }
    this.#frontier = Frontier.of(
      this.#edges.map((hashes, level) => ({ hashes, leaves: tileWidth ** level })),
    );
    const width = size % tileWidth;
    this.#entries = width === 0 ? [] : this.entries(Math.floor(size / tileWidth), width);
    const leaves = this.#entries.map(leafOf);
    if (!equal(concat(...leaves), concat(...(this.#edges[0] ?? [])))) this.#differs(this.#directory);
    this.checkRoot(tree, this.#directory);
  }

  /** The entries of a tile. Throws LogServiceError "log-service/damaged". */
  entries(tile: number, width: number): Uint8Array[] {
    const path = join(this.#directory, tilePath("entries", tile, width));
    const content = readIfThere(path);
    if (content === undefined) throw new LogServiceError("log-service/damaged", `${path} is not there`);
    return readEntries(content, width);
  }
}
