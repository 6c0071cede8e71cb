// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  type BinaryRequest,
  MessageError,
  ResponseReader,
  readRequest,
  readVarint,
  responseContent,
  responseEnd,
  responseHead,
  varint,
  writeRequest,
} from "./binary-http.ts";

const bytes = (hex: string) => Uint8Array.fromHex(hex);
const text = (value: string) => new TextEncoder().encode(value);

test("numbers of RFC 9000, appendix A.1", () => {
  for (const [hex, value] of [
    ["c2197c5eff14e88c", undefined],
    ["9d7f3e7d", 494_878_333],
    ["7bbd", 15_293],
    ["25", 37],
    ["4025", 37],
  ] as const) {
    if (value === undefined) throws(() => readVarint(bytes(hex)), MessageError);
    else deepEqual(readVarint(bytes(hex)), { value, size: hex.length / 2 });
  }
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      if (value < 2 ** 62) deepEqual(readVarint(varint(value)), { value, size: varint(value).length });
    }),
  );
});

test("the request of the tunnel's draft", () => {
  deepEqual(readRequest(bytes("00034745540568747470730b6578616d706c652e636f6d012f")), {
    method: "GET",
    scheme: "https",
    authority: "example.com",
    path: "/",
    fields: [],
    content: new Uint8Array(),
  } satisfies BinaryRequest);
});

test("RFC 9292, section 5.1: both forms of one request, with padding", () => {
  const known =
    "00034745540568747470730a2f68656c6c6f2e747874406c0a757365722d6167656e74346375726c2f372e31362e33206c69626375726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f7777772e6578616d706c652e636f6d0f6163636570742d6c616e677561676506656e2c206d690000";
  // The RFC's authority is empty: its length stands before the path.
  const fixed = known.replace("0a2f68656c6c6f2e747874", "000a2f68656c6c6f2e747874");
  const request = readRequest(bytes(fixed));
  deepEqual(
    [request.method, request.scheme, request.authority, request.path],
    ["GET", "https", "", "/hello.txt"],
  );
  deepEqual(request.fields, [
    ["user-agent", "curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"],
    ["host", "www.example.com"],
    ["accept-language", "en, mi"],
  ]);
  const lines = fixed.slice(fixed.indexOf("406c") + 4, -4);
  const head = fixed.slice(2, fixed.indexOf("406c"));
  const indeterminate = `02${head}${lines}000000${"00".repeat(10)}`;
  deepEqual(readRequest(bytes(indeterminate)), request);
});

const token = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);
const value = fc.stringMatching(/^[!-~]([ -~]{0,30}[!-~])?$/);
const anyRequest = fc.record({
  method: fc.constantFrom("GET", "POST", "DELETE"),
  scheme: fc.constant("https"),
  authority: fc.constant("guest.example"),
  path: fc.stringMatching(/^\/[a-z0-9/?=&]{0,40}$/),
  fields: fc.array(fc.tuple(token, value), { maxLength: 10 }),
  content: fc.uint8Array({ maxLength: 5000 }),
});

test("a request that was written is read as it was, and cut off anywhere it is not", () => {
  fc.assert(
    fc.property(anyRequest, fc.nat(), (request, at) => {
      const written = writeRequest(request);
      const read = readRequest(written);
      deepEqual({ ...read, content: [...read.content] }, { ...request, content: [...request.content] });
      const cut = written.subarray(0, at % written.length);
      // What ends before its fields or its content means that there are none.
      try {
        const less = readRequest(cut);
        equal(less.fields.length === 0 || less.content.length === 0, true);
      } catch (error) {
        equal(error instanceof MessageError, true);
      }
    }),
  );
});

test("any bytes are a request or a MessageError", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(0, 2), (rest, kind) => {
      try {
        readRequest(Uint8Array.of(kind, ...rest));
      } catch (error) {
        equal(error instanceof MessageError, true, String(error));
      }
    }),
    { numRuns: 1000 },
  );
});

test("names and values that HTTP does not allow are refused in both directions", () => {
  const request = { method: "GET", scheme: "https", authority: "a", path: "/", content: new Uint8Array() };
  for (const field of [
    ["Upper", "x"],
    ["with space", "x"],
    ["", "x"],
    [":path", "/"],
    ["a", "x\r\nb: c"],
    ["a", "x\0"],
    ["a", " x"],
    ["a", "x "],
    ["a", "\u0100"],
  ] as const) {
    throws(() => writeRequest({ ...request, fields: [field] }), MessageError, field.join(": "));
  }
  // "a: x\n" as bytes.
  throws(
    () => readRequest(bytes("000347455405687474707301610 12f0501610278 0a".replaceAll(" ", ""))),
    MessageError,
  );
  throws(() => readRequest(Uint8Array.from([...writeRequest({ ...request, fields: [] }), 1])), MessageError);
});

test("a response arrives in pieces; 1xx are passed over; cut off it is refused", () => {
  const whole = Buffer.concat([
    varint(3),
    varint(103),
    Uint8Array.of(0),
    responseHead(200, [["content-type", "text/plain"]]).subarray(1),
    responseContent(text("hello ")),
    responseContent(text("world")),
    responseEnd,
  ]);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: whole.length }), (piece) => {
      const reader = new ResponseReader();
      const parts: Uint8Array[] = [];
      for (let at = 0; at < whole.length; at += piece)
        parts.push(...reader.push(whole.subarray(at, at + piece)));
      reader.end();
      deepEqual(reader.head, { status: 200, fields: [["content-type", "text/plain"]] });
      equal(Buffer.concat(parts).toString(), "hello world");
    }),
  );
  for (let end = 0; end < whole.length - 1; end++) {
    const reader = new ResponseReader();
    reader.push(whole.subarray(0, end));
    throws(() => reader.end(), MessageError, `cut at ${end}`);
  }
  // Known length: the draft's answer, without anything behind its status.
  const short = new ResponseReader();
  short.push(bytes("0140c800"));
  short.end();
  equal(short.head?.status, 200);
  throws(() => new ResponseReader().push(bytes("00")), MessageError);
  throws(() => new ResponseReader().push(bytes("0143e7")), MessageError);
});

test("any bytes are a response, the beginning of one, or a MessageError", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(1, 3), (rest, kind) => {
      try {
        const reader = new ResponseReader();
        reader.push(Uint8Array.of(kind, ...rest));
        reader.end();
      } catch (error) {
        equal(error instanceof MessageError, true, String(error));
      }
    }),
    { numRuns: 1000 },
  );
});
