// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseDocument } from "yaml";
import { repeatedKey } from "./yaml-keys.ts";

const found = (text: string) => {
  const document = parseDocument(text, { uniqueKeys: false });
  deepEqual(document.errors, []);
  return repeatedKey(document.contents);
};

for (const [what, text, name, offset] of [
  ["in the outermost map", "a: 1\nb: 2\na: 3\n", "a", 10],
  ["in a map inside a list", "- { a: 1, b: { c: 1 } }\n- { b: 1, b: 2 }\n", "b", 34],
  ["under two spellings of one text", 'a: 1\n"\\x61": 2\n', "a", 5],
  ["a number and a text that are one member of an object", 'm:\n  1: x\n  "1": y\n', "1", 12],
  ["two numbers that are", "1: x\n1.0: y\n", "1", 5],
  ["no key and an empty one", '? \n: x\n"": y\n', "", 7],
  ["two lists", "[a]: 1\n[a]: 2\n", '["a"]', 7],
] as const) {
  test(`a key that stands twice: ${what}`, () => deepEqual(found(text), { name, offset }));
}

test("keys of different maps may be alike", () => {
  for (const text of ["a: { a: { a: [{ a: 1 }, { a: 2 }] } }\n", "", "text", "[1, 1]", "a:\nb:\n"])
    equal(found(text), undefined);
});

test("what is accepted has as many members as keys", () => {
  const key = fc.constantFrom("a", '"a"', "1", '"1"', "0x1", "1.0", "null", '""', "true", '"true"', "b");
  fc.assert(
    fc.property(fc.array(key, { maxLength: 6 }), (keys) => {
      const text = `{${keys.map((one) => `${one}: 1`).join(", ")}}`;
      const members = Object.keys(parseDocument(text, { uniqueKeys: false }).toJS()).length;
      equal(found(text) === undefined, members === keys.length, text);
    }),
  );
});

test("eight times as many keys are looked through in some eight times the time", () => {
  const parsed = (count: number): unknown =>
    parseDocument(Array.from({ length: count }, (_, n) => `k${n}: 1`).join("\n"), { uniqueKeys: false })
      .contents;
  const processorTime = (node: unknown): number => {
    const before = process.cpuUsage();
    for (let n = 0; n < 20; n++) equal(repeatedKey(node), undefined);
    const { user, system } = process.cpuUsage(before);
    return user + system;
  };
  const [few, many] = [parsed(2_500), parsed(20_000)];
  processorTime(few);
  ok(processorTime(many) < 32 * processorTime(few));
});
