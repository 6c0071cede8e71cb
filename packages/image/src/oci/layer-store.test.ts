// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { makeImage, sha256 } from "../testing/archive.ts";
import { importImage } from "./oci.ts";
import { writeTar } from "./tar-writer.ts";

const MiB = 2 ** 20;
const archive = (name: string, content: Buffer) =>
  Buffer.concat([...writeTar([{ path: name, mode: 0o644, content }])]);
const archives = [archive("a", Buffer.alloc(8 * MiB, 1)), archive("b", Buffer.from("below a"))];
const layerType = "application/vnd.oci.image.layer.v1.tar+gzip";

/** An image of two compressed layers; `opened` counts its blobs, and `gone` is what can no longer be had. */
function setUp(t: TestContext) {
  const directory = temporaryDirectory("layers", t);
  const { descriptor, blobs } = makeImage(archives, { layerType, compress: gzipSync });
  const state = { opened: 0, gone: false };
  const source = {
    descriptor,
    open: async ({ digest, mediaType }: { digest: string; mediaType: string }) => {
      if (mediaType === layerType) {
        if (state.gone) throw new Error("gone");
        state.opened++;
      }
      return { chunks: [blobs.get(digest)!] };
    },
  };
  const paths = archives.map((bytes) => join(directory, sha256(bytes)));
  return { state, paths, load: () => importImage(source, directory) };
}

/** Bytes that this process has read, wherever they came from. */
const bytesRead = () => Number(/^rchar: (\d+)$/m.exec(readFileSync("/proc/self/io", "utf8"))![1]);

test("a layer in the cache is read once, and nothing is fetched", async (t) => {
  const { load, state } = setUp(t);
  const first = await load();
  equal(state.opened, 2);
  const before = bytesRead();
  deepEqual(await load(), first);
  const read = bytesRead() - before;
  equal(state.opened, 2);
  ok(read >= 8 * MiB && read < 12 * MiB, `${read} bytes`);
});

const damages: [name: string, change: (bytes: Buffer) => Uint8Array][] = [
  ["a changed content", (bytes) => bytes.fill(2, 4 * MiB, 4 * MiB + 1)],
  ["a changed header", (bytes) => bytes.fill("b", 0, 1)],
  ["cut short", (bytes) => bytes.subarray(0, 4 * MiB)],
  ["empty", () => Buffer.alloc(0)],
  ["something behind its end", (bytes) => Buffer.concat([bytes, Buffer.alloc(512)])],
];
for (const [name, change] of damages) {
  test(`a layer in the cache is damaged (${name}): it is unpacked again`, async (t) => {
    const { load, paths, state } = setUp(t);
    const first = await load();
    writeFileSync(paths[0]!, change(Buffer.from(archives[0]!)));
    deepEqual(await load(), first);
    equal(state.opened, 3);
    deepEqual(readFileSync(paths[0]!), archives[0]);
  });
}

test("all layers in the cache are damaged, then one whose blob is gone", async (t) => {
  const { load, paths, state } = setUp(t);
  const first = await load();
  for (const path of paths) writeFileSync(path, "damaged");
  deepEqual(await load(), first);
  writeFileSync(paths[1]!, "damaged");
  state.gone = true;
  await rejects(load(), /gone/);
});
