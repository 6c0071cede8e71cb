// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { eraseVariables } from "./variable-store.ts";

/** A firmware image of 64 KiB: a variable store of 0x2000 bytes with something in it, then code. */
function firmware(): Buffer {
  const bytes = Buffer.alloc(0x10000, 0xc0);
  bytes.write("_FVH", 40, "latin1");
  bytes.writeUInt16LE(72, 48);
  bytes.write("782cf3aa7b949a43a1802e144ec37792", 72, "hex");
  bytes.writeUInt32LE(0x2000, 72 + 16);
  bytes[72 + 20] = 0x5a;
  bytes[72 + 21] = 0xfe;
  return bytes;
}

test("every byte of the store is erased, none outside of it, and the input stays as it was", () => {
  const input = firmware();
  const output = Buffer.from(eraseVariables(input));
  equal(
    output.subarray(100, 72 + 0x2000).every((byte) => byte === 0xff),
    true,
  );
  deepEqual(output.subarray(0, 100), input.subarray(0, 100));
  deepEqual(output.subarray(72 + 0x2000), input.subarray(72 + 0x2000));
  equal(input[100], 0xc0);
});

for (const [name, change] of [
  ["no volume", (bytes: Buffer) => bytes.fill(0, 40, 44)],
  ["another kind of store", (bytes: Buffer) => bytes.fill(0, 72, 88)],
  ["a store beyond the image", (bytes: Buffer) => bytes.writeUInt32LE(0xffffffff, 88)],
  ["a store smaller than its header", (bytes: Buffer) => bytes.writeUInt32LE(27, 88)],
  ["a header beyond the image", (bytes: Buffer) => bytes.writeUInt16LE(0xffff, 48)],
  ["an unformatted store", (bytes: Buffer) => bytes.writeUInt8(0xff, 92)],
] as const) {
  test(`${name} is refused`, () => {
    const bytes = firmware();
    change(bytes);
    throws(() => eraseVariables(bytes), { code: "firmware/variables" });
  });
}

test("any bytes give an image of the same size or that error", () => {
  const header = fc.uint8Array({ maxLength: 128 });
  fc.assert(
    fc.property(header, fc.nat(0x10000), (patch, at) => {
      const bytes = firmware();
      bytes.set(patch.subarray(0, Math.max(0, bytes.length - at)), Math.min(at, bytes.length));
      try {
        equal(eraseVariables(bytes).length, bytes.length);
      } catch (error) {
        equal((error as { code?: string }).code, "firmware/variables");
      }
    }),
  );
});
