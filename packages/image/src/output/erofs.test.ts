// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { hash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { type DirectoryNode, directory, type FileNode, put } from "../build/tree.ts";
import { layoutErofs } from "./erofs.ts";

const time = 1_793_491_200;
const file = (content: string | Uint8Array): FileNode => ({
  kind: "file",
  mode: 0o644,
  content: typeof content === "string" ? Buffer.from(content) : content,
});
const tree = (entries: Record<string, FileNode>): DirectoryNode => {
  const root = directory();
  for (const [path, node] of Object.entries(entries)) put(root, path, node);
  return root;
};
/** The image's bytes; its chunks are copied one by one, because each is valid until the next is asked for. */
function image(root: DirectoryNode, at = time): Buffer {
  const chunks: Buffer[] = [];
  for (const chunk of layoutErofs(root, at).chunks()) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

test("the same tree gives the same bytes, in whatever order it was made", () => {
  const one = image(tree({ "/a": file("1"), "/b/c": file("2") }));
  ok(one.equals(image(tree({ "/b/c": file("2"), "/a": file("1") }))));
});

test("names of a directory are sorted by their bytes, which the kernel searches by halves", () => {
  const bytes = image(tree({ "/B": file("1"), "/a-name": file("2"), "/Z": file("3"), "/-": file("4") }));
  // Behind the entries of the root: "-", ".", "..", "B", "Z", "a-name".
  ok(bytes.includes("-...BZa-name"));
});

test("the superblock's checksum is CRC-32C over it and what follows in its block", () => {
  const block = image(tree({ "/a": file("1") })).subarray(1024, 4096);
  const found = block.readUInt32LE(4);
  block.writeUInt32LE(0, 4);
  // Bit by bit: the reflected polynomial, begun with ones, not inverted at the end (fs/erofs/super.c).
  let sum = 0xffffffff;
  for (const byte of block) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0x82f63b78 : 0);
  }
  equal(found, sum >>> 0);
});

test("the announced number of blocks is what is written", () => {
  const root = tree({ "/small": file("x"), "/large": file(Buffer.alloc(10_000, 7)) });
  equal(image(root).length, layoutErofs(root, time).blocks * 4096);
});

test("the time is the superblock's epoch, all 64 bits", () => {
  equal(image(directory(), 2 ** 40).readBigUInt64LE(1024 + 24), 2n ** 40n);
  ok(!image(directory(), 1).equals(image(directory(), 2)));
});

test("identical contents are stored once, others are not", () => {
  const large = Buffer.alloc(1_000_000, 1);
  const one = layoutErofs(tree({ "/a": file(large) }), time).blocks;
  equal(layoutErofs(tree({ "/a": file(large), "/b": file(Buffer.from(large)) }), time).blocks, one);
  equal(
    layoutErofs(tree({ "/a": file(large), "/b": file(Buffer.alloc(1_000_000, 2)) }), time).blocks,
    2 * one - 1,
  );
});

test("a file is stored beside its inode up to 4064 bytes, and on blocks of its own above", () => {
  equal(layoutErofs(tree({ "/a": file(Buffer.alloc(4064)) }), time).blocks, 2);
  equal(layoutErofs(tree({ "/a": file(Buffer.alloc(4065)) }), time).blocks, 2);
  equal(layoutErofs(tree({ "/a": file(Buffer.alloc(4096)) }), time).blocks, 2);
  equal(layoutErofs(tree({ "/a": file(Buffer.alloc(4097)) }), time).blocks, 3);
});

test("digests are those of the contents, of bytes and of paths", (t) => {
  const place = temporaryDirectory("erofs", t);
  const bytes = Buffer.alloc(3_000_001, "caisson");
  writeFileSync(`${place}/f`, bytes);
  const onDisk: FileNode = { kind: "file", mode: 0o644, content: { path: `${place}/f`, size: bytes.length } };
  const inMemory = file(bytes);
  const { digests } = layoutErofs(tree({ "/a": onDisk, "/b": inMemory }), time);
  equal(digests.get(onDisk), hash("sha256", bytes));
  equal(digests.get(inMemory), hash("sha256", bytes));
  ok(image(tree({ "/a": onDisk })).equals(image(tree({ "/a": inMemory }))));
});

const changes: [what: string, bytes: Buffer][] = [
  ["longer", Buffer.alloc(10_001)],
  ["shorter", Buffer.alloc(9_999)],
  ["another of the same length", Buffer.alloc(10_000, "x")],
];
for (const [what, bytes] of changes) {
  test(`a file that became ${what} during the build is refused`, (t) => {
    const place = temporaryDirectory("erofs", t);
    const path = `${place}/f`;
    writeFileSync(path, Buffer.alloc(10_000));
    const layout = layoutErofs(
      tree({ "/a": { kind: "file", mode: 0o644, content: { path, size: 10_000 } } }),
      time,
    );
    writeFileSync(path, bytes);
    throws(() => [...layout.chunks()], { code: "erofs/changed" });
  });
}

