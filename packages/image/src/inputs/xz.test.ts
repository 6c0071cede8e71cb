// SPDX-License-Identifier: Apache-2.0
import { equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { xz } from "@napi-rs/lzma";
import { type Compression, decompress } from "./xz.ts";

const plain = Buffer.from("caisson ".repeat(40_000));
const streams: [Compression, Uint8Array][] = [
  ["none", plain],
  ["gzip", gzipSync(plain)],
  ["xz", await xz.compress(plain)],
  ["zstd", zstdCompressSync(plain)],
];

for (const [compression, bytes] of streams) {
  const unpack = async (source: Uint8Array, limit: number) =>
    Buffer.concat(await Array.fromAsync(decompress([source], compression, limit, "the stream")));

  test(`${compression}: whole`, async () => {
    equal((await unpack(bytes, plain.length)).equals(plain), true);
  });

  test(`${compression}: one byte more than allowed is refused`, async () => {
    await rejects(unpack(bytes, plain.length - 1), { code: "archive/limit" });
  });

  if (compression !== "none") {
    test(`${compression}: every truncation is refused`, async () => {
      for (let length = 0; length < bytes.length; length += Math.ceil(bytes.length / 20)) {
        await rejects(
          unpack(bytes.subarray(0, length), plain.length),
          { code: "archive/format" },
          `${length}`,
        );
      }
    });
  }
}

test("a bomb is stopped at the limit, not unpacked first", async () => {
  const bomb = gzipSync(Buffer.alloc(64 << 20), { level: 1 });
  const before = process.memoryUsage().arrayBuffers;
  const stream = decompress([bomb], "gzip", 1 << 20, "the bomb");
  await rejects(Array.fromAsync(stream), { code: "archive/limit" });
  equal(process.memoryUsage().arrayBuffers - before < 32 << 20, true);
});

test("an error of the source is passed on", async () => {
  async function* source() {
    yield streams[1]![1].subarray(0, 10);
    throw new RangeError("broken disk");
  }
  await rejects(Array.fromAsync(decompress(source(), "gzip", 1000, "x")), /broken disk/);
});
