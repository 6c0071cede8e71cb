// SPDX-License-Identifier: Apache-2.0
/** ELF files as small as can be, for tests. */

/** What the file should say; left out means: a hardened, position-independent program without libraries. */
export interface WantedElf {
  type?: 2 | 3;
  interpreter?: string;
  needed?: string[];
  soname?: string;
  runPath?: string;
  relro?: boolean;
  now?: boolean;
  stackFlags?: number;
}

/** A small ELF file for tests: header, program headers, then one loaded segment with interpreter, strings and dynamic table. */
export function elfFile({
  type = 3,
  relro = true,
  now = true,
  stackFlags = 6,
  ...wanted
}: WantedElf): Buffer {
  const base = 0x1000;
  const texts = [wanted.interpreter, ...(wanted.needed ?? []), wanted.soname, wanted.runPath];
  const strings = Buffer.from(`\0${texts.filter((text) => text !== undefined).join("\0")}\0`);
  const offset = (text: string) => strings.indexOf(`\0${text}\0`) + 1;
  const dynamic: [tag: number, value: number][] = [
    ...(wanted.needed ?? []).map((name): [number, number] => [1, offset(name)]),
    ...(wanted.soname === undefined ? [] : [[14, offset(wanted.soname)] as [number, number]]),
    ...(wanted.runPath === undefined ? [] : [[29, offset(wanted.runPath)] as [number, number]]),
    ...(now ? [[0x6ffffffb, 1] as [number, number]] : []),
    [5, base],
    [10, strings.length],
    [0, 0],
  ];
  const table = Buffer.alloc(dynamic.length * 16);
  dynamic.forEach(([tag, value], i) => {
    table.writeBigUInt64LE(BigInt(tag), i * 16);
    table.writeBigUInt64LE(BigInt(value), i * 16 + 8);
  });
  const interp = wanted.interpreter;
  const count = 3 + (relro ? 1 : 0) + (interp === undefined ? 0 : 1);
  const data = 64 + count * 56;
  const segments: [type: number, flags: number, offset: number, address: number, size: number][] = [
    [1, 4, data, base, strings.length],
    [2, 4, data + strings.length, 0, table.length],
    [0x6474e551, stackFlags, 0, 0, 0],
    ...(relro ? [[0x6474e552, 4, 0, 0, 0] as [number, number, number, number, number]] : []),
    ...(interp === undefined
      ? []
      : [[3, 4, data + offset(interp), 0, interp.length + 1] as [number, number, number, number, number]]),
  ];
  const head = Buffer.alloc(data);
  head.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  head.writeUInt16LE(type, 16);
  head.writeUInt16LE(62, 18);
  head.writeBigUInt64LE(64n, 32);
  head.writeUInt16LE(56, 54);
  head.writeUInt16LE(count, 56);
  segments.forEach(([kind, flags, at, address, size], i) => {
    head.writeUInt32LE(kind, 64 + i * 56);
    head.writeUInt32LE(flags, 64 + i * 56 + 4);
    head.writeBigUInt64LE(BigInt(at), 64 + i * 56 + 8);
    head.writeBigUInt64LE(BigInt(address), 64 + i * 56 + 16);
    head.writeBigUInt64LE(BigInt(size), 64 + i * 56 + 32);
  });
  return Buffer.concat([head, strings, table]);
}
