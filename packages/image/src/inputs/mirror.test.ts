// SPDX-License-Identifier: Apache-2.0
import { deepEqual, rejects } from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { findMirrors } from "./mirror.ts";

/** Writes an apt configuration, finds mirrors in it, and removes it. */
async function withApt(files: Record<string, string>) {
  const aptDirectory = mkdtempSync(join(tmpdir(), "caisson-apt-"));
  mkdirSync(join(aptDirectory, "sources.list.d"));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(aptDirectory, name), text);
  try {
    return await findMirrors({ aptDirectory });
  } finally {
    rmSync(aptDirectory, { recursive: true });
  }
}

const both = { debian: "http://one.example/debian", "debian-security": "http://two.example/security" };

const cases: { name: string; files: Record<string, string>; found: object }[] = [
  {
    name: "deb822",
    files: {
      "sources.list.d/debian.sources":
        "Types: deb deb-src\n# a comment\nURIs: http://one.example/debian/\nSuites: trixie\n trixie-updates\nComponents: main\n\nTypes: deb\nURIs: http://two.example/security\nSuites: trixie-security\nComponents: main\n",
    },
    found: both,
  },
  {
    name: "one line each",
    files: {
      "sources.list":
        "# deb http://zero.example/debian trixie main\ndeb [arch=amd64 signed-by=/k.gpg] http://one.example/debian bookworm main\ndeb http://two.example/security bookworm-security main\n",
    },
    found: both,
  },
  {
    name: "other vendors, disabled entries and sources of source are left alone",
    files: {
      "sources.list":
        "deb-src http://zero.example/debian trixie main\ndeb https://node.example/node nodistro main\n",
      "sources.list.d/a.sources":
        "Types: deb\nEnabled: no\nURIs: http://zero.example/debian\nSuites: trixie\n",
      "sources.list.d/b.list.disabled": "deb http://zero.example/debian trixie main\n",
      "sources.list.d/c.list": "deb http://one.example/debian trixie main\n",
    },
    found: { debian: "http://one.example/debian", "debian-security": "http://one.example/debian-security" },
  },
];

for (const { name, files, found } of cases) {
  test(name, async () => {
    deepEqual(await withApt(files), found);
  });
}

test("a named mirror wins, and its security archive is its sibling", async () => {
  deepEqual(await findMirrors({ mirror: "https://three.example/debian/", aptDirectory: "/nowhere" }), {
    debian: "https://three.example/debian",
    "debian-security": "https://three.example/debian-security",
  });
});

test("no mirror", async () => {
  await rejects(withApt({}), { code: "lock/no-mirror" });
  await rejects(withApt({ "sources.list": "deb cdrom:[disc]/ trixie main\n" }), { code: "lock/no-mirror" });
});

for (const mirror of ["", "debian", "ftp://x/debian", "file:///debian", "http://x/debian?y"]) {
  test(`'${mirror}' is not a mirror`, async () => {
    await rejects(findMirrors({ mirror }), { code: "lock/no-mirror", kind: "usage", fix: /--mirror/ });
  });
}
