// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { build } from "esbuild";
import { imageSources, sourcesHash } from "./sources.ts";

const repository = new URL("../../../../", import.meta.url).pathname;

test("whatever the builder and PID 1 import is among the sources", async () => {
  const listed = new Set(imageSources());
  for (const entry of ["packages/image/src/build.ts", "packages/guest/src/main.ts"]) {
    const { metafile } = await build({
      entryPoints: [join(repository, entry)],
      absWorkingDir: repository,
      bundle: true,
      write: false,
      metafile: true,
      platform: "node",
      format: "esm",
      external: ["esbuild", "@napi-rs/*"],
      logLevel: "silent",
    });
    const own = Object.keys(metafile.inputs).filter((path) => !path.includes("node_modules/"));
    ok(own.length > 20);
    deepEqual(
      own.filter((path) => !listed.has(path)),
      [],
    );
  }
});

test("kernel and native code count, tests and documents do not", () => {
  const listed = imageSources();
  for (const path of ["kernel/hardening.config", "packages/guest/native/syscalls.c", "package-lock.json"]) {
    ok(listed.includes(path), path);
  }
  deepEqual(
    listed.filter((path) => /\.test\.ts$|\.md$|\/testing\//.test(path)),
    [],
  );
});

test("the hash is what sha256sum gives, and one byte changes it", () => {
  const place = mkdtempSync(join(tmpdir(), "caisson-sources-"));
  try {
    for (const path of imageSources()) cpSync(join(repository, path), join(place, path));
    const root = `${place}/`;
    const command = 'sha256sum $(find . -type f | sed "s,^./,," | LC_ALL=C sort) | sha256sum';
    const said = execFileSync("sh", ["-c", command], { cwd: place, encoding: "utf8" });
    equal(sourcesHash(root), said.split(" ")[0]);
    equal(sourcesHash(root), sourcesHash());
    match(sourcesHash(), /^[0-9a-f]{64}$/);
    writeFileSync(join(place, "kernel/tdx.config"), "\\n", { flag: "a" });
    notEqual(sourcesHash(root), sourcesHash());
  } finally {
    rmSync(place, { recursive: true });
  }
});
