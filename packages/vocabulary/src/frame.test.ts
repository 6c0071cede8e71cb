// SPDX-License-Identifier: Apache-2.0
import { deepEqual, notDeepEqual } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
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
