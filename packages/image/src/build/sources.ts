// SPDX-License-Identifier: Apache-2.0
/**
 * Which Caisson made an image: a hash over the sources that decide its bytes. Not a commit, which a change of any document
 * moves, and which a copy without its history does not know.
 */

import { createHash, hash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const repository = new URL("../../../../", import.meta.url).pathname;

/** What makes an image, and what enters it. */
const roots = ["image", "guest"];

interface Package {
  dependencies?: Record<string, string>;
}

/** Our packages that `roots` are made of, sorted. */
function packagesOf(root: string): string[] {
  const found = new Set<string>();
  const waiting = [...roots];
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (found.has(name)) continue;
    found.add(name);
    const text = readFileSync(join(root, "packages", name, "package.json"), "utf8");
    const { dependencies = {} } = JSON.parse(text) as Package;
    for (const dependency of Object.keys(dependencies)) {
      if (dependency.startsWith("@caisson/")) waiting.push(dependency.slice("@caisson/".length));
    }
  }
  return [...found].sort();
}

/** Where the C of an image lies. */
const nativeSources = ["packages/guest/native", "packages/guest/service-init"];

/** Tests, what only they use, and documents. */
const ofTests = /\.test\.ts$|\/testing\/|\/vectors\/|\.md$/;

/** Paths below `root` (this repository) of every source that decides the bytes of an image, sorted. */
export function imageSources(root = repository): string[] {
  const packages = packagesOf(root);
  const below = (directory: string): string[] =>
    readdirSync(join(root, directory), { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name).slice(root.length));
  const directories = ["kernel", ...packages.map((name) => `packages/${name}/src`), ...nativeSources];
  return [
    "package-lock.json",
    ...packages.map((name) => `packages/${name}/package.json`),
    ...directories.flatMap(below),
  ]
    .filter((path) => !ofTests.test(path))
    .sort();
}

/**
 * SHA-256, hex, over those sources: of a line "<SHA-256>  <path>" for each, which is what sha256sum prints of them in the
 * order of their bytes.
 */
export function sourcesHash(root = repository): string {
  const sum = createHash("sha256");
  for (const path of imageSources(root))
    sum.update(`${hash("sha256", readFileSync(join(root, path)))}  ${path}\n`);
  return sum.digest("hex");
}
