// SPDX-License-Identifier: Apache-2.0
/** Layers as tools write them, over each other: what is right was seen with umoci and containerd. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { bytesOf } from "../build/content.ts";
import { lookup, walk } from "../build/tree.ts";
import type { ImageErrorCode } from "../errors.ts";
import { patched } from "../testing/archive.ts";
import { LayeredTree } from "./layers.ts";
import { tarItems } from "./tar-format.ts";
import { type TarFile, tarHeader, writeTar } from "./tar-writer.ts";

const file = (path: string, text = path): TarFile => ({ path, mode: 0o644, content: Buffer.from(text) });
const folder = (path: string, mode = 0o755): TarFile => ({ path, mode, content: "directory" });
const link = (path: string, symlink: string): TarFile => ({ path, mode: 0o777, content: { symlink } });
const entries = (...files: TarFile[]) => Buffer.concat([...writeTar(files)]).subarray(0, -1024);
const hard = (path: string, target: string, size = 0) => tarHeader({ path, type: "1", link: target, size });
const end = Buffer.alloc(1024);

/** The tree of some layers, each the parts of one archive. */
async function apply(...layers: Uint8Array[][]) {
  const tree = new LayeredTree();
  for (const parts of layers) {
    tree.nextLayer();
    const archive = Buffer.concat(parts);
    for await (const item of tarItems([archive], "tolerant", "the layer")) {
      const keep = async () => Buffer.concat(await Array.fromAsync(item.data()));
      await tree.apply(item, keep, "the layer");
    }
  }
  return tree.finish().tree;
}

async function listing(...layers: Uint8Array[][]): Promise<string[]> {
  return [...walk(await apply(...layers))].map(([path, node]) =>
    node.kind === "file"
      ? `${path} ${Buffer.from(bytesOf(node.content)).toString()}`
      : node.kind === "symlink"
        ? `${path} -> ${node.target}`
        : `${path}/`,
  );
}

const usr = entries(folder("usr"), folder("usr/lib"), file("usr/lib/secret"), link("lib", "usr/lib"));

