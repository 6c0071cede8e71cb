// SPDX-License-Identifier: Apache-2.0
/**
 * The tar format as a stream of headers with their data: ustar, pax and GNU long names (POSIX.1-2024 pax, tar(5)).
 *
 * Two dialects. `strict` is for archives that one known tool writes (Debian packages): whatever that tool does not
 * write is refused. `tolerant` is for layers of images, which many tools write: it reads what they read of each other
 * (headers of Version 7, fields padded with NULs on either side, sums of signed bytes, one block of zeros at the end
 * or none, links with a size). Paths are bytes here; what they may be is for their reader to say. Memory is bounded by one
 * chunk of the source and one extended header.
 */
import { ImageError } from "../errors.ts";

export type TarDialect = "strict" | "tolerant";

/** An entry; its data is skipped where nobody asks for it. */
export interface TarItem {
  path: Uint8Array;
  /** The target of a link. */
  link: Uint8Array;
  /** The type's character, as POSIX has it: "0" a file, "5" a directory, … */
  type: string;
  /** Permission bits with setuid, setgid and sticky (0o7777). */
  mode: number;
  uid: number;
  gid: number;
  /** Bytes of data. */
  size: number;
  /** When it was last changed, in seconds since 1970; missing where that is not said, or before then. */
  time?: number;
  /** Extended attributes of pax records, by name ("security.capability"). */
  xattrs: ReadonlyMap<string, string>;
  /** Where the data starts in the archive. */
  offset: number;
  /** The data, once. */
  data(): AsyncGenerator<Uint8Array>;
}

const block = 512;
const maximumHeader = 1 << 20;

/** Reads from a stream of chunks. */
class Reader {
  private readonly chunks: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  private buffer: Uint8Array = new Uint8Array(0);
  private readonly name: string;
  /** Bytes that were read. */
  position = 0;

  constructor(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, name: string) {
    this.chunks = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
    this.name = name;
  }

  truncated(): ImageError {
    return new ImageError("archive/truncated", `${this.name} ends in the middle of an entry`);
  }

  /** At most `size` bytes, at least one; undefined at the end of the stream. */
  async some(size: number): Promise<Uint8Array | undefined> {
    while (this.buffer.length === 0) {
      const next = await this.chunks.next();
      if (next.done === true) return undefined;
      this.buffer = next.value;
    }
    const part = this.buffer.subarray(0, size);
    this.buffer = this.buffer.subarray(part.length);
    this.position += part.length;
    return part;
  }

  /** Exactly `size` bytes; undefined when the stream has ended before the first. */
  async read(size: number): Promise<Uint8Array | undefined> {
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size; ) {
      const part = await this.some(size - at);
      if (part === undefined) {
        if (at === 0) return undefined;
        throw this.truncated();
      }
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }

  /** Passes `size` bytes on, a chunk at a time. */
  async *pass(size: number): AsyncGenerator<Uint8Array> {
    for (let left = size; left > 0; ) {
      const part = await this.some(left);
      if (part === undefined) throw this.truncated();
      left -= part.length;
      yield part;
    }
  }

  /** Reads to the end of the stream, so that what checks it sees all of it. */
  async drain(): Promise<void> {
    while ((await this.some(Number.MAX_SAFE_INTEGER)) !== undefined);
  }

  async close(): Promise<void> {
    await this.chunks.return?.();
  }
}

interface Header extends Omit<TarItem, "xattrs" | "offset" | "data"> {}

