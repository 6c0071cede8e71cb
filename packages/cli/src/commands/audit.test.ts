// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

const main = new URL("../main.ts", import.meta.url).pathname;
const caisson = (...args: string[]) => {
  const { status, stdout } = spawnSync(process.execPath, [main, "audit", ...args], { encoding: "utf8" });
  return { status, text: stdout, document: () => JSON.parse(stdout) };
};

test("--list and --explain have a document each", () => {
  const listed = caisson("--list", "--json").document() as { controls: { id: string; title: string }[] };
  const lines = caisson("--list").text.trimEnd().split("\n");
  deepEqual(
    listed.controls.map(({ id }) => id),
    lines.map((line) => line.split(" ")[0]),
  );
  const one = caisson("--explain", "F04", "--json").document();
  deepEqual([one.id, one.severity], ["F04", "recommended"]);
  ok(one.checks.static.length > 0);
  ok(one.documents.includes("docs/threat-model.md"));
  deepEqual({ ...listed.controls.find(({ id }) => id === "F04"), documents: one.documents }, one);
});

test("a control that is not there is a document, too", () => {
  const { status, document } = caisson("--explain", "F99", "--json");
  deepEqual([status, document().error.code], [2, "audit/unknown-control"]);
});

test("a mistyped option and its suggestion are one line", () => {
  const { status, stderr } = spawnSync(process.execPath, [main, "audit", "--lits"], { encoding: "utf8" });
  equal(status, 2);
  equal(
    stderr,
    "caisson audit: unknown option '--lits' (Did you mean --list?)\n  try  caisson audit --help\n",
  );
});
