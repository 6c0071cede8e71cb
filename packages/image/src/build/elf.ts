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

interface Segment {
  type: number;
  flags: number;
  offset: number;
  address: number;
  size: number;
}

/** Throws ImageError `elf/format` when `bytes` is not an x86-64 ELF executable or shared library; `name` says whose. */
export function parseElf(bytes: Uint8Array, name: string): Elf {
  const bad = (why: string) =>
    new ImageError("elf/format", `${name} is not an ELF file that fits here: ${why}`);
  if (!isElf(bytes) || bytes.length < 64) throw bad("no ELF header");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u16 = (at: number) => view.getUint16(at, true);
  const u32 = (at: number) => view.getUint32(at, true);
  const u64 = (at: number) => Number(view.getBigUint64(at, true));
  const inside = (offset: number, size: number) => offset + size <= bytes.length;

  if (bytes[4] !== 2 || bytes[5] !== 1 || u16(18) !== 62) throw bad("not 64-bit little-endian x86-64");
  const type = u16(16);
  if (type !== 2 && type !== 3) throw bad(`type ${type}, not an executable or shared library`);
  const table = u64(32);
  const count = u16(56);
  if (u16(54) !== 56 || !inside(table, count * 56)) throw bad("program headers outside the file");

  const segments: Segment[] = Array.from({ length: count }, (_, i) => {
    const at = table + i * 56;
    return {
      type: u32(at),
      flags: u32(at + 4),
      offset: u64(at + 8),
      address: u64(at + 16),
      size: u64(at + 32),
    };
  });
  if (!segments.every(({ offset, size }) => inside(offset, size))) throw bad("a segment outside the file");
  const segment = (wanted: number) => segments.find(({ type }) => type === wanted);
  const text = (from: number, end: number): string => {
    const stop = bytes.indexOf(0, from);
    if (from >= end || stop < 0 || stop >= end) throw bad("a string without an end");
    return Buffer.from(bytes.subarray(from, stop)).toString();
  };

  const dynamic = segment(PT.dynamic);
  const entries: [tag: number, value: number][] = [];
  for (
    let at = dynamic?.offset ?? 0, end = at + (dynamic?.size ?? 0);
    at + 16 <= end && u64(at) !== 0;
    at += 16
  ) {
    entries.push([u64(at), u64(at + 8)]);
  }
  const values = (tag: number) => entries.filter(([t]) => t === tag).map(([, value]) => value);
  const value = (tag: number): number | undefined => values(tag)[0];

  /** The string table is given by address: find the segment that loads it. */
  const strings = ((): { start: number; end: number } => {
    const address = value(DT.strtab) ?? 0;
    const home = segments.find(
      (s) => s.type === PT.load && address >= s.address && address < s.address + s.size,
    );
    if (home === undefined) return { start: 0, end: 0 };
    const start = home.offset + address - home.address;
    return { start, end: Math.min(start + (value(DT.strsz) ?? 0), home.offset + home.size) };
  })();
  const string = (offset: number | undefined) =>
    offset === undefined ? undefined : text(strings.start + offset, strings.end);

  const interp = segment(PT.interp);
  const interpreter = interp === undefined ? undefined : text(interp.offset, interp.offset + interp.size);
  const now =
    values(DT.bindNow).length > 0 ||
    ((value(DT.flags) ?? 0) & DF_BIND_NOW) !== 0 ||
    ((value(DT.flags1) ?? 0) & DF_1_NOW) !== 0;
  const stack = segment(PT.gnuStack);
  const soname = string(value(DT.soname));
  const runPath = string(value(DT.runpath) ?? value(DT.rpath));
  return {
    kind: soname === undefined && interpreter !== undefined ? "executable" : "library",
    ...(interpreter !== undefined && { interpreter }),
    needed: values(DT.needed).map((offset) => string(offset)!),
    ...(soname !== undefined && { soname }),
    ...(runPath !== undefined && { runPath }),
    pie: type === 3,
    relro: segment(PT.gnuRelro) === undefined ? "none" : now ? "full" : "partial",
    stackProtected: stack !== undefined && (stack.flags & 1) === 0,
  };
}
