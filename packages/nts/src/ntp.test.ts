// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { NtsError } from "./errors.ts";
import {
  decodeReply,
  encodeAuthenticator,
  encodeField,
  encodeRequest,
  fields,
  fieldType,
  ntpTimestamp,
  unixMilliseconds,
} from "./ntp.ts";
import { siv as nativeSiv } from "./siv.openssl.ts";
import { portableSiv } from "./siv-portable.ts";

const now = Date.UTC(2026, 5, 1, 12, 34, 56, 789);
const key = new Uint8Array(32).map((_, i) => i);
const request = {
  key,
  cookie: new Uint8Array(100).fill(9),
  placeholders: 0,
  uniqueIdentifier: new Uint8Array(32).fill(5),
  nonce: new Uint8Array(16).fill(6),
  transmit: new Uint8Array(8).fill(7),
};

interface Shape {
  first?: number;
  stratum?: number;
  precision?: number;
  kiss?: string;
  origin?: Uint8Array;
  receive?: number;
  transmit?: number;
  identifiers?: Uint8Array[];
  inside?: Uint8Array;
  after?: Uint8Array;
  sealed?: boolean;
}

/** A server's reply, correct but for what `shape` says. */
function reply(shape: Shape = {}): Uint8Array {
  const header = new Uint8Array(48);
  const view = new DataView(header.buffer);
  header[0] = shape.first ?? (4 << 3) | 4;
  header[1] = shape.stratum ?? 1;
  view.setInt8(3, shape.precision ?? -20);
  view.setUint32(4, 65536 / 64); // root delay 1/64 s
  view.setUint32(8, 65536 / 128); // root dispersion 1/128 s
  header.set(Buffer.from(shape.kiss ?? "GPS\0", "latin1"), 12);
  header.set(shape.origin ?? request.transmit, 24);
  view.setBigUint64(32, ntpTimestamp(shape.receive ?? now));
  view.setBigUint64(40, ntpTimestamp(shape.transmit ?? now + 1));
  const identifiers = shape.identifiers ?? [request.uniqueIdentifier];
  const packet = Buffer.concat([
    header,
    ...identifiers.map((id) => encodeField(fieldType.uniqueIdentifier, id)),
  ]);
  if (shape.sealed === false) return new Uint8Array(packet);
  const inside = shape.inside ?? encodeField(fieldType.cookie, new Uint8Array(100).fill(1));
  const authenticator = encodeAuthenticator(packet, key, new Uint8Array(16).fill(8), inside);
  return new Uint8Array(Buffer.concat([packet, authenticator, shape.after ?? new Uint8Array(0)]));
}

const decode = (packet: Uint8Array) => decodeReply(packet, request, key, now);

test("a good reply", () => {
  const decoded = decode(reply());
  ok(Math.abs(decoded.receive - now) < 0.001 && Math.abs(decoded.transmit - now - 1) < 0.001);
  deepEqual([decoded.rootDelay, decoded.rootDispersion], [15.625, 7.8125]);
  equal(decoded.cookies[0]!.length, 100);
});

test("a coarse clock may contradict itself by what it says of its precision, which is passed on", () => {
  const decoded = decode(reply({ receive: now + 120, transmit: now, precision: -4 }));
  equal(decoded.precision, 62.5);
  ok(decoded.transmit < decoded.receive);
  equal(decode(reply({ precision: 1 })).precision, 2000);
});

test("a request tells nothing about this machine, and its authenticator covers all before it", () => {
  const packet = encodeRequest(request);
  equal(packet[0], 0x23);
  ok(packet.subarray(1, 40).every((byte) => byte === 0));
  const found = [...fields(packet, 48)];
  deepEqual(
    found.map((field) => [field.type, field.value.length]),
    [
      [fieldType.uniqueIdentifier, 32],
      [fieldType.cookie, 100],
      [fieldType.authenticator, 36],
    ],
  );
  const { at, value } = found.at(-1)!;
  const open = (siv: typeof nativeSiv) =>
    siv.open(key, [packet.subarray(0, at), value.subarray(4, 20)], value.subarray(20, 36));
  equal(open(nativeSiv).length, 0);
  equal(open(portableSiv).length, 0);
});

test("placeholders are as long as the cookie, and left out when the packet would not fit", () => {
  const sizes = (placeholders: number, cookie: number) =>
    [...fields(encodeRequest({ ...request, placeholders, cookie: new Uint8Array(cookie) }), 48)]
      .filter((field) => field.type === fieldType.cookiePlaceholder)
      .map((field) => field.value.length);
  deepEqual(sizes(3, 100), [100, 100, 100]);
  equal(sizes(7, 200).length, 4);
  equal(sizes(7, 1000).length, 0);
  ok(encodeRequest({ ...request, placeholders: 7, cookie: new Uint8Array(140) }).length <= 1232);
});

