// SPDX-License-Identifier: Apache-2.0
/** A new platform cannot be forgotten: the compiler names every place that must decide about it. */
import { deepEqual, notEqual } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

const repository = new URL("../../", import.meta.url).pathname;

/** A copy of the packages whose imports of each other stay inside the copy. */
function copyOfPackages(place: string): void {
  cpSync(join(repository, "packages"), join(place, "packages"), {
    recursive: true,
    filter: (source) => !/\/(?:vectors|node_modules)$/.test(source),
  });
  cpSync(join(repository, "tsconfig.json"), join(place, "tsconfig.json"));
  cpSync(join(repository, "package.json"), join(place, "package.json"));
  const modules = join(place, "node_modules");
  mkdirSync(join(modules, "@caisson"), { recursive: true });
  for (const name of readdirSync(join(repository, "node_modules"))) {
    if (name !== "@caisson" && !name.startsWith(".")) {
      symlinkSync(join(repository, "node_modules", name), join(modules, name));
    }
  }
  for (const name of readdirSync(join(place, "packages"))) {
    symlinkSync(join(place, "packages", name), join(modules, "@caisson", name));
  }
}

/** Files outside tests in which the compiler finds an error, sorted. */
function wrongFiles(place: string): string[] {
  const run = spawnSync(join(repository, "node_modules/.bin/tsc"), ["--noEmit", "--pretty", "false"], {
    cwd: place,
    encoding: "utf8",
    timeout: 120_000,
  });
  const files = [...run.stdout.matchAll(/^(packages\/\S+?)\(\d+,\d+\): error/gm)].map(([, file]) => file!);
  return [...new Set(files)].filter((file) => !/\.test\.ts$|\/testing\//.test(file)).sort();
}

test("a made-up third platform: the compiler lists these files, and no other has to be searched for", (t) => {
  const place = temporaryDirectory("platforms", t);
  copyOfPackages(place);
  deepEqual(wrongFiles(place), [], "the copy compiles as it is");
  const file = join(place, "packages/vocabulary/src/platforms.ts");
  const text = readFileSync(file, "utf8");
  const more = text.replace('["tdx", "emulated"]', '["tdx", "emulated", "made-up"]');
  notEqual(more, text);
  writeFileSync(file, more);
  deepEqual(wrongFiles(place), [
    "packages/cli/src/commands/up.ts",
    "packages/cli/src/loose-files.ts",
    "packages/guest/src/dstack/serve.ts",
    "packages/guest/src/platform.ts",
    "packages/host/src/fw-cfg.ts",
    "packages/image/src/inputs/recipe.ts",
    "packages/image/src/output/assemble.ts",
    "packages/image/src/output/manifest.ts",
    "packages/image/src/output/measurements.ts",
    "packages/measure/src/predict/profiles.ts",
    "packages/verify/src/platform.ts",
    "packages/vocabulary/src/platforms.ts",
  ]);
});
