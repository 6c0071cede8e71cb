// SPDX-License-Identifier: Apache-2.0
/** Writes tar archives deterministically: ustar, with a pax record where a path is too long for it (POSIX.1-2024). */

export interface TarFile {
  /** Relative to the root; a directory's without a trailing slash. */
  path: string;
  mode: number;
  /** What it is: a file's bytes, a symlink's target, or a directory. */
  content: Uint8Array | { symlink: string } | "directory";
}

const block = 512;

const padding = (size: number) => new Uint8Array((block - (size % block)) % block);

/** One 512-byte header; every number is checked to fit by who calls. Owner root, time zero. */
export function tarHeader(fields: {
  path: string;
  type: string;
  mode?: number;
  size?: number;
  link?: string;
}): Uint8Array {
  const header = Buffer.alloc(block);
  const octal = (value: number, at: number, width: number) =>
    header.write(`${value.toString(8).padStart(width - 1, "0")}\0`, at, "latin1");
  header.write(fields.path, 0, 100, "utf8");
  octal(fields.mode ?? 0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(fields.size ?? 0, 124, 12);
  octal(0, 136, 12);
  header.write("        ", 148, "latin1");
  header.write(fields.type, 156, "latin1");
  header.write(fields.link ?? "", 157, 100, "utf8");
  header.write("ustar\x0000", 257, "latin1");
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
}

/** A pax record counts its own length, digits included. */
function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  const bytes = Buffer.byteLength(rest);
  let length = bytes + String(bytes).length;
  length = bytes + String(length).length;
  return `${length}${rest}`;
}

/** The archive's parts, in the given order, with its end. */
export function* writeTar(files: Iterable<TarFile>): Generator<Uint8Array> {
  for (const { path, mode, content } of files) {
    const isFile = content instanceof Uint8Array;
    const link = isFile || content === "directory" ? "" : content.symlink;
    const name = content === "directory" ? `${path}/` : path;
    const records = [
      ...(Buffer.byteLength(name) > 100 ? [paxRecord("path", name)] : []),
      ...(Buffer.byteLength(link) > 100 ? [paxRecord("linkpath", link)] : []),
    ];
    if (records.length > 0) {
      const extension = Buffer.from(records.join(""));
      yield tarHeader({ path: "pax", type: "x", size: extension.length });
      yield extension;
      yield padding(extension.length);
    }
    const size = isFile ? content.length : 0;
    yield tarHeader({ path: name, type: isFile ? "0" : link === "" ? "5" : "2", mode, size, link });
    if (isFile) {
      yield content;
      yield padding(size);
    }
  }
  yield new Uint8Array(2 * block);
}
