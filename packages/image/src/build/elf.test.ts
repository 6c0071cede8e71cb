// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { ImageError } from "../errors.ts";
import { elfFile as elf, type WantedElf as Wanted } from "../testing/elf.ts";
import { isElf, parseElf } from "./elf.ts";

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
