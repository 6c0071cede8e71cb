// SPDX-License-Identifier: Apache-2.0
import { deepEqual, throws } from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { readExamples } from "./example-files.ts";

function place(t: { after(end: () => void): void }, files: Record<string, string>): string {
  const directory = temporaryDirectory("examples", t);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(directory, path, ".."), { recursive: true });
    writeFileSync(join(directory, path), text);
  }
  return directory;
}

test("each directory is an example, with all of its files", (t) => {
  const directory = place(t, {
    "b/example.json": '{"name":"B","about":"second","at":"2026-01-01T00:00:00Z","nonce":"00ff"}',
    "b/quote.bin": "quote",
    "a/example.json": '{"name":"A","about":"first"}',
    "README.md": "not an example",
  });
  deepEqual(readExamples(directory), [
    { name: "A", about: "first", at: "", nonce: "", files: [] },
    {
      name: "B",
      about: "second",
      at: "2026-01-01T00:00:00Z",
      nonce: "00ff",
      files: [{ name: "quote.bin", text: "quote" }],
    },
  ]);
});

test("what is wrong is said with its place", (t) => {
  throws(() => readExamples(place(t, { "README.md": "" })), /has no directories/);
  throws(() => readExamples(place(t, { "a/quote.bin": "" })), /a\/example\.json/);
  throws(() => readExamples(place(t, { "a/example.json": "{" })), SyntaxError);
  throws(() => readExamples(place(t, { "a/example.json": '{"name":"A"}' })), {
    path: /a\/example\.json\.about$/,
  });
  throws(
    () => readExamples(place(t, { "a/example.json": '{"name":"A","about":"","at":"today"}' })),
    /ISO 8601/,
  );
  throws(() => readExamples("/nowhere"), /ENOENT/);
});
