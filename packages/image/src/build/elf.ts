// SPDX-License-Identifier: Apache-2.0
/**
 * Reads what the image's checks need of an x86-64 ELF file: what it asks the loader for, and how it was hardened.
 * Format: System V gABI chapters 4 and 5; GNU extensions: elf.h of glibc.
 */
import { ImageError } from "../errors.ts";

export interface Elf {
  /** An executable names a loader and no soname (glibc's libraries may name both). */
  kind: "executable" | "library";
  /** PT_INTERP, the path of the loader. */
  interpreter?: string;
  /** DT_NEEDED, in order. */
  needed: string[];
  soname?: string;
  /** DT_RPATH or DT_RUNPATH: an image that is built from named files has no use for it. */
  runPath?: string;
  /** Position-independent: loads at a random address. */
  pie: boolean;
  /** "full": relocations are resolved at start and then read-only; "partial": only some are; "none". */
  relro: "full" | "partial" | "none";
  /** The stack is not executable. */
  stackProtected: boolean;
}

const magic = [0x7f, 0x45, 0x4c, 0x46];

/** Whether the bytes begin like an ELF file. */
export function isElf(bytes: Uint8Array): boolean {
  return magic.every((byte, i) => bytes[i] === byte);
}

const PT = { load: 1, dynamic: 2, interp: 3, gnuStack: 0x6474e551, gnuRelro: 0x6474e552 } as const;
const DT = {
  needed: 1,
  strtab: 5,
  strsz: 10,
  soname: 14,
  rpath: 15,
  bindNow: 24,
  runpath: 29,
  flags: 30,
  flags1: 0x6ffffffb,
} as const;
const DF_BIND_NOW = 0x8;
const DF_1_NOW = 0x1;

/** A file's bytes, by what every part of it needs: little-endian numbers, text with an end, a refusal that names it. */
class Reader {
  readonly bytes: Uint8Array;
  readonly #name: string;
  readonly #view: DataView;

  constructor(bytes: Uint8Array, name: string) {
    this.bytes = bytes;
    this.#name = name;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  bad(why: string): ImageError {
    return new ImageError("elf/format", `${this.#name} is not an ELF file that fits here: ${why}`);
  }

  u16 = (at: number): number => this.#view.getUint16(at, true);
  u32 = (at: number): number => this.#view.getUint32(at, true);
  u64 = (at: number): number => Number(this.#view.getBigUint64(at, true));

  inside(offset: number, size: number): boolean {
    return offset + size <= this.bytes.length;
  }

  /** The string at `from`, whose terminating zero stands before `end`. */
  text(from: number, end: number): string {
    const stop = this.bytes.indexOf(0, from);
    if (from >= end || stop < 0 || stop >= end) throw this.bad("a string without an end");
    return Buffer.from(this.bytes.subarray(from, stop)).toString();
  }
}

/** One program header. */
interface Segment {
  type: number;
  flags: number;
  offset: number;
  address: number;
  size: number;
}

/** The file's type (2 executable, 3 shared object) and its program headers, each of a part that is in the file. */
function readSegments(file: Reader): { type: number; segments: Segment[] } {
  if (!isElf(file.bytes) || file.bytes.length < 64) throw file.bad("no ELF header");
  if (file.bytes[4] !== 2 || file.bytes[5] !== 1 || file.u16(18) !== 62)
    throw file.bad("not 64-bit little-endian x86-64");
  const type = file.u16(16);
  if (type !== 2 && type !== 3) throw file.bad(`type ${type}, not an executable or shared library`);
  const table = file.u64(32);
  const count = file.u16(56);
  if (file.u16(54) !== 56 || !file.inside(table, count * 56))
    throw file.bad("program headers outside the file");
  const segments = Array.from({ length: count }, (_, i): Segment => {
    const at = table + i * 56;
    return {
      type: file.u32(at),
      flags: file.u32(at + 4),
      offset: file.u64(at + 8),
      address: file.u64(at + 16),
      size: file.u64(at + 32),
    };
  });
  if (!segments.every(({ offset, size }) => file.inside(offset, size)))
    throw file.bad("a segment outside the file");
  return { type, segments };
}

/** Values of the dynamic section's entries with a tag, in order. */
type Dynamic = (tag: number) => number[];

function readDynamic(file: Reader, segment: Segment | undefined): Dynamic {
  const entries: [tag: number, value: number][] = [];
  const start = segment?.offset ?? 0;
  const end = start + (segment?.size ?? 0);
  for (let at = start; at + 16 <= end && file.u64(at) !== 0; at += 16) {
    entries.push([file.u64(at), file.u64(at + 8)]);
  }
  return (tag) => entries.filter(([t]) => t === tag).map(([, value]) => value);
}

/** Where the string table is in the file: its address is given, so it is in the segment that loads that. */
function stringTable(segments: readonly Segment[], dynamic: Dynamic): { start: number; end: number } {
  const address = dynamic(DT.strtab)[0] ?? 0;
  const home = segments.find(
    (s) => s.type === PT.load && address >= s.address && address < s.address + s.size,
  );
  if (home === undefined) return { start: 0, end: 0 };
  const start = home.offset + address - home.address;
  return { start, end: Math.min(start + (dynamic(DT.strsz)[0] ?? 0), home.offset + home.size) };
}

/** Whether all relocations are resolved at start. */
function bindsNow(dynamic: Dynamic): boolean {
  const flag = (tag: number, bit: number) => ((dynamic(tag)[0] ?? 0) & bit) !== 0;
  return dynamic(DT.bindNow).length > 0 || flag(DT.flags, DF_BIND_NOW) || flag(DT.flags1, DF_1_NOW);
}

/** Throws ImageError `elf/format` when `bytes` is not an x86-64 ELF executable or shared library; `name` says whose. */
export function parseElf(bytes: Uint8Array, name: string): Elf {
  const file = new Reader(bytes, name);
  const { type, segments } = readSegments(file);
  const segment = (wanted: number) => segments.find((s) => s.type === wanted);
  const dynamic = readDynamic(file, segment(PT.dynamic));
  const strings = stringTable(segments, dynamic);
  const string = (offset: number) => file.text(strings.start + offset, strings.end);
  const first = (tag: number) => dynamic(tag).slice(0, 1).map(string)[0];

  const interp = segment(PT.interp);
  const interpreter = interp && file.text(interp.offset, interp.offset + interp.size);
  const soname = first(DT.soname);
  const runPath = first(DT.runpath) ?? first(DT.rpath);
  const stack = segment(PT.gnuStack);
  return {
    kind: soname === undefined && interpreter !== undefined ? "executable" : "library",
    ...(interpreter !== undefined && { interpreter }),
    needed: dynamic(DT.needed).map(string),
    ...(soname !== undefined && { soname }),
    ...(runPath !== undefined && { runPath }),
    pie: type === 3,
    relro: segment(PT.gnuRelro) === undefined ? "none" : bindsNow(dynamic) ? "full" : "partial",
    stackProtected: stack !== undefined && (stack.flags & 1) === 0,
  };
}
