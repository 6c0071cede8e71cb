// SPDX-License-Identifier: Apache-2.0
/** Our EROFS writer and hash tree against the tools of their makers: fsck.erofs, dump.erofs, veritysetup. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { hash } from "node:crypto";
import {
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { test } from "node:test";
import { layoutErofs } from "@caisson/image/erofs";
import { type DirectoryNode, directory, type FileNode, type Node, walk } from "@caisson/image/tree";
import { VerityHasher, type VerityTree, veritySalt } from "@caisson/image/verity";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import fc from "fast-check";

const time = 1_793_491_200;
/** Only root may give files away, so only root sees owners after extracting. */
const isRoot = process.getuid!() === 0;
const place = temporaryDirectory("erofs");

const image = `${place}/image`;
/** Writes file system and hash tree to `image`. */
function write(root: DirectoryNode): VerityTree {
  const hasher = new VerityHasher();
  const file = openSync(image, "w");
  for (const chunk of layoutErofs(root, time).chunks()) {
    hasher.update(chunk);
    writeSync(file, chunk);
  }
  const verity = hasher.finish();
  writeSync(file, verity.bytes);
  closeSync(file);
  return verity;
}

function run(tool: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(tool, args, { encoding: "utf8", timeout: 60_000 });
  equal(status, 0, `${tool}: ${stdout}${stderr}`);
  return stdout;
}

type Row = [path: string, mode: number, user: number, group: number, time: number, content: string];

/** What a walk over a tree shows: paths with mode, time and digest of the content, or the target of a symlink. */
function describeTree(root: DirectoryNode): Row[] {
  return [...walk(root)].map(([path, node]) => {
    const { user, group } = node.owner ?? { user: 0, group: 0 };
    if (node.kind === "symlink") return [path, 0o777, user, group, time, `-> ${node.target}`];
    const what = node.kind === "file" ? hash("sha256", node.content as Uint8Array) : "directory";
    const own = (node.kind === "file" ? node.time : undefined) ?? time;
    return [path, node.mode, user, group, own, what];
  });
}

/** The same of a directory of the machine. */
function describeDirectory(host: string): Row[] {
  const rows: Row[] = [];
  const visit = (path: string) => {
    const names = readdirSync(host + path).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    for (const name of names) {
      const at = `${path}/${name}`;
      const stat = lstatSync(host + at);
      const mode = stat.mode & 0o7777;
      const [user, group] = isRoot ? [stat.uid, stat.gid] : [0, 0];
      const row = (what: string): Row => [at, mode, user, group, stat.mtimeMs / 1000, what];
      if (stat.isSymbolicLink()) rows.push(row(`-> ${readlinkSync(host + at)}`));
      else if (stat.isFile()) rows.push(row(hash("sha256", readFileSync(host + at))));
      else {
        rows.push(row("directory"));
        visit(at);
      }
    }
  };
  visit("");
  return rows;
}

function checkWithFsck(root: DirectoryNode): void {
  write(root);
  run("fsck.erofs", image);
  const target = `${place}/extracted`;
  rmSync(target, { recursive: true, force: true });
  run("fsck.erofs", `--extract=${target}`, isRoot ? "--preserve" : "--preserve-perms", image);
  deepEqual(describeDirectory(target), describeTree(root));
}

/** Any file name: 1 to 255 bytes of UTF-8, all lengths and any character but `/` and NUL. */
const name = fc
  .oneof(
    fc.string({ minLength: 1, maxLength: 12, unit: "grapheme" }),
    fc.string({ minLength: 1, maxLength: 255, unit: fc.constantFrom("a", "!", "-", "~") }),
    fc.constantFrom("n".repeat(255), "é".repeat(127), ".a", "..a", "-", "!", "\u{1f600}"),
  )
  .map((text) => text.replaceAll(/[/\0]/g, "_"))
  .filter((text) => text !== "." && text !== ".." && Buffer.byteLength(text) <= 255 && text.isWellFormed());

const content = fc
  .tuple(fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 4060, max: 4100 }), fc.integer({ min: 0, max: 3 }).map((n) => n * 4096), fc.integer({ min: 0, max: 30_000 })), fc.integer({ min: 0, max: 3 })) // biome-ignore format: a table
  .map(([size, seed]) => Buffer.alloc(size, `${seed}caisson`));

const id = isRoot ? fc.constantFrom(0, 1, 999, 65_535, 65_536, 2 ** 31) : fc.constant(0);
const owner = fc.record({ user: id, group: id });

/** Readable by an unprivileged user who extracts it, too. */
const file = fc
  .record({
    content,
    mode: fc.constantFrom(0o644, 0o755, 0o400, 0o777),
    owner,
    own: fc.constantFrom(undefined, 1, 1_600_000_000),
  })
  .map(({ own, ...fields }): FileNode => ({ kind: "file", ...fields, ...(own && { time: own }) }));
