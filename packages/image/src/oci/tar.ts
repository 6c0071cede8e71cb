/**
 * Reads tar archives that may be hostile, as a stream: ustar, pax and GNU long names (POSIX.1-2024 pax, tar(5)).
 *
 * Invariants: an entry's path is clean, stands once in the archive, and has only directories above it; a hard link
 * names an earlier regular file; a relative symlink stays within the root. Everything else (devices, FIFOs, sparse
 * files, bad checksums, odd sizes, data after the end) is refused. Memory is bounded by the largest file.
 */
import { ImageError } from "../errors.ts";

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

const block = 512;
const maximumEntries = 250_000;
const maximumFile = 2 ** 30;
const maximumHeader = 1 << 20;
const maximumPath = 4095;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Exact reads from a stream of chunks. */
class Reader {
  private readonly chunks: AsyncIterator<Uint8Array>;
  private buffer: Uint8Array = new Uint8Array(0);
  private readonly name: string;

  constructor(source: AsyncIterable<Uint8Array>, name: string) {
    this.chunks = source[Symbol.asyncIterator]();
    this.name = name;
  }

  /** Makes `buffer` hold something; false at the end of the stream. */
  private async fill(): Promise<boolean> {
    while (this.buffer.length === 0) {
      const next = await this.chunks.next();
      if (next.done === true) return false;
      this.buffer = next.value;
    }
    return true;
  }

  /** Exactly `size` bytes; undefined when the stream has ended before the first. */
  async read(size: number): Promise<Uint8Array | undefined> {
    if (this.buffer.length < size || size === 0) {
      if (size === 0) return new Uint8Array(0);
      const bytes = new Uint8Array(size);
      for (let at = 0; at < size; ) {
        if (!(await this.fill())) {
          if (at === 0) return undefined;
          throw new ImageError("archive/truncated", `${this.name} ends in the middle of an entry`);
        }
        const part = this.buffer.subarray(0, size - at);
        bytes.set(part, at);
        this.buffer = this.buffer.subarray(part.length);
        at += part.length;
      }
      return bytes;
    }
    const bytes = this.buffer.slice(0, size);
    this.buffer = this.buffer.subarray(size);
    return bytes;
  }

  async close(): Promise<void> {
    await this.chunks.return?.();
  }
}

interface Header {
  path: Uint8Array;
  link: Uint8Array;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  type: string;
}

/** Octal digits ended by space or NUL, or (GNU) a big-endian number marked by the first bit. */
function parseNumber(field: Uint8Array, what: string, name: string): number {
  let value = 0;
  if (field[0] === 0x80) {
    for (const byte of field.subarray(1)) value = value * 256 + byte;
  } else {
    const match = /^ *([0-7]*)[ \0]*$/.exec(String.fromCharCode(...field));
    if (match === null) throw new ImageError("archive/format", `${name}: a header has a malformed ${what}`);
    value = match[1] === "" ? 0 : Number.parseInt(match[1]!, 8);
  }
  if (!Number.isSafeInteger(value)) throw new ImageError("archive/format", `${name}: a ${what} is too large`);
  return value;
}

const untilNul = (field: Uint8Array): Uint8Array => {
  const end = field.indexOf(0);
  return end === -1 ? field : field.subarray(0, end);
};

/** A header block; undefined for a block of zeros. */
function parseHeader(header: Uint8Array, name: string): Header | undefined {
  if (header.every((byte) => byte === 0)) return undefined;
  let sum = 8 * 0x20;
  for (let i = 0; i < block; i++) if (i < 148 || i >= 156) sum += header[i]!;
  if (parseNumber(header.subarray(148, 156), "checksum", name) !== sum) {
    throw new ImageError("archive/format", `${name}: a header's checksum is wrong`);
  }
  const magic = String.fromCharCode(...header.subarray(257, 265));
  if (magic !== "ustar\x0000" && magic !== "ustar  \0") {
    throw new ImageError("archive/format", `${name} is neither a ustar nor a GNU tar archive`);
  }
  const prefix = magic === "ustar\x0000" ? untilNul(header.subarray(345, 500)) : new Uint8Array(0);
  const path = untilNul(header.subarray(0, 100));
  return {
    path: prefix.length === 0 ? path : Buffer.concat([prefix, Buffer.from("/"), path]),
    link: untilNul(header.subarray(157, 257)),
    mode: parseNumber(header.subarray(100, 108), "mode", name) & 0o7777,
    uid: parseNumber(header.subarray(108, 116), "user", name),
    gid: parseNumber(header.subarray(116, 124), "group", name),
    size: parseNumber(header.subarray(124, 136), "size", name),
    type: String.fromCharCode(header[156]!),
  };
}

