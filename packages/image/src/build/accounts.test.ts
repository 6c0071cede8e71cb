// SPDX-License-Identifier: Apache-2.0
import { deepEqual, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ImageError } from "../errors.ts";
import { type Account, resolveAccount } from "./accounts.ts";
import { type DirectoryNode, directory, put } from "./tree.ts";

function tree(passwd?: string, group?: string): DirectoryNode {
  const root = directory();
  const file = (text: string) => ({ kind: "file", mode: 0o644, content: Buffer.from(text) }) as const;
  if (passwd !== undefined) put(root, "/etc/passwd", file(passwd));
  if (group !== undefined) put(root, "/etc/group", file(group));
  return root;
}

const root = tree(
  "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv/web:\nbig:x:70000:1::/:\nwide:x:40:70000::/:\n123:x:55:56::/:\n",
  "root:x:0:\nweb:x:34:\nssl:x:60:db,web\nadm:x:61:web\nhuge:x:70000:\n",
);

const accounts: [text: string, more: string[], expected: Account][] = [
  ["", [], { user: 0, group: 0, additionalGroups: [], home: "/root" }],
  ["root", [], { user: 0, group: 0, additionalGroups: [], home: "/root" }],
  ["web", [], { user: 33, group: 34, additionalGroups: [60, 61], home: "/srv/web" }],
  ["33", [], { user: 33, group: 34, additionalGroups: [60, 61], home: "/srv/web" }],
  ["web:ssl", [], { user: 33, group: 60, additionalGroups: [], home: "/srv/web" }],
  ["web", ["adm", "99", "34"], { user: 33, group: 34, additionalGroups: [60, 61, 99], home: "/srv/web" }],
  ["1000", [], { user: 1000, group: 0, additionalGroups: [] }],
  ["1000:1001", ["ssl"], { user: 1000, group: 1001, additionalGroups: [60] }],
  // A user may have a number for a name.
  ["123", [], { user: 55, group: 56, additionalGroups: [], home: "/" }],
  ["65535", [], { user: 65_535, group: 0, additionalGroups: [] }],
];
for (const [text, more, expected] of accounts) {
  test(`'${text}' with ${JSON.stringify(more)}`, () => deepEqual(resolveAccount(root, text, more), expected));
}

test("an image without accounts has root and numbers", () => {
  deepEqual(resolveAccount(tree(), "root"), { user: 0, group: 0, additionalGroups: [] });
  deepEqual(resolveAccount(tree(), "7:8"), { user: 7, group: 8, additionalGroups: [] });
});

for (const text of [
  "nobody-knows",
  "web:nobody-knows",
  "big",
  "65536",
  "7:70000",
  "7:-1",
  "-1",
  "7:huge",
  "wide",
  "40",
]) {
  test(`refused: '${text}'`, () => throws(() => resolveAccount(root, text), { code: "app/user" }));
}
test("refused: a further group that nobody knows", () => {
  throws(() => resolveAccount(root, "web", ["nobody-knows"]), { code: "app/user" });
});

test("any accounts and any words give ids of 16 bits or that error", () => {
  const line = fc.array(fc.constantFrom("web", "0", "33", "99999", "", ":", "x", "-1"), { maxLength: 8 });
  const file = fc
    .array(
      line.map((parts) => parts.join(":")),
      { maxLength: 4 },
    )
    .map((lines) => lines.join("\n"));
  const word = fc.oneof(
    fc.constantFrom("web", "33", "web:web", "0:33", ":", "web:"),
    fc.string({ maxLength: 5 }),
  );
  fc.assert(
    fc.property(file, file, word, (passwd, group, text) => {
      try {
        const { user, group: gid, additionalGroups } = resolveAccount(tree(passwd, group), text);
        for (const id of [user, gid, ...additionalGroups]) {
          if (!(Number.isInteger(id) && id >= 0 && id <= 65_535)) throw new Error(String(id));
        }
      } catch (error) {
        if (!(error instanceof ImageError && error.code === "app/user")) throw error;
      }
    }),
  );
});