const symlink = fc
  .string({ minLength: 1, maxLength: 300 })
  .map((target): Node => ({ kind: "symlink", target: target.replaceAll("\0", "_") }));

const { tree } = fc.letrec<{ tree: DirectoryNode; node: Node }>((tie) => ({
  node: fc.oneof({ depthSize: "small", withCrossShrink: true }, file, symlink, tie("tree")),
  tree: fc
    .uniqueArray(fc.tuple(name, tie("node")), { maxLength: 12, selector: ([name]) => name })
    .chain((entries) =>
      fc.record({ mode: fc.constantFrom(0o755, 0o1777), owner, entries: fc.constant(entries) }),
    )
    .map(
      ({ entries, ...rest }): DirectoryNode => ({ kind: "directory", ...rest, entries: new Map(entries) }),
    ),
}));

/** Some files get a second name in the root: hard links. */
const treeWithLinks = fc.tuple(tree, fc.array(name, { maxLength: 5 })).map(([root, names]) => {
  const files = [...walk(root)].map(([, node]) => node).filter((node) => node.kind === "file");
  names.forEach((name, i) => {
    const node = files[i % Math.max(1, files.length)];
    if (node !== undefined && !root.entries.has(name)) root.entries.set(name, node);
  });
  return root;
});

test("any tree is accepted by fsck.erofs and extracted byte for byte", () => {
  fc.assert(fc.property(treeWithLinks, checkWithFsck), { numRuns: 60, interruptAfterTimeLimit: 60_000 });
});

test("thousands of names in one directory, in blocks that the kernel can bisect", () => {
  const root = directory();
  for (let i = 0; i < 5000; i++) {
    const name = `${i}`.repeat(1 + (i % 40)).slice(0, 255);
    root.entries.set(name, { kind: "file", mode: 0o644, content: Buffer.from(`${i}`) });
  }
  checkWithFsck(root);
});

test("a tree 400 directories deep", () => {
  const root = directory();
  let at = root;
  for (let i = 0; i < 400; i++) {
    const next = directory();
    at.entries.set(`d${i}`, next);
    at = next;
  }
  at.entries.set("f", { kind: "file", mode: 0o644, content: Buffer.from("deep") });
  checkWithFsck(root);
});

test("identical files share their blocks and a hard link shares its inode", () => {
  const content = Buffer.alloc(100_000, "same");
  const linked: FileNode = { kind: "file", mode: 0o644, content };
  const root = directory();
  root.entries.set("a", linked);
  root.entries.set("b", linked);
  root.entries.set("c", { ...linked, content: Buffer.from(content) });
  checkWithFsck(root);
  const shown = (path: string) => run("dump.erofs", "-e", `--path=${path}`, image);
  const extents = (path: string) => /^ *0: .*$/m.exec(shown(path))?.[0];
  match(shown("/a"), /Links: 2/);
  match(shown("/c"), /Links: 1/);
  equal(extents("/a"), extents("/c"));
});

function verify(verity: VerityTree): number | null {
  const args = [
    "verify", "--no-superblock", "--format=1", "--hash=sha256",
    "--data-block-size=4096", "--hash-block-size=4096",
    `--data-blocks=${verity.dataBlocks}`, `--hash-offset=${verity.dataBlocks * 4096}`,
    `--salt=${veritySalt.toString("hex")}`, image, image, verity.rootHash,
  ]; // biome-ignore format: an argument list
  return spawnSync("veritysetup", args, { timeout: 60_000 }).status;
}

for (const blocks of [1, 2, 127, 128, 129, 500, 128 * 128 + 1]) {
  test(`veritysetup accepts the hash tree of ${blocks} blocks`, () => {
    const hasher = new VerityHasher();
    const data = Buffer.alloc(blocks * 4096);
    for (let i = 0; i < blocks; i++) data.writeUInt32LE(i, i * 4096);
    hasher.update(data);
    const verity = hasher.finish();
    writeFileSync(image, Buffer.concat([data, verity.bytes]));
    equal(verify(verity), 0);
  });
}

test("a flipped bit anywhere in data or hash tree is detected by veritysetup", () => {
  const root = directory();
  for (let i = 0; i < 300; i++) {
    root.entries.set(`${i}`, { kind: "file", mode: 0o644, content: Buffer.alloc(4096, i) });
  }
  const verity = write(root);
  equal(verify(verity), 0);
  const good = readFileSync(image);
  const used = (position: number) => position < verity.dataBlocks * 4096 || good[position] !== 0;
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: good.length - 1 }).filter(used),
      fc.integer({ min: 0, max: 7 }),
      (at, bit) => {
        const bad = Buffer.from(good);
        bad[at]! ^= 1 << bit;
        writeFileSync(image, bad);
        ok(verify(verity)! > 0);
      },
    ),
    { numRuns: 25, interruptAfterTimeLimit: 30_000 },
  );
});
