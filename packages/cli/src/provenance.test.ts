// SPDX-License-Identifier: Apache-2.0
import { equal, match } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { exampleManifest } from "@caisson/image/testing/manifest";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

const minted = JSON.parse(
  readFileSync(new URL("../../provenance/src/testing/sigstore.json", import.meta.url), "utf8"),
) as { workflow: string; roots: { public: object }; bundles: { public: object } };

test("release verify asks for a provenance beside the owners, never instead", (t) => {
  const directory = temporaryDirectory("provenance", t);
  const put = (name: string, value: unknown) => writeFileSync(join(directory, name), JSON.stringify(value));
  const run = (line: string) =>
    spawnSync(process.execPath, [new URL("./main.ts", import.meta.url).pathname, ...line.split(" ")], {
      cwd: directory,
      encoding: "utf8",
      timeout: 60_000,
    });
  writeFileSync(join(directory, "pass"), "correct horse battery\n");
  put("manifest.json", exampleManifest());
  put("bundle.json", minted.bundles.public);
  put("root.json", minted.roots.public);
  for (const line of [
    "owner new a --passphrase-file pass",
    "identity new --name app --owner a --stop a --output identity.json",
    "release prepare --identity identity.json --image manifest.json --output r1",
  ]) {
    const { status, stderr } = run(line);
    equal(status, 0, stderr);
  }
  const judged = "release verify r1 --identity identity.json --image manifest.json";
  const asked = `${judged} --provenance bundle.json --provenance-profile public --provenance-root root.json`;
  // No owner signed: whoever built it.
  match(run(`${asked} --provenance-workflow ${minted.workflow}`).stderr, /\[release\/signature\]/);
  equal(run("release sign r1 --key a --passphrase-file pass").status, 0);
  equal(run(judged).status, 0);
  // The bundle is of another manifest than this one.
  match(run(`${asked} --provenance-workflow ${minted.workflow}`).stderr, /\[provenance\/subject\]/);
  equal(run(asked).status, 2);
  equal(run(`${asked} --provenance-workflow https://github.com/example/*`).status, 2);
});