/** What pax records and GNU long names say about the next entry. */
interface Extension {
  path?: Uint8Array;
  link?: Uint8Array;
  size?: number;
  uid?: number;
  gid?: number;
  xattrs: Map<string, string>;
}

const paxIgnored = /^(?:[amc]time|uname|gname|comment|charset|hdrcharset|(?!GNU\.sparse\.)[A-Z]+\..*)$/;

/** Records "LENGTH KEY=VALUE\n", LENGTH in decimal and counting the whole record. */
function* paxRecords(bytes: Uint8Array, name: string): Generator<[key: string, value: Uint8Array]> {
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const digits = space === -1 ? "" : String.fromCharCode(...bytes.subarray(at, Math.min(space, at + 10)));
    const end = at + Number(digits);
    const equals = bytes.indexOf(0x3d, at);
    if (
      !/^[1-9]\d*$/.test(digits) ||
      end > bytes.length ||
      bytes[end - 1] !== 0x0a ||
      equals < space ||
      equals >= end
    ) {
      throw new ImageError("archive/format", `${name}: a pax record is malformed`);
    }
    yield [
      Buffer.from(bytes.subarray(space + 1, equals)).toString("latin1"),
      bytes.subarray(equals + 1, end - 1),
    ];
    at = end;
  }
}

function addPaxRecords(extension: Extension, bytes: Uint8Array, name: string): void {
  for (const [key, value] of paxRecords(bytes, name)) {
    const decimal = () => {
      const text = Buffer.from(value).toString("latin1");
      if (!/^\d{1,15}$/.test(text))
        throw new ImageError("archive/format", `${name}: pax ${key} is '${text.slice(0, 40)}'`);
      return Number(text);
    };
    if (key === "path") extension.path = value;
    else if (key === "linkpath") extension.link = value;
    else if (key === "size" || key === "uid" || key === "gid") extension[key] = decimal();
    else if (key.startsWith("SCHILY.xattr."))
      extension.xattrs.set(key.slice(13), Buffer.from(value).toString("latin1"));
    else if (key.startsWith("LIBARCHIVE.xattr."))
      extension.xattrs.set(key.slice(17), Buffer.from(value).toString("latin1"));
    else if (!paxIgnored.test(key)) {
      throw new ImageError("archive/format", `${name}: pax record '${key.slice(0, 40)}' is not understood`);
    }
  }
}

