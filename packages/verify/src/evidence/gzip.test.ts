// SPDX-License-Identifier: Apache-2.0
import { deepEqual, throws } from "node:assert/strict";
import test from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { GzipError, gunzip } from "./gzip.ts";

const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 3000 }),
  // Of few letters, so that there is something to compress.
  fc.array(fc.constantFrom(65, 66, 67), { maxLength: 3000 }).map((list) => Uint8Array.from(list)),
  fc
    .tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.nat(300))
    .map(([part, times]) => new Uint8Array(Buffer.concat(Array(times).fill(part)))),
);

test("what zlib compressed, at every level", () => {
  fc.assert(
    fc.property(bytes, fc.integer({ min: 0, max: 9 }), (input, level) => {
      deepEqual(gunzip(new Uint8Array(gzipSync(input, { level })), input.length), input);
    }),
  );
});

test("one byte more than was allowed is too much", () => {
  const packed = new Uint8Array(gzipSync(new Uint8Array(100_000)));
  throws(() => gunzip(packed, 99_999), /more than 99999 bytes/);
  deepEqual(gunzip(packed, 100_000), new Uint8Array(100_000));
});

test("truncated, continued and changed inputs are refused", () => {
  const input = new Uint8Array(Buffer.from("a report of a guest, a report of another guest ".repeat(20)));
  const packed = new Uint8Array(gzipSync(input));
  for (let end = 0; end < packed.length; end++)
    throws(() => gunzip(packed.subarray(0, end), 4096), GzipError);
  throws(() => gunzip(Uint8Array.from([...packed, 0]), 4096), GzipError);
  for (let at = 0; at < packed.length; at++) {
    for (let bit = 0; bit < 8; bit++) {
      // Time, compression and system say nothing about the content.
      if (at >= 4 && at < 10) continue;
      throws(() => gunzip(packed.with(at, packed[at]! ^ (1 << bit)), 4096), GzipError, `${at}/${bit}`);
    }
  }
});

test("garbage behind a header ends, and never as anything else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (garbage) => {
      const input = Uint8Array.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, ...garbage]);
      try {
        gunzip(input, 4096);
      } catch (error) {
        if (!(error instanceof GzipError)) throw error;
      }
    }),
  );
});
