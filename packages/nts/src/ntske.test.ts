// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { NtsError } from "./errors.ts";
import {
  decodeAnswer,
  encodeRecord,
  encodeRequest,
  exporterContext,
  maxMessageBytes,
  messageLength,
  recordType,
} from "./ntske.ts";

const empty = new Uint8Array(0);
const record = {
  ntpv4: encodeRecord(recordType.nextProtocol, Uint8Array.of(0, 0), true),
  siv: encodeRecord(recordType.aead, Uint8Array.of(0, 15), false),
  cookie: encodeRecord(recordType.cookie, new Uint8Array(100).fill(7), false),
  end: encodeRecord(recordType.endOfMessage, empty, true),
};
const message = (...records: Uint8Array[]) => new Uint8Array(Buffer.concat(records));
const good = message(record.ntpv4, record.siv, record.cookie, record.cookie, record.end);

test("the request is the one of RFC 8915: NTPv4, AES-SIV-CMAC-256, end", () => {
  equal(Buffer.from(encodeRequest()).toString("hex"), "80010002000080040002000f80000000");
});

test("exporter contexts differ in the direction", () => {
  deepEqual([...exporterContext("client-to-server")], [0, 0, 0, 15, 0]);
  deepEqual([...exporterContext("server-to-client")], [0, 0, 0, 15, 1]);
});

test("an answer with everything", () => {
  const server = encodeRecord(recordType.server, Buffer.from("ntp.example.org"), true);
  const port = encodeRecord(recordType.port, Uint8Array.of(0x12, 0x34), true);
  const unknown = encodeRecord(0x3fff, Uint8Array.of(1), false);
  const answer = decodeAnswer(
    message(unknown, record.siv, record.ntpv4, server, port, record.cookie, unknown, record.end),
  );
  deepEqual([answer.server, answer.port, answer.cookies.length], ["ntp.example.org", 0x1234, 1]);
});

test("at most eight cookies are kept", () => {
  const cookies = Array.from({ length: 20 }, () => record.cookie);
  equal(decodeAnswer(message(record.ntpv4, record.siv, ...cookies, record.end)).cookies.length, 8);
});

suite("refused answers", () => {
  const { ntpv4, siv, cookie, end } = record;
  const cases: [name: string, code: string, ...records: Uint8Array[]][] = [
    ["no End of Message", "ke/malformed", ntpv4, siv, cookie],
    ["bytes after End of Message", "ke/malformed", ntpv4, siv, cookie, end, cookie],
    ["End of Message not critical", "ke/malformed", ntpv4, siv, cookie, encodeRecord(0, empty, false)],
    [
      "End of Message with a body",
      "ke/malformed",
      ntpv4,
      siv,
      cookie,
      encodeRecord(0, Uint8Array.of(1), true),
    ],
    [
      "Next Protocol not critical",
      "ke/malformed",
      encodeRecord(1, Uint8Array.of(0, 0), false),
      siv,
      cookie,
      end,
    ],
    ["two Next Protocol records", "ke/malformed", ntpv4, ntpv4, siv, cookie, end],
    ["two AEAD records", "ke/malformed", ntpv4, siv, siv, cookie, end],
    ["no Next Protocol", "ke/malformed", siv, cookie, end],
    ["no AEAD", "ke/malformed", ntpv4, cookie, end],
    ["no cookie", "ke/negotiation", ntpv4, siv, end],
    ["an empty cookie", "ke/malformed", ntpv4, siv, encodeRecord(5, empty, false), end],
    ["a cookie of 1025 bytes", "ke/malformed", ntpv4, siv, encodeRecord(5, new Uint8Array(1025), false), end],
    ["another protocol", "ke/negotiation", encodeRecord(1, Uint8Array.of(0, 1), true), siv, cookie, end],
    ["an empty protocol list", "ke/negotiation", encodeRecord(1, empty, true), end],
    ["two protocols", "ke/malformed", encodeRecord(1, Uint8Array.of(0, 0, 0, 1), true), siv, cookie, end],
    ["an empty AEAD list", "ke/negotiation", ntpv4, encodeRecord(4, empty, true), end],
    ["another AEAD", "ke/negotiation", ntpv4, encodeRecord(4, Uint8Array.of(0, 16), true), cookie, end],
    ["an unknown critical record", "ke/critical", ntpv4, siv, encodeRecord(99, empty, true), cookie, end],
    ["error: bad request", "ke/refused", encodeRecord(2, Uint8Array.of(0, 1), true), end],
    ["error: unknown", "ke/refused", encodeRecord(2, Uint8Array.of(9, 9), true), end],
    ["a warning", "ke/refused", ntpv4, siv, encodeRecord(3, Uint8Array.of(0, 0), true), cookie, end],
    ["port 0", "ke/malformed", ntpv4, siv, encodeRecord(7, Uint8Array.of(0, 0), true), cookie, end],
    [
      "port of three bytes",
      "ke/malformed",
      ntpv4,
      siv,
      encodeRecord(7, Uint8Array.of(0, 0, 9), true),
      cookie,
      end,
    ],
    [
      "a server name with a slash",
      "ke/malformed",
      ntpv4,
      siv,
      encodeRecord(6, Buffer.from("a/b"), true),
      cookie,
      end,
    ],
    ["an empty server name", "ke/malformed", ntpv4, siv, encodeRecord(6, empty, true), cookie, end],
  ];
  for (const [name, code, ...records] of cases) {
    test(name, () => throws(() => decodeAnswer(message(...records)), { code }));
  }
  test("every truncation", () => {
    for (let length = 0; length < good.length; length++) {
      throws(() => decodeAnswer(good.subarray(0, length)), { code: "ke/malformed" });
      equal(messageLength(good.subarray(0, length)), undefined);
    }
    equal(messageLength(good), good.length);
    equal(messageLength(message(good, record.cookie)), good.length);
  });
  test("an answer that never ends", () => {
    throws(() => messageLength(new Uint8Array(maxMessageBytes + 1).fill(1)), { code: "ke/malformed" });
    throws(() => messageLength(encodeRecord(5, new Uint8Array(65535), false)), { code: "ke/malformed" });
  });
});

test("no bytes make it crash or return an answer without cookies", () => {
  const flips = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 4 });
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    flips.map((changes) => {
      const changed = good.slice();
      for (const [at, value] of changes) changed[at] = value;
      return changed;
    }),
  );
  fc.assert(
    fc.property(bytes, (received) => {
      try {
        const { cookies } = decodeAnswer(received);
        ok(cookies.length >= 1 && cookies.length <= 8);
      } catch (error) {
        ok(error instanceof NtsError);
      }
    }),
    { numRuns: 2000 },
  );
});
