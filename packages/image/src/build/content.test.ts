// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { hash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { bytesOf, digest, sizeOf } from "./content.ts";

const place = temporaryDirectory("content");

const bytes = Buffer.from(Array.from({ length: 2_500_000 }, (_, i) => (i * 7) >> 3));
const path = join(place, "f");
writeFileSync(path, bytes);

test("a content of several chunks is read whole, from a file and from a part of one", () => {
  equal(hash("sha256", bytesOf({ path, size: bytes.length })), hash("sha256", bytes));
  const part = { path, size: 1_200_000, offset: 1_100_003 };
  deepEqual(bytesOf(part), bytes.subarray(part.offset, part.offset + part.size));
  equal(digest(part), hash("sha256", bytes.subarray(part.offset, part.offset + part.size)));
});

test("a digest that is known is not computed again, but checked when the bytes are read", () => {
  const known = { path, size: 10, offset: 0, sha256: "0".repeat(64) };
  equal(digest(known), "0".repeat(64));
  throws(() => bytesOf(known), { code: "erofs/changed" });
});

test("bytes in memory are themselves", () => {
  equal(bytesOf(bytes), bytes);
  equal(sizeOf(bytes), bytes.length);
  equal(digest(bytes), hash("sha256", bytes));
});

test("a file that is longer or shorter than it was is refused", () => {
  throws(() => bytesOf({ path, size: bytes.length - 1 }), { code: "erofs/changed" });
  throws(() => bytesOf({ path, size: bytes.length + 1 }), { code: "erofs/changed" });
});