function decode(bytes: Uint8Array, name: string): string {
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

/** The clean form of a path within the archive; "" is the root. Throws ImageError `archive/path`. */
function cleanPath(bytes: Uint8Array, name: string): string {
  const path = decode(bytes, name);
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (path.startsWith("/") || parts.some((part) => part === ".." || Buffer.byteLength(part) > 255)) {
    throw new ImageError("archive/path", `${name}: '${path}' is not a path below its root`);
  }
  return parts.join("/");
}

/** An absolute target counts from the image's own root; a relative one must not climb above it. */
function symlinkTarget(bytes: Uint8Array, path: string, name: string): string {
  const target = decode(bytes, name);
  let depth = target.startsWith("/") ? 0 : path.split("/").length - 1;
  for (const part of target.split("/")) {
    if (part === "..") depth--;
    else if (part !== "" && part !== ".") depth++;
    if (depth < 0)
      throw new ImageError("archive/link", `${name}: '${path}' links out of its root: '${target}'`);
  }
  if (target === "") throw new ImageError("archive/link", `${name}: '${path}' links to nothing`);
  return target;
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

async function readData(reader: Reader, size: number, limit: number, name: string): Promise<Uint8Array> {
  if (size > limit)
    throw new ImageError("archive/limit", `${name}: an entry has ${size} bytes, more than ${limit}`);
  const data = await reader.read(size);
  const padding = await reader.read((block - (size % block)) % block);
  if (data === undefined || padding === undefined) {
    throw new ImageError("archive/truncated", `${name} ends in the middle of an entry`);
  }
  return data;
}

const kinds: Record<string, TarEntry["kind"]> = {
  "0": "file",
  "\0": "file",
  "1": "hardlink",
  "2": "symlink",
  "5": "directory",
};

/** The entry that a header and its extensions describe; undefined for the root itself. */
async function readEntry(
  reader: Reader,
  header: Header,
  extension: Extension,
  seen: Seen,
  name: string,
): Promise<TarEntry | undefined> {
  const kind = kinds[header.type];
  const path = cleanPath(extension.path ?? header.path, name);
  if (kind === undefined) {
    const what = { "3": "a character device", "4": "a block device", "6": "a FIFO" }[header.type];
    throw new ImageError(
      "archive/type",
      `${name}: '${path}' is ${what ?? `an entry of type '${header.type}'`}`,
    );
  }
  const size = extension.size ?? header.size;
  if (kind !== "file" && size !== 0) {
    throw new ImageError("archive/format", `${name}: '${path}' is a ${kind}, but has ${size} bytes of data`);
  }
  if (path === "") {
    if (kind === "directory") return undefined;
    throw new ImageError("archive/path", `${name}: a ${kind} has no path`);
  }
  seen.add(path, kind);
  const { mode } = header;
  const base = {
    path,
    mode,
    uid: extension.uid ?? header.uid,
    gid: extension.gid ?? header.gid,
    xattrs: extension.xattrs,
  };
  const link = extension.link ?? header.link;
  switch (kind) {
    case "file":
      return { ...base, kind, content: await readData(reader, size, maximumFile, name) };
    case "directory":
      return { ...base, kind };
    case "symlink":
      return { ...base, kind, target: symlinkTarget(link, path, name) };
    case "hardlink": {
      const target = cleanPath(link, name);
      if (target === path || !seen.isFile(target)) {
        throw new ImageError(
          "archive/link",
          `${name}: '${path}' is a hard link to '${target}', which is no earlier file`,
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
  const reader = new Reader(source, name);
  const seen = new Seen(name);
  let extension: Extension = { xattrs: new Map() };
  try {
    for (;;) {
      const bytes = await reader.read(block);
      const header = bytes && parseHeader(bytes, name);
      if (bytes === undefined) throw new ImageError("archive/truncated", `${name} has no end`);
      if (header === undefined) break;
      switch (header.type) {
        case "x":
          addPaxRecords(extension, await readData(reader, header.size, maximumHeader, name), name);
          continue;
        case "g": // of the whole archive; only comments make sense for all entries
          for (const [key] of paxRecords(await readData(reader, header.size, maximumHeader, name), name)) {
            if (key !== "comment")
              throw new ImageError("archive/format", `${name}: global pax record '${key.slice(0, 40)}'`);
          }
          continue;
        case "L":
          extension.path = untilNul(await readData(reader, header.size, maximumHeader, name));
          continue;
        case "K":
          extension.link = untilNul(await readData(reader, header.size, maximumHeader, name));
          continue;
      }
      const entry = await readEntry(reader, header, extension, seen, name);
      extension = { xattrs: new Map() };
      if (entry !== undefined) yield entry;
    }
    for (let blocks = 1; ; blocks++) {
      const bytes = await reader.read(block);
      if (bytes === undefined && blocks >= 2) return;
      if (bytes === undefined) throw new ImageError("archive/truncated", `${name} has half an end`);
      if (bytes.some((byte) => byte !== 0))
        throw new ImageError("archive/format", `${name} goes on after its end`);
    }
  } finally {
    await reader.close();
  }
}