/** Octal digits ended by space or NUL, or (GNU) a big-endian number marked by the first bit. */
function parseNumber(field: Uint8Array, what: string, dialect: TarDialect, name: string): number {
  let value = 0;
  if (field[0] === 0x80) {
    for (const byte of field.subarray(1)) value = value * 256 + byte;
  } else {
    const form = dialect === "strict" ? /^ *([0-7]*)[ \0]*$/ : /^[ \0]*([0-7]*)(?:[ \0]*|\0.*)$/s;
    const match = form.exec(String.fromCharCode(...field));
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

/** The sum of a header's bytes, its own field counted as spaces; some old tools took bytes as signed. */
function isSum(header: Uint8Array, stated: number, dialect: TarDialect): boolean {
  let sum = 8 * 0x20;
  let high = 0;
  for (let i = 0; i < block; i++) {
    if (i >= 148 && i < 156) continue;
    sum += header[i]!;
    if (header[i]! >= 0x80) high++;
  }
  return stated === sum || (dialect === "tolerant" && stated === sum - 256 * high);
}

/** A header block; undefined for a block of zeros. */
function parseHeader(header: Uint8Array, dialect: TarDialect, name: string): Header | undefined {
  if (header.every((byte) => byte === 0)) return undefined;
  const number = (from: number, to: number, what: string) =>
    parseNumber(header.subarray(from, to), what, dialect, name);
  if (!isSum(header, number(148, 156, "checksum"), dialect)) {
    throw new ImageError("archive/format", `${name}: a header's checksum is wrong`);
  }
  const magic = String.fromCharCode(...header.subarray(257, 265));
  const isPosix = dialect === "strict" ? magic === "ustar\x0000" : magic.startsWith("ustar\0");
  if (!isPosix && magic !== "ustar  \0" && dialect === "strict") {
    throw new ImageError("archive/format", `${name} is neither a ustar nor a GNU tar archive`);
  }
  const prefix = isPosix ? untilNul(header.subarray(345, 500)) : new Uint8Array(0);
  const path = untilNul(header.subarray(0, 100));
  const time = timeOf(Buffer.from(header.subarray(136, 148)).toString("latin1"), 8);
  return {
    path: prefix.length === 0 ? path : Buffer.concat([prefix, Buffer.from("/"), path]),
    link: untilNul(header.subarray(157, 257)),
    mode: number(100, 108, "mode") & 0o7777,
    uid: number(108, 116, "user"),
    gid: number(116, 124, "group"),
    size: number(124, 136, "size"),
    ...(time !== undefined && { time }),
    type: String.fromCharCode(header[156]!),
  };
}

/** Seconds of a time in a header (octal) or a record (decimal, with a fraction); a time that is none counts as not said. */
function timeOf(text: string, base: 8 | 10): number | undefined {
  const digits = (base === 8 ? /^ *([0-7]{1,11})[ \0]*$/ : /^(\d{1,11})(?:\.\d*)?$/).exec(text)?.[1];
  const seconds = digits === undefined ? 0 : Number.parseInt(digits, base);
  return seconds > 0 ? seconds : undefined;
}

/** What pax records and GNU long names say about the next entry. */
interface Extension {
  path?: Uint8Array;
  link?: Uint8Array;
  size?: number;
  uid?: number;
  gid?: number;
  time?: number;
  xattrs: Map<string, string>;
}

const paxIgnored = /^(?:[amc]time|uname|gname|comment|charset|hdrcharset|[A-Z]+\..*)$/;

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

/** Whether a record may be passed over: what it says has no place in the entry. */
const isIgnored = (key: string, dialect: TarDialect): boolean =>
  !key.startsWith("GNU.sparse.") && (dialect === "tolerant" || paxIgnored.test(key));

function addPaxRecords(extension: Extension, bytes: Uint8Array, dialect: TarDialect, name: string): void {
  for (const [key, value] of paxRecords(bytes, name)) {
    // An empty value takes back what an earlier record said; the header's own field holds.
    if (value.length === 0 && dialect === "tolerant") continue;
    const decimal = () => {
      const text = Buffer.from(value).toString("latin1");
      if (!/^\d{1,15}$/.test(text))
        throw new ImageError("archive/format", `${name}: pax ${key} is '${text.slice(0, 40)}'`);
      return Number(text);
    };
    if (key === "path") extension.path = value;
    else if (key === "linkpath") extension.link = value;
    else if (key === "size" || key === "uid" || key === "gid") extension[key] = decimal();
    else if (key === "mtime") {
      const time = timeOf(Buffer.from(value).toString("latin1"), 10);
      if (time !== undefined) extension.time = time;
    } else if (key.startsWith("SCHILY.xattr."))
      extension.xattrs.set(key.slice(13), Buffer.from(value).toString("latin1"));
    else if (key.startsWith("LIBARCHIVE.xattr."))
      extension.xattrs.set(
        key.slice(17),
        Buffer.from(Buffer.from(value).toString("latin1"), "base64").toString("latin1"),
      );
    else if (!isIgnored(key, dialect)) {
      throw new ImageError("archive/format", `${name}: pax record '${key.slice(0, 40)}' is not understood`);
    }
  }
}

/** Records for all entries: only what has no meaning here may stand there. */
function checkGlobalRecords(bytes: Uint8Array, dialect: TarDialect, name: string): void {
  for (const [key] of paxRecords(bytes, name)) {
    if (key !== "comment" && !(dialect === "tolerant" && paxIgnored.test(key)))
      throw new ImageError("archive/format", `${name}: global pax record '${key.slice(0, 40)}'`);
  }
}

/** The data of an extended header, and the end of its last block. */
async function readExtension(reader: Reader, size: number, name: string): Promise<Uint8Array> {
  if (size > maximumHeader) {
    throw new ImageError(
      "archive/limit",
      `${name}: an extended header has ${size} bytes, more than ${maximumHeader}`,
    );
  }
  const data = await reader.read(size);
  await skip(reader, (block - (size % block)) % block);
  if (data === undefined) throw reader.truncated();
  return data;
}

async function skip(reader: Reader, size: number): Promise<void> {
  for await (const _ of reader.pass(size)) continue;
}

/**
 * Nothing but zeros may follow the end, of which one block is read already. In layers, what stands behind two of them is
 * passed over, as every reader of images does: BuildKit puts eStargz's table of contents there.
 */
async function checkEnd(reader: Reader, dialect: TarDialect, name: string): Promise<void> {
  for (let blocks = 1; ; blocks++) {
    if (blocks === 2 && dialect === "tolerant") return reader.drain();
    const bytes = await reader.read(block);
    if (bytes === undefined && (blocks >= 2 || dialect === "tolerant")) return;
    if (bytes === undefined) throw new ImageError("archive/truncated", `${name} has half an end`);
    if (bytes.some((byte) => byte !== 0))
      throw new ImageError("archive/format", `${name} goes on after its end`);
  }
}

/** Types without data, whatever their size says: links, devices, directories, FIFOs. */
const withoutData = /^[1-6]$/;

/**
 * The entries of an uncompressed archive, in order. `name` is what messages call it. An entry's `data` has to be read
 * before the next entry is asked for, or not at all. Errors: ImageError `archive/format`, `archive/truncated`,
 * `archive/limit`.
 */
export async function* tarItems(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  dialect: TarDialect,
  name: string,
): AsyncGenerator<TarItem> {
  const reader = new Reader(source, name);
  let extension: Extension = { xattrs: new Map() };
  try {
    for (;;) {
      const bytes = await reader.read(block);
      const header = bytes && parseHeader(bytes, dialect, name);
      if (bytes === undefined && dialect === "strict") {
        throw new ImageError("archive/truncated", `${name} has no end`);
      }
      if (bytes === undefined) return;
      if (header === undefined) break;
      const extended = () => readExtension(reader, header.size, name);
      switch (header.type) {
        case "x":
          addPaxRecords(extension, await extended(), dialect, name);
          continue;
        case "g":
          checkGlobalRecords(await extended(), dialect, name);
          continue;
        case "L":
          extension.path = untilNul(await extended());
          continue;
        case "K":
          extension.link = untilNul(await extended());
          continue;
      }
      const { xattrs, ...rest } = extension;
      const stated = rest.size ?? header.size;
      const size = dialect === "tolerant" && withoutData.test(header.type) ? 0 : stated;
      const offset = reader.position;
      yield { ...header, ...rest, size, xattrs, offset, data: () => reader.pass(size) };
      extension = { xattrs: new Map() };
      const end = offset + Math.ceil(size / block) * block;
      await skip(reader, end - reader.position);
    }
    await checkEnd(reader, dialect, name);
  } finally {
    await reader.close();
  }
}