const right: [what: string, layers: Uint8Array[][], expected: string[]][] = [
  [
    "a whiteout behind a symlink removes what the symlink leads to",
    [[usr, end], [entries(file("lib/.wh.secret", "")), end]],
    ["/lib -> usr/lib", "/usr/", "/usr/lib/"],
  ],
  [
    "an opaque whiteout behind a symlink, too",
    [[usr, end], [entries(file("lib/new", ""), file("lib/.wh..wh..opq", "")), end]],
    ["/lib -> usr/lib", "/usr/", "/usr/lib/", "/usr/lib/new "],
  ],
  [
    "an entry behind a symlink of a lower layer",
    [[usr, end], [entries(file("lib/new.so")), end]],
    ["/lib -> usr/lib", "/usr/", "/usr/lib/", "/usr/lib/new.so lib/new.so", "/usr/lib/secret usr/lib/secret"],
  ],
  [
    "an entry behind a symlink of the same layer, to a directory that is not there yet",
    [[entries(link("a", "/x/y"), file("a/f")), end]],
    ["/a -> /x/y", "/x/", "/x/y/", "/x/y/f a/f"],
  ],
  [
    "a symlink that climbs above the root of where it leads stays in it",
    [[entries(folder("d"), link("d/up", ".."), link("l", "d/up"), file("l/x")), end]],
    ["/d/", "/d/up -> ..", "/l -> d/up", "/x l/x"],
  ],
  ["a symlink to an absolute path stays in the root", [[entries(link("a", "/etc"), file("a/passwd")), end]], ["/a -> /etc", "/etc/", "/etc/passwd a/passwd"]],
  ["the root itself as '/' and './'", [[tarHeader({ path: "/", type: "5", mode: 0o755 }), tarHeader({ path: "./", type: "5", mode: 0o755 }), entries(file("a")), end]], ["/a a"]],
  ["absolute names and absolute targets of hard links count from the root", [[entries(file("/etc/f"), file("a")), hard("/b", "/a"), hard("c", "/etc/f"), end]], ["/a a", "/b a", "/c /etc/f", "/etc/", "/etc/f /etc/f"]],
  ["a hard link to a file of a lower layer", [[entries(file("a")), end], [hard("b", "a"), end]], ["/a a", "/b a"]],
  ["a hard link behind a symlink", [[usr, end], [hard("lib/other", "lib/secret"), end]], ["/lib -> usr/lib", "/usr/", "/usr/lib/", "/usr/lib/other usr/lib/secret", "/usr/lib/secret usr/lib/secret"]],
  ["a hard link to a symlink is that symlink", [[usr, hard("again", "lib"), end]], ["/again -> usr/lib", "/lib -> usr/lib", "/usr/", "/usr/lib/", "/usr/lib/secret usr/lib/secret"]],
  ["a hard link with a size has no data", [[entries(file("a")), hard("b", "a", 1), entries(file("c")), end]], ["/a a", "/b a", "/c c"]],
  ["a directory of Version 7 ends with a slash", [[patched(tarHeader({ path: "d/", type: "\0", mode: 0o755 }), 257, "\0".repeat(8)), patched(tarHeader({ path: "d/f", type: "\0" }), 257, "\0".repeat(8)), end]], ["/d/", "/d/f "]],
  ["a directory twice: the last mode, what is in it stays", [[entries(folder("d", 0o700), file("d/f"), folder("d")), end]], ["/d/", "/d/f d/f"]],
  ["a file twice: the last one", [[entries(file("a", "1"), file("a", "2")), end]], ["/a 2"]],
  ["a file in place of a directory, and back", [[entries(file("d/f"), file("d"), folder("d"), file("d/g")), end]], ["/d/", "/d/g d/g"]],
  ["one block of zeros at the end", [[entries(file("a")), Buffer.alloc(512)]], ["/a a"]],
  ["no end", [[entries(file("a"))]], ["/a a"]],
  ["something behind the end, as eStargz's table of contents, is in no image", [[entries(file("a")), end, entries(file("b"))], [entries(file("c")), end, Buffer.from("no archive at all")]], ["/a a", "/c c"]],
  ["a mode that begins with NUL", [[patched(tarHeader({ path: "a", type: "0" }), 100, "\x000000644"), end]], ["/a "]],
  ["whiteouts that are links, or have content", [[entries(file("a"), file("b"), file("c")), end], [entries(file(".wh.a", "x")), hard(".wh.b", ".wh.a"), end]], ["/c c"]],
  ["metadata of aufs", [[entries(folder(".wh..wh.plnk"), file(".wh..wh.plnk/1"), file(".wh..wh.aufs", ""), file("a")), end]], ["/a a"]],
  ["a whiteout after a directory of its own layer removes only what was there before", [[entries(file("d/old"), file("d/sub/old")), end], [entries(file("d/sub/new"), file(".wh.d", "")), end]], ["/d/", "/d/sub/", "/d/sub/new d/sub/new"]],
  ["a contiguous file is a file", [[patched(tarHeader({ path: "a", type: "7" }), 100, "0000644"), end]], ["/a "]],
  ["a pax record without a value leaves the header's", [[...paxed("8 path=\n"), entries(file("a")), end]], ["/a a"]],
  ["pax records of no meaning here", [[...paxed("20 something.else=1\n"), entries(file("a")), end]], ["/a a"]],
]; // biome-ignore format: a table

function paxed(records: string): Uint8Array[] {
  return [tarHeader({ path: "x", type: "x", size: records.length }), Buffer.from(records.padEnd(512, "\0"))];
}

for (const [what, layers, expected] of right) {
  test(`right: ${what}`, async () => deepEqual(await listing(...layers), expected));
}

