// SPDX-License-Identifier: Apache-2.0
/**
 * Reads the tar archives of Debian packages, which may be hostile: the strict dialect of `tar-format.ts`.
 *
 * Invariants: an entry's path is clean, stands once in the archive, and has only directories above it; a hard link
 * names an earlier regular file; a relative symlink stays within the root. Everything else (devices, FIFOs, sparse
 * files, bad checksums, odd sizes, data after the end) is refused. Memory is bounded by the largest file.
 */
import { ImageError } from "../errors.ts";
import { type TarItem, tarItems } from "./tar-format.ts";
import { decodePath, pathParts, symlinkTarget } from "./tar-path.ts";

interface EntryBase {
  /** Relative: no leading `/` or `./`, no `.` or `..` component, no trailing `/`. The root itself is not given. */
  path: string;
  /** Permission bits with setuid, setgid and sticky (0o7777); who unpacks decides what to keep. */
  mode: number;
  uid: number;
  gid: number;
  /** Extended attributes of pax records, by name ("security.capability"). */
  xattrs: ReadonlyMap<string, string>;
}

export type TarEntry = EntryBase &
  (
    | { kind: "file"; content: Uint8Array }
    | { kind: "directory" }
    | { kind: "symlink"; target: string }
    /** `target` is the path of an earlier file of the same archive. */
    | { kind: "hardlink"; target: string }
  );

const maximumEntries = 250_000;
const maximumFile = 2 ** 30;

/** The clean form of a path within the archive; "" is the root. Throws ImageError `archive/path`. */
function cleanPath(bytes: Uint8Array, name: string): string {
  const path = decodePath(bytes, name);
  if (path.startsWith("/")) {
    throw new ImageError("archive/path", `${name}: '${path}' is not a path below its root`);
  }
  return pathParts(path, name).join("/");
}

/** What has been seen of an archive: each path once, below directories only. */
class Seen {
  private readonly kinds = new Map<string, TarEntry["kind"] | "implied">();
  private readonly name: string;
  constructor(name: string) {
    this.name = name;
  }

  add(path: string, kind: TarEntry["kind"]): void {
    for (let slash = path.indexOf("/"); slash !== -1; slash = path.indexOf("/", slash + 1)) {
      const parent = path.slice(0, slash);
      const known = this.kinds.get(parent);
      if (known === undefined) this.kinds.set(parent, "implied");
      else if (known !== "directory" && known !== "implied") {
        throw new ImageError(
          "archive/link",
          `${this.name}: '${path}' lies below '${parent}', which is a ${known}`,
        );
      }
    }
    const known = this.kinds.get(path);
    if (known !== undefined && !(known === "implied" && kind === "directory")) {
      throw new ImageError("archive/duplicate", `${this.name}: '${path}' stands there twice`);
    }
    if (this.kinds.size >= maximumEntries) {
      throw new ImageError("archive/limit", `${this.name} has more than ${maximumEntries} entries`);
    }
    this.kinds.set(path, kind);
  }

  isFile(path: string): boolean {
    const kind = this.kinds.get(path);
    return kind === "file" || kind === "hardlink";
  }
}

const kinds: Record<string, TarEntry["kind"]> = {
  "0": "file",
  "\0": "file",
  "1": "hardlink",
  "2": "symlink",
  "5": "directory",
};

/** What an entry is that none here may be. */
export function refusedType(type: string, path: string, name: string): ImageError {
  const what = { "3": "a character device", "4": "a block device", "6": "a FIFO" }[type];
  return new ImageError("archive/type", `${name}: '${path}' is ${what ?? `an entry of type '${type}'`}`);
}

/** The entry that an item describes; undefined for the root itself. */
async function readEntry(item: TarItem, seen: Seen, name: string): Promise<TarEntry | undefined> {
  const kind = kinds[item.type];
  const path = cleanPath(item.path, name);
  if (kind === undefined) throw refusedType(item.type, path, name);
  const { size } = item;
  if (kind !== "file" && size !== 0) {
    throw new ImageError("archive/format", `${name}: '${path}' is a ${kind}, but has ${size} bytes of data`);
  }
  if (size > maximumFile) {
    throw new ImageError("archive/limit", `${name}: an entry has ${size} bytes, more than ${maximumFile}`);
  }
  if (path === "") {
    if (kind === "directory") return undefined;
    throw new ImageError("archive/path", `${name}: a ${kind} has no path`);
  }
  seen.add(path, kind);
  const { mode, uid, gid, xattrs } = item;
  const base = { path, mode, uid, gid, xattrs };
  switch (kind) {
    case "file":
      return { ...base, kind, content: Buffer.concat(await Array.fromAsync(item.data())) };
    case "directory":
      return { ...base, kind };
    case "symlink":
      return { ...base, kind, target: symlinkTarget(item.link, path.split("/").length - 1, path, name) };
    case "hardlink": {
      const target = cleanPath(item.link, name);
      if (target === path || !seen.isFile(target)) {
        throw new ImageError(
          "archive/link",
          `${name}: '${path}' is a hard link to '${target}', which is not an earlier file`,
        );
      }
      return { ...base, kind, target };
    }
  }
}

/**
 * The entries of an uncompressed tar archive, in order. `name` is what messages call it.
 * Errors: ImageError `archive/…`.
 */
export async function* readTar(source: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<TarEntry> {
  const seen = new Seen(name);
  for await (const item of tarItems(source, "strict", name)) {
    const entry = await readEntry(item, seen, name);
    if (entry !== undefined) yield entry;
  }
}
