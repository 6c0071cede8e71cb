// SPDX-License-Identifier: Apache-2.0
import { doesNotThrow, throws } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { Messages } from "./messages.ts";
import { message } from "./testing/message.ts";

const cut = (bytes: Buffer, at: number[]) =>
  [0, ...at.toSorted((a, b) => a - b), bytes.length].map((from, i, all) => bytes.subarray(from, all[i + 1]));
const cuts = (bytes: Buffer) => fc.array(fc.nat(bytes.length), { maxLength: 6 });

const good = Buffer.concat([
  message("R", 0, 0, 0, 0),
  message("Z", "I"),
  message("1"),
  message("E", "SFATAL\0C57P01\0Mbye\0\0"),
  message("N", "\0"),
  message("D", 0, 1, 0, 0, 0, 1, "E"),
]);
test("what PostgreSQL says passes, wherever the network cuts it", () => {
  fc.assert(
    fc.property(cuts(good), (at) => {
      const messages = new Messages();
      doesNotThrow(() => cut(good, at).forEach((piece) => messages.follow(piece)));
    }),
  );
});

/** The answer to one statement: its rows, and the end. */
const rows = (count: number, of = message("D", 0, 1, 0, 0, 0, 1, "E")) => [
  message("T", 0, 1, "c", 0),
  ...Array<Buffer>(count).fill(of),
  message("C", "SELECT\0"),
  message("Z", "I"),
];
const follow = (pieces: readonly Buffer[]) => {
  const messages = new Messages();
  for (const piece of pieces) messages.follow(piece);
};

test("an answer has so many messages and bytes at most, however many answers there are", () => {
  const [half, mebibyte] = [2 ** 16, message("D", 0, 1, "x".repeat(2 ** 20))];
  doesNotThrow(() => follow([...rows(half), ...rows(half), ...rows(half)]));
  throws(() => follow(rows(2 * half)), { message: "more than 131072 messages" });
  // Results without rows are kept, too.
  throws(() => follow(Array.from({ length: half + 1 }, () => rows(0).slice(0, 2)).flat()), /messages/);
  doesNotThrow(() => follow([...rows(100, mebibyte), ...rows(100, mebibyte)]));
  throws(() => follow(rows(128, mebibyte)), { message: "more than 134217728 bytes" });
});

test("a row has so many columns at most: each would have all that are announced", () => {
  doesNotThrow(() => follow([message("T", 0, 64, "c", 0)]));
  throws(() => follow([message("T", 255, 255, "c", 0)]), { message: "rows of 65535 columns" });
});

const length = (bytes: number) =>
  Buffer.from([0x44, bytes >>> 24, (bytes >> 16) & 255, (bytes >> 8) & 255, bytes & 255]);
for (const [name, bytes] of Object.entries({
  "an error without a field": message("E"),
  "an error whose field has no end": message("E", "SFATAL"),
  "an error without the last zero": message("E", "SFATAL\0"),
  "a notice without the last zero": message("N", "SFATAL\0C57P01\0"),
  "an error of a megabyte": message("E", "x".repeat(2 ** 20)),
  "a length that does not count itself": length(3),
  "a message of two gigabytes": length(0x7fff_ffff),
})) {
  test(`refused, wherever the network cuts it: ${name}`, () => {
    fc.assert(
      fc.property(cuts(bytes), (at) => {
        const messages = new Messages();
        throws(() => cut(Buffer.concat([good, bytes]), at).forEach((piece) => messages.follow(piece)), Error);
      }),
      { numRuns: 20 },
    );
  });
}
