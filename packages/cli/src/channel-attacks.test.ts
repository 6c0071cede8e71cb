// SPDX-License-Identifier: Apache-2.0
/** docs/channel.md names a test for each attack: it is there, under that name. */
import { equal, ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const repository = new URL("../../../", import.meta.url).pathname;
const read = (path: string): string => readFileSync(repository + path, "utf8");

const table = read("docs/channel.md").split("## What was tried")[1]!;
const rows = [...table.matchAll(/^\| ([^|]+) \| [^|]+ \| ([^|]+) \(`([^`]+)`\) \|$/gm)].map(
  ([, attack = "", name = "", file = ""]) => ({ attack, name, file }),
);

test("every row of the table of attacks is read", () => {
  equal(rows.length, table.split("\n").filter((line) => line.startsWith("| ")).length - 1);
  ok(rows.length > 30);
});

for (const { attack, name, file } of rows) {
  test(`${attack}: its test is there`, () => {
    ok(read(file).includes(name), `${file} has no test '${name}'`);
  });
}
