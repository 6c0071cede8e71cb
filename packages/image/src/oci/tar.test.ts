// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ImageError, type ImageErrorCode } from "../errors.ts";
import { patched } from "../testing/archive.ts";
import { readTar, type TarEntry } from "./tar.ts";
import { type TarFile, tarHeader, writeTar } from "./tar-writer.ts";

const end = new Uint8Array(1024);

async function* chunks(bytes: Uint8Array, size = 700) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const read = (...parts: Uint8Array[]): Promise<TarEntry[]> =>
  Array.fromAsync(readTar(chunks(Buffer.concat(parts)), "the archive"));

/** Data with its padding. */
function data(text: string | Uint8Array): Uint8Array {
  const bytes = Buffer.from(text as string);
  return Buffer.concat([bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

const pax = (record: string) => [
  tarHeader({ path: "pax", type: "x", size: Buffer.byteLength(record) }),
  data(record),
];
const record = (key: string, value: string) => {
  let length = 0;
  for (let text = ""; text.length !== length || length === 0; ) {
    length = text.length;
    text = `${length} ${key}=${value}\n`;
    if (text.length === length) return text;
  }
  return "";
};
const file = (path: string, text = "") => [
  tarHeader({ path, type: "0", size: Buffer.byteLength(text) }),
  data(text),
];
const link = (type: "1" | "2", path: string, target: string) => tarHeader({ path, type, link: target });
const folder = (path: string) => tarHeader({ path, type: "5", mode: 0o755 });

test("files, directories, links, long and odd names", async () => {
  const long = `${"d".repeat(120)}/${"f".repeat(90)}`;
  const entries = await read(
    folder("./"),
    folder("./usr/"),
    ...file("./usr/a b", "content"),
    link("1", "usr/hard", "./usr/a b"),
    link("2", "usr/soft", "../etc/x"),
    ...pax(record("path", long)),
    ...file("short", "x"),
    tarHeader({ path: "././@LongLink", type: "L", size: 151 }),
    data(`${"g".repeat(150)}\0`),
    ...file("short"),
    end,
  );
  deepEqual(
    entries.map((entry) => [entry.kind, entry.path]),
    [
      ["directory", "usr"],
      ["file", "usr/a b"],
      ["hardlink", "usr/hard"],
      ["symlink", "usr/soft"],
      ["file", long],
      ["file", "g".repeat(150)],
    ],
  );
  const [, first, hard, soft] = entries;
  equal(first?.kind === "file" && Buffer.from(first.content).toString(), "content");
  equal(hard?.kind === "hardlink" && hard.target, "usr/a b");
  equal(soft?.kind === "symlink" && soft.target, "../etc/x");
});

test("an archive of nothing", async () => {
  deepEqual(await read(end), []);
});

const hostile: { name: string; archive: Uint8Array[]; code: ImageErrorCode }[] = [
  { name: "an absolute path", archive: [...file("/etc/passwd"), end], code: "archive/path" },
  { name: "a path that climbs out", archive: [...file("a/../../b"), end], code: "archive/path" },
  {
    name: "a pax path that climbs out",
    archive: [...pax(record("path", "../b")), ...file("a"), end],
    code: "archive/path",
  },
  {
    name: "a pax path with NUL",
    archive: [...pax(record("path", "a\0b")), ...file("a"), end],
    code: "archive/path",
  },
  {
    name: "a path that is not UTF-8",
    archive: [patched(tarHeader({ path: "a", type: "0" }), 0, "\xff"), end],
    code: "archive/path",
  },
  {
    name: "a name longer than 255 bytes",
    archive: [...pax(record("path", "n".repeat(256))), ...file("a"), end],
    code: "archive/path",
  },
  {
    name: "a path longer than 4095 bytes",
    archive: [...pax(record("path", "n/".repeat(2100))), ...file("a"), end],
    code: "archive/path",
  },
  { name: "a file without a path", archive: [...file("./"), end], code: "archive/path" },
  {
    name: "a symlink that climbs out",
    archive: [link("2", "a/b", "../../etc/passwd"), end],
    code: "archive/link",
  },
  {
    name: "a symlink that climbs out and back",
    archive: [link("2", "a", "b/../../a"), end],
    code: "archive/link",
  },
  { name: "a symlink to nothing", archive: [link("2", "a", ""), end], code: "archive/link" },
  {
    name: "a file behind a symlink",
    archive: [link("2", "a", "/etc"), ...file("a/passwd"), end],
    code: "archive/link",
  },
  {
    name: "a directory behind a symlink",
    archive: [link("2", "a", "/etc"), folder("a/b/c"), end],
    code: "archive/link",
  },
  { name: "a file below a file", archive: [...file("a"), ...file("a/b"), end], code: "archive/link" },
  { name: "a hard link to nowhere", archive: [link("1", "a", "b"), end], code: "archive/link" },
  {
    name: "a hard link to a later file",
    archive: [link("1", "a", "b"), ...file("b"), end],
    code: "archive/link",
  },
  { name: "a hard link to itself", archive: [link("1", "a", "a"), end], code: "archive/link" },
  {
    name: "a hard link to a symlink",
    archive: [link("2", "a", "/etc/shadow"), link("1", "b", "a"), end],
    code: "archive/link",
  },
  { name: "a hard link out of the tree", archive: [link("1", "a", "../b"), end], code: "archive/path" },
  { name: "the same file twice", archive: [...file("a"), ...file("./a"), end], code: "archive/duplicate" },
  {
    name: "a symlink over a directory",
    archive: [folder("a"), link("2", "a", "/etc"), end],
    code: "archive/duplicate",
  },
  {
    name: "a symlink over an implied directory",
    archive: [...file("a/b"), link("2", "a", "/etc"), end],
    code: "archive/duplicate",
  },
  {
    name: "a character device",
    archive: [tarHeader({ path: "dev/null", type: "3" }), end],
    code: "archive/type",
  },
  { name: "a block device", archive: [tarHeader({ path: "dev/sda", type: "4" }), end], code: "archive/type" },
  { name: "a FIFO", archive: [tarHeader({ path: "pipe", type: "6" }), end], code: "archive/type" },
  { name: "a GNU sparse file", archive: [tarHeader({ path: "s", type: "S" }), end], code: "archive/type" },
  {
    name: "a pax sparse file",
    archive: [...pax(record("GNU.sparse.major", "1")), ...file("s"), end],
    code: "archive/format",
  },
  {
    name: "a pax record of unknown meaning",
    archive: [...pax(record("something", "1")), ...file("s"), end],
    code: "archive/format",
  },
  {
    name: "a pax record with a wrong length",
    archive: [...pax("99 path=a\n"), ...file("s"), end],
    code: "archive/format",
  },
  {
    name: "a pax record without a length",
    archive: [...pax("path=a\n"), ...file("s"), end],
    code: "archive/format",
  },
  {
    name: "a global pax path",
    archive: [tarHeader({ path: "g", type: "g", size: 10 }), data(record("path", "a").padEnd(10)), end],
    code: "archive/format",
  },
  {
    name: "a symlink with data",
    archive: [tarHeader({ path: "a", type: "2", link: "b", size: 512 }), data("x"), end],
    code: "archive/format",
  },
  {
    name: "a wrong checksum",
    archive: [Buffer.from(tarHeader({ path: "a", type: "0" })).fill("b", 0, 1), end],
    code: "archive/format",
  },
  {
    name: "a size that is not a number",
    archive: [patched(tarHeader({ path: "a", type: "0" }), 124, "9z"), end],
    code: "archive/format",
  },
  {
    name: "a negative size",
    archive: [patched(tarHeader({ path: "a", type: "0" }), 124, "\xff".repeat(12)), end],
    code: "archive/format",
  },
  {
    name: "a size beyond all bounds",
    archive: [patched(tarHeader({ path: "a", type: "0" }), 124, "\x80\0\0\0\0\x01\0\0\0\0\0\0"), end],
    code: "archive/limit",
  },
  {
    name: "an oversized pax header",
    archive: [tarHeader({ path: "a", type: "x", size: 2 << 20 }), end],
    code: "archive/limit",
  },
  {
    name: "an old archive without magic",
    archive: [patched(tarHeader({ path: "a", type: "0" }), 257, "\0\0\0\0\0\0\0\0"), end],
    code: "archive/format",
  },
  { name: "a missing end", archive: [...file("a", "x")], code: "archive/truncated" },
  { name: "half an end", archive: [...file("a", "x"), new Uint8Array(512)], code: "archive/truncated" },
  {
    name: "data that is cut short",
    archive: [...file("a", "x".repeat(2000)).slice(0, 1), data("y")],
    code: "archive/truncated",
  },
  { name: "something after the end", archive: [...file("a"), end, ...file("b")], code: "archive/format" },
  { name: "nothing at all", archive: [], code: "archive/truncated" },
];

for (const { name, archive, code } of hostile) {
  test(`refused: ${name}`, async () => {
    await rejects(read(...archive), { name: "ImageError", code });
  });
}

test("extended attributes and owners are reported", async () => {
  const header = patched(tarHeader({ path: "ping", type: "0", mode: 0o4755 }), 108, "0001750\0");
  const [entry] = await read(...pax(record("SCHILY.xattr.security.capability", "\x01\0")), header, end);
  deepEqual([...entry!.xattrs], [["security.capability", "\x01\0"]]);
  equal(entry!.uid, 1000);
  equal(entry!.mode, 0o4755);
});

const name = fc.stringMatching(/^[a-z0-9_ é-]{1,60}$/).filter((text) => text.trim() !== "");
const tree: fc.Arbitrary<TarFile[]> = fc
  .uniqueArray(fc.tuple(fc.array(name, { minLength: 1, maxLength: 5 }), fc.uint8Array({ maxLength: 1500 })), {
    selector: ([parts]) => parts.join("/"),
    maxLength: 12,
  })
  .map((files) =>
    files
      .map(([parts, content]) => ({ path: `f${parts.join("/f")}`, mode: 0o640, content }))
      // A file may not be the directory of another one.
      .filter((one, _, all) => !all.some(({ path }) => path.startsWith(`${one.path}/`))),
  );

test("what is written is what is read, however it is cut into chunks", async () => {
  await fc.assert(
    fc.asyncProperty(tree, fc.integer({ min: 1, max: 3000 }), async (files, size) => {
      const archive = Buffer.concat([...writeTar(files)]);
      const entries = await Array.fromAsync(readTar(chunks(archive, size), "the archive"));
      deepEqual(
        entries.map((entry) => [entry.path, entry.mode, entry.kind === "file" && Buffer.from(entry.content)]),
        files.map(({ path, mode, content }) => [path, mode, Buffer.from(content as Uint8Array)]),
      );
    }),
    { numRuns: 60 },
  );
});

const sample = Buffer.concat([
  folder("usr"),
  ...file("usr/a", "hello"),
  ...pax(record("path", "p".repeat(130))),
  ...file("b", "x"),
  link("1", "c", "usr/a"),
  link("2", "d", "usr"),
  end,
]);

test("every truncation is refused", async () => {
  for (let length = 0; length < sample.length; length += 37) {
    await rejects(Array.fromAsync(readTar(chunks(sample.subarray(0, length)), "x")), ImageError);
  }
});

test("a flipped bit gives other content or an ImageError, never anything else", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(sample.length - 1), fc.nat(7), async (at, bit) => {
      const copy = Buffer.from(sample);
      copy[at]! ^= 1 << bit;
      await Array.fromAsync(readTar(chunks(copy), "x")).catch((error: unknown) => {
        if (!(error instanceof ImageError)) throw error;
      });
    }),
    { numRuns: 500 },
  );
});
