// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { xz } from "@napi-rs/lzma";
import fc from "fast-check";
import { ImageError, type ImageErrorCode } from "../errors.ts";
import { writeTar } from "../oci/tar-writer.ts";
import { makeDeb } from "../testing/archive.ts";
import { readDeb } from "./deb.ts";

const files = [{ path: "usr/bin/tool", mode: 0o755, content: Buffer.from("#!".repeat(3000)) }];
const tar = Buffer.concat([...writeTar(files)]);

const read = (bytes: Uint8Array) => Array.fromAsync(readDeb(bytes));

const compressions: [string, (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array>][] = [
  ["data.tar", (bytes) => bytes],
  ["data.tar.gz", (bytes) => gzipSync(bytes)],
  ["data.tar.xz", (bytes) => xz.compress(bytes)],
  ["data.tar.zst", (bytes) => zstdCompressSync(bytes)],
];

for (const [member, compress] of compressions) {
  test(`${member} is read`, async () => {
    const [entry] = await read(makeDeb(await compress(tar), { data: member }));
    equal(entry?.path, "usr/bin/tool");
    deepEqual(entry?.kind === "file" && Buffer.from(entry.content), files[0]!.content);
  });

  test(`${member} cut short or altered is refused`, async () => {
    const whole = await compress(tar);
    const cut = makeDeb(whole.subarray(0, whole.length - 9), { data: member });
    await rejects(read(cut), (error) => error instanceof ImageError);
    if (member === "data.tar") return; // has no checksum of its own over contents: the lock's hash has
    const altered = Buffer.from(whole);
    altered[altered.length >> 1]! ^= 0x10;
    await rejects(read(makeDeb(altered, { data: member })), { code: "archive/format" });
  });
}

const good = () => makeDeb(gzipSync(tar), { data: "data.tar.gz" });
const broken: { name: string; bytes: () => Uint8Array; code: ImageErrorCode }[] = [
  { name: "no ar archive", bytes: () => Buffer.from("!<arch>"), code: "archive/format" },
  { name: "an empty file", bytes: () => new Uint8Array(0), code: "archive/format" },
  { name: "an archive without members", bytes: () => Buffer.from("!<arch>\n"), code: "archive/format" },
  { name: "a truncated member", bytes: () => good().subarray(0, -40), code: "archive/truncated" },
  { name: "a truncated header", bytes: () => good().subarray(0, 8 + 30), code: "archive/truncated" },
  {
    name: "another format version",
    bytes: () => makeDeb(gzipSync(tar), { data: "data.tar.gz", version: "3.0\n" }),
    code: "archive/format",
  },
  {
    name: "an unknown compression",
    bytes: () => makeDeb(tar, { data: "data.tar.lzma" }),
    code: "archive/format",
  },
  {
    name: "members in another order",
    bytes: () => makeDeb(tar, { data: "control.tar" }),
    code: "archive/format",
  },
];

for (const { name, bytes, code } of broken) {
  test(`refused: ${name}`, async () => {
    await rejects(read(bytes()), { code });
  });
}

test("a flipped bit gives entries or an ImageError, never anything else", async () => {
  const sample = good();
  await fc.assert(
    fc.asyncProperty(fc.nat(sample.length - 1), fc.nat(7), async (at, bit) => {
      const copy = Buffer.from(sample);
      copy[at]! ^= 1 << bit;
      await read(copy).catch((error: unknown) => {
        if (!(error instanceof ImageError)) throw error;
      });
    }),
    { numRuns: 150 },
  );
});
