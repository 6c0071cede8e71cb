// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { globSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import test, { type TestContext } from "node:test";
import { makeDirectory } from "./directory.node.ts";
import { temporaryDirectory } from "./testing/temporary-directory.ts";

function place(t: TestContext): string {
  const directory = temporaryDirectory("directory", t);
  return directory;
}

test("what is missing is made with its mode, what is there stays", (t) => {
  const at = place(t);
  equal(makeDirectory(join(at, "a/b/c"), 0o700), join(at, "a"));
  for (const path of ["a", "a/b", "a/b/c"]) equal(statSync(join(at, path)).mode & 0o777, 0o700);
  equal(makeDirectory(join(at, "a/b/c/"), 0o755), undefined);
  equal(makeDirectory(`${at}/a/./b/../d`), join(at, "a/d"));
  equal(statSync(join(at, "a")).mode & 0o777, 0o700);
  equal(makeDirectory("/"), undefined);
});

test("what is not a directory is the system's error", (t) => {
  const at = place(t);
  writeFileSync(join(at, "file"), "");
  symlinkSync("nowhere", join(at, "link"));
  throws(() => makeDirectory(join(at, "file")), { code: "EEXIST" });
  throws(() => makeDirectory(join(at, "file/more")), { code: "ENOTDIR" });
  throws(() => makeDirectory(join(at, "link")), { code: "ENOENT" });
});

test("a file system that takes no directories is not a reason to ask for ever", () => {
  const module = new URL("./directory.node.ts", import.meta.url).href;
  for (const path of ["/proc/caisson", "/proc/caisson/more", "/proc/self/caisson"]) {
    const program = `import { makeDirectory } from ${JSON.stringify(module)};
      try { makeDirectory(${JSON.stringify(path)}) } catch (error) { console.log(error.code, error.path) }`;
    // In a process of its own, which can be ended.
    const args = ["--input-type=module", "-e", program];
    const said = execFileSync(process.execPath, args, { timeout: 20_000, encoding: "utf8" });
    equal(said, `ENOENT ${path.replace("/more", "")}\n`);
  }
});

test("no command makes directories in Node's way, which hangs there", () => {
  const packages = new URL("../../", import.meta.url).pathname;
  // The guest's are on its own file systems, and the bundle of PID 1 has no need of more.
  const sources = globSync("*/src/**/*.ts", { cwd: packages }).filter(
    (path) => !path.startsWith("guest/") && !path.endsWith(".test.ts") && !path.includes("/testing/"),
  );
  const found = sources.filter((path) =>
    /mkdir(Sync)?\([^;]*recursive/.test(readFileSync(join(packages, path), "utf8")),
  );
  deepEqual(
    found.map((path) => relative(".", path)),
    [],
  );
  equal(sources.length > 100, true);
});
