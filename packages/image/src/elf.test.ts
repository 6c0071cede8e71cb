import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { isElf, parseElf } from "./elf.ts";
import { ImageError } from "./errors.ts";

interface Wanted {
  type?: 2 | 3;
  interpreter?: string;
  needed?: string[];
  soname?: string;
  runPath?: string;
  relro?: boolean;
  now?: boolean;
  stackFlags?: number;
}

/** A small ELF file: header, program headers, then one loaded segment with interpreter, strings and dynamic table. */
function elf({ type = 3, relro = true, now = true, stackFlags = 6, ...wanted }: Wanted): Buffer {
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

const loader = "/lib64/ld-linux-x86-64.so.2";
const program: Wanted = { interpreter: loader, needed: ["libm.so.6", "libc.so.6"] };

test("a program: its loader, what it needs, how it is hardened", () => {
  deepEqual(parseElf(elf(program), "p"), {
    kind: "executable",
    interpreter: loader,
    needed: ["libm.so.6", "libc.so.6"],
    pie: true,
    relro: "full",
    stackProtected: true,
  });
});

test("a library is known by its name, even when it has a loader", () => {
  equal(parseElf(elf({ ...program, soname: "libx.so.1" }), "l").kind, "library");
});

const weak: [what: string, wanted: Wanted, field: string, value: unknown][] = [
  ["a fixed address", { type: 2 }, "pie", false],
  ["lazy binding", { now: false }, "relro", "partial"],
  ["no RELRO", { relro: false }, "relro", "none"],
  ["an executable stack", { stackFlags: 7 }, "stackProtected", false],
  ["a library path", { runPath: "/tmp" }, "runPath", "/tmp"],
];
for (const [what, wanted, field, value] of weak) {
  test(`seen: ${what}`, () => {
    equal(
      (parseElf(elf({ ...program, ...wanted }), "p") as unknown as Record<string, unknown>)[field],
      value,
    );
  });
}

test("the Node that runs this", () => {
  const bytes = readFileSync(process.execPath);
  ok(isElf(bytes));
  const node = parseElf(bytes, "node");
  ok(node.needed.includes("libc.so.6"));
  equal(node.kind, "executable");
});

const change: [what: string, at: number, value: number][] = [
  ["another magic", 0, 0],
  ["32 bits", 4, 1],
  ["big-endian", 5, 2],
  ["another machine", 18, 3],
  ["a relocatable file", 16, 1],
  ["program headers outside", 57, 0xff],
];
for (const [what, at, value] of change) {
  test(`refused: ${what}`, () => {
    const bytes = elf(program);
    bytes[at] = value;
    throws(() => parseElf(bytes, "p"), { code: "elf/format" });
  });
}

test("any truncation or change is read or refused, never worse", () => {
  const good = elf({ ...program, soname: "a", runPath: "b" });
  const damaged = fc
    .tuple(
      fc.integer({ min: 0, max: good.length }),
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 6 }),
    )
    .map(([length, changes]) => {
      const bytes = Buffer.from(good);
      for (const [at, value] of changes) bytes[at] = value;
      return bytes.subarray(0, length);
    });
  fc.assert(
    fc.property(damaged, (bytes) => {
      try {
        parseElf(bytes, "p");
      } catch (error) {
        ok(error instanceof ImageError && error.code === "elf/format", String(error));
      }
    }),
    { numRuns: 3000 },
  );
});