/** The fields of the inode of `/a`, the only entry of the root: struct erofs_inode_compact or erofs_inode_extended. */
function inodeOf(node: FileNode): Record<string, number> {
  const [head] = layoutErofs(raw("a", node), time).chunks();
  const at = head!.readUInt16LE(1024 + 14) * 32 + 32 + 36 + 4; // behind the root's inode and its three names
  const inode = head!.subarray(Math.ceil(at / 32) * 32);
  const isExtended = (inode.readUInt16LE(0) & 1) === 1;
  return isExtended
    ? {
        size: Number(inode.readBigUInt64LE(8)),
        user: inode.readUInt32LE(24),
        group: inode.readUInt32LE(28),
        time: Number(inode.readBigUInt64LE(32)),
        links: inode.readUInt32LE(44),
      }
    : {
        size: inode.readUInt32LE(8),
        user: inode.readUInt16LE(24),
        group: inode.readUInt16LE(26),
        links: inode.readUInt16LE(6),
      };
}

test("an owner is stored in a compact inode up to 65535, and in an extended one above", () => {
  const owned = (user: number, group: number) => inodeOf({ ...file(""), owner: { user, group } });
  deepEqual(owned(999, 65_535), { size: 0, user: 999, group: 65_535, links: 1 });
  deepEqual(owned(0, 65_536), { size: 0, user: 0, group: 65_536, time, links: 1 });
  deepEqual(owned(2 ** 32 - 2, 1), { size: 0, user: 2 ** 32 - 2, group: 1, time, links: 1 });
});

test("a file's own time is stored in an extended inode, and it shares its blocks with others nevertheless", () => {
  deepEqual(inodeOf({ ...file(""), time: 1_600_000_000 }), {
    size: 0,
    user: 0,
    group: 0,
    time: 1_600_000_000,
    links: 1,
  });
  const large = "x".repeat(5_000);
  const blocks = (...times: (number | undefined)[]): number =>
    layoutErofs(tree(Object.fromEntries(times.map((own, n) => [`/f${n}`, { ...file(large), ...(own && { time: own }) }]))), time).blocks; // biome-ignore format: one line
  equal(blocks(undefined, 5), blocks(undefined, undefined));
});

test("a file of 4 GiB and more is stored", () => {
  const content = { path: "/dev/zero", size: 2 ** 32 + 5, offset: 0, sha256: "0".repeat(64) };
  deepEqual(inodeOf({ ...file(""), content }), { size: 2 ** 32 + 5, user: 0, group: 0, time, links: 1 });
});

test("part of a file is read from its place, and only that", (t) => {
  const place = temporaryDirectory("erofs", t);
  const bytes = Buffer.alloc(30_000, "0123456789");
  writeFileSync(`${place}/f`, bytes);
  const part = bytes.subarray(5003, 25_000);
  const content = { path: `${place}/f`, size: part.length, offset: 5003, sha256: hash("sha256", part) };
  ok(image(tree({ "/a": { ...file(""), content } })).equals(image(tree({ "/a": file(part) }))));
  throws(() => image(tree({ "/a": { ...file(""), content: { ...content, sha256: "0".repeat(64) } } })), {
    code: "erofs/changed",
  });
});

/** Directories in one another, `depth` of them. */
function nested(depth: number): DirectoryNode {
  let root = directory();
  for (let i = 0; i < depth; i++) root = { kind: "directory", mode: 0o755, entries: new Map([["d", root]]) };
  return root;
}

test("no tree is too deep for the stack: a path of up to 4000 characters is stored", () => {
  equal(layoutErofs(nested(1900), time).blocks > 1, true);
});

const raw = (name: string, node: FileNode = file("")): DirectoryNode => ({
  kind: "directory",
  mode: 0o755,
  entries: new Map([[name, node]]),
});
const shared = directory();
const refused: [what: string, root: DirectoryNode, code: string][] = [
  ["an empty name", raw(""), "erofs/name"],
  ["the name ..", raw(".."), "erofs/name"],
  ["a name with a slash", raw("a/b"), "erofs/name"],
  ["a name with NUL", raw("a\0b"), "erofs/name"],
  ["a name of 256 bytes", raw("é".repeat(128)), "erofs/name"],
  ["a name that is not Unicode", raw("\ud800"), "erofs/name"],
  ["a path of more than 4000 characters", nested(2100), "erofs/name"],
  ["setuid", raw("a", { ...file(""), mode: 0o4755 }), "erofs/mode"],
  ["sticky on a file", raw("a", { ...file(""), mode: 0o1755 }), "erofs/mode"],
  [
    "an owner that is not an id",
    raw("a", { ...file(""), owner: { user: 2 ** 32 - 1, group: 0 } }),
    "erofs/owner",
  ],
  [
    "a directory with two names",
    { kind: "directory", mode: 0o755, entries: new Map([["a", shared], ["b", shared]]) }, // biome-ignore format: a pair
    "erofs/links",
  ],
  [
    "an empty symlink",
    { kind: "directory", mode: 0o755, entries: new Map([["a", { kind: "symlink", target: "" }]]) },
    "erofs/name",
  ],
];
for (const [what, root, code] of refused) {
  test(`refused: ${what}`, () => throws(() => layoutErofs(root, time), { code }));
}
