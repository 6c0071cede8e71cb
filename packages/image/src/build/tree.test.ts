// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { directory, lookup, put, walk } from "./tree.ts";

const file = (text: string) => ({ kind: "file", mode: 0o644, content: Buffer.from(text) }) as const;

test("paths are made with their parents and walked in byte order", () => {
  const root = directory();
  put(root, "/b/c", file("1"));
  put(root, "a", file("2"));
  deepEqual(
    [...walk(root)].map(([path]) => path),
    ["/a", "/b", "/b/c"],
  );
  equal(lookup(root, "/b/c")?.kind, "file");
  equal(lookup(root, "/b/d"), undefined);
});

for (const path of ["../x", "/a/../b", "a/\0", `/${"n".repeat(256)}`, "/"]) {
  test(`refused: ${JSON.stringify(path.slice(0, 20))}`, () => {
    throws(() => put(directory(), path, file("")), { code: "tree/name" });
  });
}

test("a path cannot be put twice, nor below a file; setuid is refused", () => {
  const root = directory();
  put(root, "/a", file(""));
  throws(() => put(root, "/a", file("")), { code: "tree/exists" });
  throws(() => put(root, "/a/b", file("")), { code: "tree/not-directory" });
  throws(() => put(root, "/s", { ...file(""), mode: 0o4755 }), { code: "tree/mode" });
});
