// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notDeepEqual, throws } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { allocate } from "./allocate.node.ts";
import { frame, text, u32, u64 } from "./frame.ts";

test("a frame is the length and the bytes of each field, domain first", () => {
  deepEqual(
    Buffer.from(frame("ab", Uint8Array.of(1), new Uint8Array())).toString("hex"),
    "00000002616200000001" + "0100000000",
  );
});

test("integers are big endian", () => {
  deepEqual([...u32(0x01020304)], [1, 2, 3, 4]);
  deepEqual([...u64(Number.MAX_SAFE_INTEGER)], [0, 0x1f, 255, 255, 255, 255, 255, 255]);
});

test("an integer of eight bytes is the same as a number and as a bigint", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      const bytes = u64(value);
      deepEqual(bytes, u64(BigInt(value)));
      deepEqual(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0), BigInt(value));
    }),
  );
  deepEqual([...u64(2n ** 64n - 1n)], Array(8).fill(255));
  for (const wrong of [-1, 0.5, 2 ** 53, Number.NaN]) throws(() => u64(wrong), RangeError);
});

test("text is UTF-8, also where it is not ASCII", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (value) => {
      deepEqual([...text(value)], [...Buffer.from(value)]);
    }),
  );
});

test("arrays that share a buffer do not share bytes", () => {
  const sizes = fc.array(fc.nat({ max: 2000 }), { maxLength: 40 });
  fc.assert(
    fc.property(sizes, (list) => {
      const arrays = list.map((size, i) => allocate(size).fill(i));
      for (const [i, array] of arrays.entries()) {
        equal(array.length, list[i]);
        equal(
          array.every((byte) => byte === i),
          true,
        );
      }
      equal(
        allocate(300).every((byte) => byte === 0),
        true,
      );
    }),
  );
});

test("moving bytes from one field to the next changes the frame", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1 }), fc.uint8Array(), (a, b) => {
      const moved = [a.subarray(0, -1), Uint8Array.of(a.at(-1)!, ...b)];
      notDeepEqual(frame("d", a, b), frame("d", ...moved));
    }),
  );
});

test("different lists of fields give different frames", () => {
  const list = fc.array(fc.uint8Array({ maxLength: 6 }), { maxLength: 4 });
  fc.assert(
    fc.property(list, list, (a, b) => {
      const same = a.length === b.length && a.every((field, i) => Buffer.compare(field, b[i]!) === 0);
      (same ? deepEqual : notDeepEqual)(frame("d", ...a), frame("d", ...b));
    }),
  );
});

test("a frame of one domain is never one of another", () => {
  notDeepEqual(frame("caisson/a", text("b")), frame("caisson/ab"));
});