suite("refused replies", () => {
  const cases: [name: string, code: string, shape: Shape][] = [
    ["another mode", "ntp/malformed", { first: (4 << 3) | 3 }],
    ["another version", "ntp/malformed", { first: (3 << 3) | 4 }],
    ["another origin timestamp", "ntp/mismatch", { origin: new Uint8Array(8) }],
    ["another unique identifier", "ntp/mismatch", { identifiers: [new Uint8Array(32)] }],
    ["a shorter unique identifier", "ntp/mismatch", { identifiers: [new Uint8Array(28).fill(5)] }],
    ["no unique identifier", "ntp/mismatch", { identifiers: [] }],
    [
      "two unique identifiers",
      "ntp/mismatch",
      { identifiers: [request.uniqueIdentifier, request.uniqueIdentifier] },
    ],
    ["no authenticator", "ntp/authentication", { sealed: false }],
    [
      "an unauthenticated kiss other than NTSN",
      "ntp/authentication",
      { sealed: false, stratum: 0, kiss: "DENY" },
    ],
    ["NTSN", "ntp/nak", { sealed: false, stratum: 0, kiss: "NTSN" }],
    ...["DENY", "RSTR", "RATE"].map((kiss): [string, string, Shape] => [
      `an authenticated kiss: ${kiss}`,
      "ntp/kiss",
      { stratum: 0, kiss },
    ]),
    ...["INIT", "STEP", "AUTO", "XFAC", "\0\0\0\0", "deny"].map((kiss): [string, string, Shape] => [
      `stratum 0 with ${JSON.stringify(kiss)}: not yet`,
      "ntp/unsynchronized",
      { stratum: 0, kiss, first: (3 << 6) | (4 << 3) | 4, precision: 0, transmit: 0 },
    ]),
    ["stratum 16", "ntp/unsynchronized", { stratum: 16 }],
    ["leap alarm", "ntp/unsynchronized", { first: (3 << 6) | (4 << 3) | 4 }],
    ["sent before received", "ntp/malformed", { receive: now + 2 }],
    ["sent before received, beyond a coarse clock", "ntp/malformed", { receive: now + 127, precision: -4 }],
    ["broken fields inside", "ntp/malformed", { inside: Uint8Array.of(2, 4, 0, 3) }],
  ];
  for (const [name, code, shape] of cases) {
    test(name, () => throws(() => decode(reply(shape)), { code }));
  }
  test("every flipped bit before and in the authenticator", () => {
    const packet = reply();
    for (let bit = 0; bit < packet.length * 8; bit++) {
      const changed = packet.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      throws(() => decode(changed), NtsError, `bit ${bit}`);
    }
  });
  test("every truncation", () => {
    const packet = reply();
    for (let length = 0; length < packet.length; length++) {
      throws(() => decode(packet.subarray(0, length)), NtsError, `${length} bytes`);
    }
  });
  test("the other direction's key", () => {
    throws(() => decodeReply(reply(), request, new Uint8Array(32), now), { code: "ntp/authentication" });
  });
});

test("cookies behind the authenticator are not authenticated and not taken", () => {
  const after = encodeField(fieldType.cookie, new Uint8Array(100).fill(66));
  equal(decode(reply({ after })).cookies.length, 1);
});

test("oversized and surplus cookies are not taken", () => {
  const inside = Buffer.concat([
    encodeField(fieldType.cookie, new Uint8Array(2000)),
    ...Array.from({ length: 20 }, () => encodeField(fieldType.cookie, new Uint8Array(8))),
  ]);
  deepEqual(new Set(decode(reply({ inside })).cookies.map((cookie) => cookie.length)), new Set([8]));
  equal(decode(reply({ inside })).cookies.length, 8);
});

test("no bytes make it crash", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 48, maxLength: 400 }), (tail) => {
      tail[0] = (4 << 3) | 4;
      tail.set(request.transmit, 24);
      throws(() => decode(tail), NtsError);
    }),
    { numRuns: 1000 },
  );
});

test("timestamps survive the turn of the era in 2036, seen from either side", () => {
  const turn = Date.UTC(2036, 1, 7, 6, 28, 16);
  for (const at of [turn - 1000, turn, turn + 1000, now, Date.UTC(1970, 0, 1), Date.UTC(2099, 0, 1)]) {
    for (const near of [at, at - 60 * 365.25 * 86_400_000, at + 60 * 365.25 * 86_400_000]) {
      ok(Math.abs(unixMilliseconds(ntpTimestamp(at), near) - at) < 0.001);
    }
  }
});
