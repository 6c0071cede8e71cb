// SPDX-License-Identifier: Apache-2.0
import { equal, rejects } from "node:assert/strict";
import { appendFile, chmod, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { LockedPackage } from "../inputs/lock.ts";
import { writeTar } from "../oci/tar-writer.ts";
import { makeDeb, sha256 } from "../testing/archive.ts";
import { cachedToolchain, checkToolchain, openToolchain } from "./toolchain.ts";

const deb = makeDeb(
  Buffer.concat([
    ...writeTar([
      { path: "usr", mode: 0o755, content: "directory" },
      { path: "usr/bin", mode: 0o755, content: "directory" },
      { path: "usr/bin/gcc", mode: 0o755, content: Buffer.from("a compiler") },
      { path: "bin", mode: 0o777, content: { symlink: "usr/bin" } },
    ]),
  ]),
  { data: "data.tar" },
);
const packages: LockedPackage[] = [
  {
    name: "base-files",
    version: "1",
    architecture: "amd64",
    suite: "trixie",
    archive: "debian",
    groups: ["toolchain"],
    path: "pool/x.deb",
    size: deb.length,
    sha256: sha256(deb),
  },
];

async function setUp(t: TestContext) {
  const cache = await mkdtemp(join(tmpdir(), "caisson-toolchain-"));
  t.after(() => rm(cache, { recursive: true, force: true }));
  await writeFile(join(cache, "x.deb"), deb);
  const open = () => openToolchain(packages, new Map([[sha256(deb), join(cache, "x.deb")]]), cache);
  return { cache, open, toolchain: await open() };
}

const alterations: [what: string, alter: (root: string) => Promise<void>][] = [
  ["a changed file", (root) => appendFile(join(root, "usr/bin/gcc"), "!")],
  ["a changed permission", (root) => chmod(join(root, "usr/bin/gcc"), 0o644)],
  ["one more file", (root) => writeFile(join(root, "usr/bin/ld"), "")],
  ["a missing file", (root) => rm(join(root, "usr/bin/gcc"))],
  ["a renamed file", (root) => rename(join(root, "usr/bin/gcc"), join(root, "usr/bin/cc"))],
  [
    "a link elsewhere",
    async (root) => {
      await rm(join(root, "bin"));
      await symlink("tmp", join(root, "bin"));
    },
  ],
];
for (const [what, alter] of alterations) {
  test(`nothing is compiled after ${what} in the toolchain`, async (t) => {
    const { toolchain, open } = await setUp(t);
    await checkToolchain(toolchain);
    await alter(toolchain.root);
    await rejects(checkToolchain(await open()), { code: "toolchain/altered", fix: /rm -rf/ });
    await rm(toolchain.root, { recursive: true });
    await checkToolchain(await open());
  });
}

test("a root without a record, as a killed run leaves it, is compared with the packages", async (t) => {
  const { cache, toolchain, open } = await setUp(t);
  await rm(`${toolchain.root}.sha256`);
  equal(await cachedToolchain(packages, cache), undefined);
  await checkToolchain(await open());
  await rm(`${toolchain.root}.sha256`);
  await appendFile(join(toolchain.root, "usr/bin/gcc"), "!");
  await rejects(checkToolchain(await open()), { code: "toolchain/altered" });
});
