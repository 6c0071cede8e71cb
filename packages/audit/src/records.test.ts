// SPDX-License-Identifier: Apache-2.0
import { deepEqual, ok } from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { catalogue } from "./catalogue/index.ts";

const repository = new URL("../../../", import.meta.url);
const folder = new URL("docs/decisions/", repository);
const ids = new Set(catalogue.map(({ id }) => id));
const records = readdirSync(folder).filter((name) => name.endsWith(".md"));
const documents = [
  ...records.map((name) => `docs/decisions/${name}`),
  "docs/threat-model.md",
  "docs/trust-boundaries.md",
];

/** What a document names: control ids, and paths of this repository in backquotes. */
function named(path: string) {
  const text = readFileSync(new URL(path, repository), "utf8");
  return {
    text,
    controls: [...text.matchAll(/\b([A-Z]\d{2})\b/g)].map(([, id]) => id!),
    paths: [...text.matchAll(/`((?:packages|docs|test|kernel)\/[\w./-]+)`/g)].map(([, file]) => file!),
  };
}

for (const path of documents) {
  test(`${path} names only controls and files that exist`, () => {
    const { controls, paths } = named(path);
    ok(controls.length > 0, "it names no control");
    deepEqual(
      controls.filter((id) => !ids.has(id)),
      [],
    );
    deepEqual(
      paths.filter((file) => !existsSync(new URL(file, repository))),
      [],
    );
  });
}

test("every record has the same parts", () => {
  for (const name of records) {
    const { text } = named(`docs/decisions/${name}`);
    for (const part of [
      "**Context.**",
      "**Decision.**",
      "**Alternatives.**",
      "**Consequences.**",
      "**Checked by**",
      "**Shown by**",
      "**Revisit**",
    ]) {
      ok(text.includes(part), `${name} has no ${part}`);
    }
  }
});

test("records are numbered without gaps, and the five decisions come first", () => {
  deepEqual(
    records.map((name) => Number(name.slice(0, 4))),
    records.map((_, i) => i + 1),
  );
  for (const [i, name] of records.slice(0, 5).entries())
    ok(named(`docs/decisions/${name}`).text.includes(`(D${i + 1})`), name);
});

test("every control of a decision is named by its record", () => {
  for (const [i, name] of records.slice(0, 5).entries()) {
    const { controls } = named(`docs/decisions/${name}`);
    const missing = catalogue
      .filter(({ decision, id }) => decision === `D${i + 1}` && !controls.includes(id))
      .map(({ id }) => id);
    deepEqual(missing, [], `D${i + 1}`);
  }
});
