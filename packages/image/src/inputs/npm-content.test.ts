// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { bundleGuest, guestProgram } from "../build/bundle.ts";
import { npmPackages } from "./npm.ts";
import { checkInstalled } from "./npm-content.ts";
import { npmBuilders, npmRoots } from "./recipe.ts";

const repository = new URL("../../../../", import.meta.url).pathname;

/** A directory with this repository's lockfile and copies of some installed packages. */
function installation(t: TestContext, ...packages: string[]): string {
  const root = temporaryDirectory("npm-content", t);
  copyFileSync(join(repository, "package-lock.json"), join(root, "package-lock.json"));
  for (const name of packages) {
    const place = join("node_modules", name);
    mkdirSync(join(root, place), { recursive: true });
    cpSync(join(repository, place), join(root, place), { recursive: true });
  }
  return root;
}

test("what npm installed is what the lockfile names", async (t) => {
  const root = installation(t, "zod");
  const files = await checkInstalled("node_modules/zod", root);
  equal(files.get("package.json")?.length, 64);
});

const alterations: Record<string, (zod: string) => void> = {
  "a line more": (zod) => appendFileSync(join(zod, "v4/mini/schemas.js"), "globalThis.seen = 1;\n"),
  "a byte of a type": (zod) => appendFileSync(join(zod, "index.d.ts"), "\n"),
  "a file more": (zod) => writeFileSync(join(zod, "v4/mini/more.js"), ""),
  "a file less": (zod) => rmSync(join(zod, "v4/mini/index.js")),
  "a package inside it, which it would prefer": (zod) => {
    mkdirSync(join(zod, "node_modules/other"), { recursive: true });
    writeFileSync(join(zod, "node_modules/other/index.js"), "");
  },
  "another name": (zod) => renameSync(join(zod, "index.js"), join(zod, "main.js")),
  "a link to the same bytes": (zod) => {
    renameSync(join(zod, "index.js"), join(zod, "../index.js"));
    symlinkSync("../index.js", join(zod, "index.js"));
  },
  "nothing there": (zod) => rmSync(zod, { recursive: true }),
};
for (const [what, alter] of Object.entries(alterations)) {
  test(`refused: ${what}`, async (t) => {
    const root = installation(t, "zod");
    alter(join(root, "node_modules/zod"));
    await rejects(checkInstalled("node_modules/zod", root), { code: "npm/altered" });
  });
}

test("refused: a lockfile that names another tarball of the same version", async (t) => {
  const root = installation(t, "zod");
  const file = join(root, "package-lock.json");
  const lock = JSON.parse(readFileSync(file, "utf8"));
  lock.packages["node_modules/zod"].integrity = `sha512-${"A".repeat(86)}==`;
  writeFileSync(file, JSON.stringify(lock));
  await rejects(checkInstalled("node_modules/zod", root), { code: "npm/unknown" });
  await rejects(checkInstalled("node_modules/nothing", root), { code: "lock/npm" });
});

test("a line added to a package, or to the bundler, does not get into PID 1's bundle", async (t) => {
  const root = installation(t, "zod", "esbuild", "@esbuild/linux-x64");
  const entry = "packages/guest/src/init.ts";
  mkdirSync(join(root, "packages/guest/src"), { recursive: true });
  writeFileSync(join(root, entry), 'import * as z from "zod/mini";\nconsole.log(z.string());\n');
  const { packages } = await bundleGuest(entry, root);
  equal(packages.map(({ name }) => name).join(), "zod");
  for (const file of ["zod/v4/mini/schemas.js", "esbuild/lib/main.js", "@esbuild/linux-x64/bin/esbuild"]) {
    const path = join(root, "node_modules", file);
    const content = readFileSync(path);
    appendFileSync(path, "\n//");
    await rejects(bundleGuest(entry, root), { code: "npm/altered" });
    writeFileSync(path, content);
  }
  await bundleGuest(entry, root);
  // What npm link makes: the package is a link, and lies where nobody compares it.
  renameSync(join(root, "node_modules/zod"), join(root, "elsewhere"));
  symlinkSync("../elsewhere", join(root, "node_modules/zod"));
  await rejects(bundleGuest(entry, root), { code: "root/bundle", message: /elsewhere\/v4/ });
});

test("a bundler that the environment names is not the one that was compared", async (t) => {
  process.env["ESBUILD_BINARY_PATH"] = "/bin/false";
  t.after(() => delete process.env["ESBUILD_BINARY_PATH"]);
  await rejects(bundleGuest(guestProgram.production), {
    code: "root/bundle",
    message: /ESBUILD_BINARY_PATH/,
  });
});

test("every package that enters an image, or makes what does, is recorded as the lockfile pins it", async () => {
  const pinned = await npmPackages(join(repository, "package-lock.json"), [...npmRoots, ...npmBuilders]);
  const recorded = JSON.parse(readFileSync(join(import.meta.dirname, "npm-content.json"), "utf8")) as Record<
    string,
    { integrity: string }
  >;
  deepEqual(
    Object.entries(recorded).map(([key, { integrity }]) => [key, integrity]),
    pinned.map(({ name, version, integrity }) => [`${name} ${version}`, integrity]),
    "node packages/image/src/inputs/npm-tarball.ts records it anew",
  );
});
