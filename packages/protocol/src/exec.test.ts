// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ExecReader, encodeFrames, encodeRequest, type FrameKind, frameKinds } from "./exec.ts";

const request = { token: "ab".repeat(32), service: "web", arguments: ["ls", "-l", "/"] };
const kinds = Object.keys(frameKinds) as FrameKind[];

test("a request and frames come out as they went in, however the bytes are cut", () => {
  const frames = fc.array(fc.tuple(fc.constantFrom(...kinds), fc.uint8Array({ maxLength: 200 })), {
    maxLength: 8,
  });
  fc.assert(
    fc.property(frames, fc.integer({ min: 1, max: 50 }), (list, size) => {
      const bytes = Buffer.concat([
        encodeRequest(request),
        ...list.map(([kind, part]) => encodeFrames(kind, part)),
      ]);
      const reader = new ExecReader();
      let found: unknown;
      const seen: [FrameKind, string][] = [];
      for (let at = 0; at < bytes.length; at += size) {
        reader.push(bytes.subarray(at, at + size));
        found ??= reader.request();
        if (found === undefined) continue;
        for (let frame = reader.frame(); frame !== undefined; frame = reader.frame())
          seen.push([frame.kind, frame.bytes.toString("hex")]);
      }
      deepEqual(found, request);
      deepEqual(
        seen,
        list.map(([kind, part]) => [kind, Buffer.from(part).toString("hex")]),
      );
    }),
  );
});

test("what is longer than a frame is several, and nothing is an end", () => {
  const reader = new ExecReader();
  reader.push(encodeFrames("output", Buffer.alloc(150_000, 1)));
  reader.push(encodeFrames("input", Buffer.alloc(0)));
  const sizes: number[] = [];
  for (let frame = reader.frame(); frame !== undefined; frame = reader.frame())
    sizes.push(frame.bytes.length);
  deepEqual(sizes, [65_536, 65_536, 18_928, 0]);
});

test("what is not the format is refused before it is waited for", () => {
  const read = (hex: string, what: "request" | "frame") => () => {
    const reader = new ExecReader();
    reader.push(Buffer.from(hex, "hex"));
    return reader[what]();
  };
  equal(read("000000", "request")(), undefined);
  throws(read("ffffffff", "request"), RangeError);
  throws(read("000000027b7d", "request"), RangeError);
  throws(read("0500000000", "frame"), RangeError);
  throws(read("0100010001", "frame"), RangeError);
  equal(read("0100000005aa", "frame")(), undefined);
});