const refused: [what: string, layers: Uint8Array[][], code: ImageErrorCode][] = [
  ["a name that climbs out", [[entries(file("../x")), end]], "archive/path"],
  ["a name that climbs and comes back", [[entries(file("a/../b")), end]], "archive/path"],
  ["a hard link that climbs out", [[hard("a", "../etc/passwd"), end]], "archive/path"],
  ["a hard link to nothing", [[hard("a", "b"), end]], "archive/link"],
  ["a hard link to itself", [[entries(file("a")), hard("a", "a"), end]], "archive/link"],
  ["a hard link to a directory", [[entries(folder("d")), hard("a", "d"), end]], "archive/link"],
  ["a hard link to what a whiteout removed", [[entries(file("a")), end], [entries(file(".wh.a", "")), hard("b", "a"), end]], "archive/link"],
  ["a symlink that climbs out", [[entries(link("a/b", "../../x")), end]], "archive/link"],
  ["symlinks in a circle", [[entries(link("a", "b"), link("b", "a"), file("a/x")), end]], "oci/layer"],
  ["a file below a file", [[entries(file("a"), file("a/b")), end]], "oci/layer"],
  ["a file below a FIFO", [[tarHeader({ path: "a", type: "6" }), entries(file("a/b")), end]], "oci/layer"],
  ["a root that is a symlink", [[entries(link("./", "/etc")), end]], "archive/path"],
  ["a type that nobody knows", [[tarHeader({ path: "a", type: "S" }), end]], "archive/type"],
  ["something behind half an end", [[entries(file("a")), Buffer.alloc(512), entries(file("b"))]], "archive/format"],
  ["a file cut short", [[entries(file("a", "x".repeat(600))).subarray(0, -512)]], "archive/truncated"],
  ["a global path", [[tarHeader({ path: "g", type: "g", size: 10 }), Buffer.from("10 path=a\n".padEnd(512, "\0")), end]], "archive/format"],
  ["a sparse file of pax", [[...paxed("22 GNU.sparse.major=1\n"), entries(file("a")), end]], "archive/format"],
]; // biome-ignore format: a table

for (const [what, layers, code] of refused) {
  test(`refused: ${what}`, async () => {
    await rejects(listing(...layers), { name: "ImageError", code });
  });
}

test("more files than an image may have, implied directories counted", async () => {
  const tree = new LayeredTree(100);
  const add = async (path: string) => {
    for await (const item of tarItems([entries(file(path)), end], "tolerant", "the layer"))
      await tree.apply(item, async () => new Uint8Array(), "the layer");
  };
  await add(`a/${"d/".repeat(90)}f`);
  await rejects(add("b/c/d/e/f/g/h/i/j"), { code: "archive/limit" });
});

test("a hard link across layers is one node under two names", async () => {
  const tree = await apply([entries(file("a")), end], [hard("b", "a"), end]);
  equal(lookup(tree, "a"), lookup(tree, "b"));
});

test("a file keeps the time that its layer gives it, whole seconds; a directory and 1970 are the image's", async () => {
  const at = (path: string, time: string) => {
    const header = Buffer.from(tarHeader({ path, type: path.endsWith("/") ? "5" : "0", size: 0 }));
    header.write(time, 136, "latin1");
    header.write("        ", 148, "latin1");
    header.write(
      `${header
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, "0")}\0 `,
      148,
      "latin1",
    );
    return header;
  };
  const tree = await apply([at("a", "14371741200\0"), at("b", "00000000000\0"), at("d/", "14371741200\0"), at("odd", "1999-12-31\0 "), end]); // biome-ignore format: one line
  const timeOf = (path: string) => (lookup(tree, path) as { time?: number }).time;
  deepEqual(["a", "b", "d", "odd"].map(timeOf), [0o14371741200, undefined, undefined, undefined]);
});

test("a replaced file leaves its other names alone", async () => {
  deepEqual(await listing([entries(file("a")), hard("b", "a"), end], [entries(file("a", "new")), end]), [
    "/a new",
    "/b a",
  ]);
});
