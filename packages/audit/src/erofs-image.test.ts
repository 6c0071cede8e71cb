// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { layoutErofs } from "@caisson/image/erofs";
import { directory, put } from "@caisson/image/tree";
import { VerityHasher } from "@caisson/image/verity";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import fc from "fast-check";
import { openImageFile, readErofsImage } from "./erofs-image.ts";
import { AuditError } from "./errors.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

function sampleTree() {
  const root = directory();
  put(root, "/usr/bin/tool", { kind: "file", mode: 0o755, content: bytes("#!/bin/sh\ntrue\n") });
  put(root, "/etc/large", { kind: "file", mode: 0o644, content: new Uint8Array(10_000).fill(7) });
  put(root, "/etc/empty", { kind: "file", mode: 0o600, content: new Uint8Array() });
  put(root, "/lib", { kind: "symlink", target: "usr/lib" });
  put(root, "/srv/owned", {
    kind: "file",
    mode: 0o600,
    owner: { user: 100_999, group: 7 },
    content: bytes("mine"),
  });
  for (let i = 0; i < 300; i++) {
    put(root, `/many/a-rather-long-name-${i}`, { kind: "file", mode: 0o644, content: bytes(String(i)) });
  }
  return root;
}

function sampleImage(): Buffer {
  const data = Buffer.concat(
    [...layoutErofs(sampleTree(), 1_793_491_200).chunks()].map((chunk) => Buffer.from(chunk)),
  );
  const hasher = new VerityHasher();
  hasher.update(data);
  return Buffer.concat([data, hasher.finish().bytes]);
}

const image = sampleImage();

test("what the writer wrote is read back", () => {
  const { files, root, read } = readErofsImage(image);
  equal(files.size, 300 + 10);
  const owned = files.get("/srv/owned");
  deepEqual([owned?.uid, owned?.gid, read("/srv/owned")?.toString()], [100_999, 7, "mine"]);
  equal(files.get("/lib")?.target, "usr/lib");
  equal(files.get("/usr/bin/tool")?.mode, 0o755);
  equal(files.get("/usr/bin/tool")?.script, "/bin/sh");
  equal(files.get("/etc/empty")?.size, 0);
  deepEqual(read("/etc/large"), Buffer.alloc(10_000, 7));
  equal(read("/many/a-rather-long-name-299")?.toString(), "299");
  equal(read("/many"), undefined);
  equal(root.treeIntact, true);
  equal(root.extendedAttributes, false);
});

test("an image on a disk is read as one in memory", (t) => {
  const place = temporaryDirectory("erofs", t);
  writeFileSync(join(place, "image"), image);
  using file = openImageFile(join(place, "image"));
  const { read: _, ...found } = readErofsImage(file);
  const { read: __, ...expected } = readErofsImage(image);
  deepEqual(found, expected);
  equal(file.read(image.length - 3, 100).length, 3);
});

test("a changed byte in the data or in the tree shows", () => {
  for (const at of [image.length - 1, image.indexOf(Buffer.alloc(4096, 7)) + 5]) {
    const copy = Buffer.from(image);
    copy[at]! ^= 1;
    equal(readErofsImage(copy).root.treeIntact, false, `byte ${at}`);
  }
});

test("a feature that Caisson never writes is refused", () => {
  const copy = Buffer.from(image);
  copy.writeUInt32LE(1, 1024 + 80);
  throws(() => readErofsImage(copy), { code: "image/rootfs" });
});

/** The image with one field of an inode changed; `of` finds the file's content, which lies behind its inode. */
function withInode(of: string, field: number, value: number): Buffer {
  const copy = Buffer.from(image);
  copy.writeUInt32LE(value, copy.indexOf(of) - 32 + field);
  return copy;
}

test("content outside of the file system is refused, by its size and by its block", () => {
  // Of an EROFS inode: size at 8, first block at 16. The content of this one is inline.
  for (const changed of [withInode("#!/bin/sh\ntrue", 8, 0xfff0), withInode("#!/bin/sh\ntrue", 16, 0xffffff)])
    throws(() => readErofsImage(changed), { code: "image/rootfs", message: /content outside/ });
});

test("a directory that contains itself is refused as that", () => {
  const copy = Buffer.from(image);
  const name = copy.indexOf("..bin");
  ok(name > 0);
  // The entries of /usr: ".", "..", "bin", each 12 bytes before their names; a nid is its first 8 bytes.
  const entries = name - 1 - 3 * 12;
  copy.copy(copy, entries + 24, entries, entries + 8);
  throws(() => readErofsImage(copy), { code: "image/rootfs", message: /contains itself/ });
});

test("truncated and altered images give an error of ours or an answer, never anything else", () => {
  const attempt = (bytesOf: Buffer) => {
    try {
      ok(readErofsImage(bytesOf).files.size >= 0);
    } catch (error) {
      ok(error instanceof AuditError, String(error));
    }
  };
  fc.assert(
    fc.property(fc.nat(image.length), (length) => attempt(image.subarray(0, length))),
    { numRuns: 100 },
  );
  fc.assert(
    // The superblock, the inodes and the directories are what is parsed; they come first.
    fc.property(fc.integer({ min: 1024, max: 24_000 }), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const copy = Buffer.from(image);
      copy[at]! ^= flip;
      attempt(copy);
    }),
    { numRuns: 300 },
  );
});
