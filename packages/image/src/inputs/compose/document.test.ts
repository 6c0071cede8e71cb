// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ImageError } from "../../errors.ts";
import { readDocument, type Value } from "./document.ts";

const read = (text: string) => readDocument(text, "compose.yaml");

/** A value as JSON, lines left out. */
function plain(value: Value): unknown {
  if (value.kind === "nothing") return null;
  if (value.kind === "text") return value.text;
  if (value.kind === "list") return value.items.map(plain);
  return Object.fromEntries([...value.entries].map(([key, entry]) => [key, plain(entry.value)]));
}

test("every scalar is the text that stands there", () => {
  deepEqual(
    plain(read("a: 8080\nb: 0444\nc: 1.0\nd: yes\ne: 22:22\nf: ~\ng: ''\nh: null\ni:\nj: 1e3\nk: 0x10\n")),
    {
      a: "8080",
      b: "0444",
      c: "1.0",
      d: "yes",
      e: "22:22",
      f: null,
      g: "",
      h: null,
      i: null,
      j: "1e3",
      k: "0x10",
    },
  );
});

test("values know their lines", () => {
  const value = read("a:\n  - x\n  - b: y\nc: z\n");
  ok(value.kind === "map");
  equal(value.entries.get("c")?.line, 4);
  const list = value.entries.get("a")!.value;
  ok(list.kind === "list");
  deepEqual(
    list.items.map(({ line }) => line),
    [2, 3],
  );
});

test("anchors and merges: what stands in a map wins, then the earlier merge", () => {
  const text =
    "x: &x { a: 1, b: 2 }\ny: &y { b: 3, c: 4 }\nz:\n  c: own\n  <<: [*x, *y]\nw: { <<: *y, list: [*x] }\n";
  const { z, w } = plain(read(text)) as Record<string, unknown>;
  deepEqual(z, { c: "own", a: "1", b: "2" });
  deepEqual(w, { list: [{ a: "1", b: "2" }], b: "3", c: "4" });
});

const bomb = `a0: &a0 [x, x, x, x, x, x, x, x, x]\n${Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i}, `.repeat(9)}]`).join("\n")}\n`;
const refused: [what: string, text: string, message: RegExp][] = [
  ["an alias bomb", bomb, /unfolds to more than 50000 values/],
  [
    "a merge bomb",
    bomb
      .replaceAll("[", "{ <<: [")
      .replaceAll("]", "] }")
      .replaceAll("x, ", "{b: c}, ")
      .replaceAll("x]", "{b: c}]"),
    /unfolds|merges/,
  ],
  ["an anchor in itself", "a: &a [*a]\n", /contains itself|no anchor|Unresolved/],
  ["an alias without an anchor", "a: *none\n", /none/],
  ["a key twice", "a: 1\na: 2\n", /unique/],
  ["a key twice, written in two ways", "{ a: 1, 'a': 2 }\n", /unique/],
  ["two merges beside each other", "a: &a { b: c }\nd:\n  <<: *a\n  <<: *a\n", /unique/],
  ["two documents", "a: 1\n---\nb: 2\n", /document/],
  ["a tab for indentation", "a:\n\tb: 1\n", /line 2/],
  ["a merge of a text", "a:\n  <<: text\n", /merges maps only/],
  ["a map as a key", "{ a: 1 }: 2\n", /line 1/],
  ["a tag of another language", "a: !!python/object x\n", /line 1/],
  ["the key that objects inherit from", "__proto__: { a: 1 }\n", /line 1/],
  ["a deep nest", `${"[".repeat(60)}${"]".repeat(60)}`, /deep/],
  ["a nest that no parser's calls reach", "[".repeat(20_000), /too deep to be read/],
  ["a nest of lists in one line", `a:\n ${"- ".repeat(20_000)}x\nb: 1\n`, /too deep to be read/],
  ["more than 1 MiB", `a: ${"x".repeat(1 << 20)}`, /more than 1048576 bytes/],
];
for (const [what, text, message] of refused) {
  test(`refused: ${what}`, () => {
    throws(
      () => read(text),
      (error) =>
        error instanceof ImageError &&
        error.code === "compose/syntax" &&
        match(error.message, message) === undefined,
    );
  });
}

test("any text, and any part of a good one, is a tree or that error", () => {
  const good = "x: &x { a: 1 }\ns:\n  - *x\n  - { <<: *x, b: [c, 'd'] }\n  - |\n    text\n";
  const damaged = fc
    .tuple(fc.nat(good.length), fc.nat(good.length), fc.string({ maxLength: 3 }))
    .map(([from, to, instead]) => good.slice(0, from) + instead + good.slice(to));
  fc.assert(
    fc.property(fc.oneof(fc.string(), damaged), (text) => {
      try {
        plain(read(text));
      } catch (error) {
        equal(error instanceof ImageError && error.code, "compose/syntax");
      }
    }),
    { numRuns: 500 },
  );
});
