// SPDX-License-Identifier: Apache-2.0
/** Every real file in the vectors is read by some test, seen as the tests run; what is not evidence is named here with why. */
import { deepEqual, ok } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, globSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

const repository = new URL("../../", import.meta.url).pathname;
const vectors = resolve(repository, "../shared/vectors");
const skip = existsSync(vectors) ? false : "../shared/vectors is absent";

/** What is in a folder of vectors and is not one, by its whole path or its name. */
const noVectors: Record<string, string> = {
  "README.md": "says what the folder holds",
  "UPSTREAM-README.md": "the project's own",
  "SOURCE-OF-TRUTH.md": "says where a capture came from",
  LICENSE: "the project's own",
  "sev-snp-measure/test_guest.py": "another project's tests, whose values are in launch-digest.test.ts",
  "intel-qvl/generatorInput/qeIdentity.yml": "what Intel's generator made qeIdentity.json of",
};

/** Runs in every process of the tests, before them: writes down what is opened. */
const recorder = (list: string) => `
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
const { appendFileSync } = fs;
for (const [owner, name] of [[fs, "readFileSync"], [fs, "openSync"], [fs, "createReadStream"], [fs.promises, "readFile"], [fs.promises, "open"]]) {
  const real = owner[name];
  owner[name] = (path, ...rest) => {
    const text = path instanceof URL ? path.pathname : String(path);
    if (text.includes("shared/vectors/")) appendFileSync(${JSON.stringify(list)}, text + "\\n");
    return real.call(owner, path, ...rest);
  };
}
syncBuiltinESMExports();
`;

test("every vector is read by a test", { skip, timeout: 20 * 60_000 }, (t) => {
  const place = temporaryDirectory("vectors", t);
  const list = join(place, "opened");
  writeFileSync(list, "");
  writeFileSync(join(place, "recorder.mjs"), recorder(list));
  const readers = globSync(["packages/*/src/**/*.test.ts", "test/integration/*.test.ts"], { cwd: repository })
    .filter((path) => readFileSync(join(repository, path), "utf8").includes("shared/vectors"))
    .sort();
  ok(readers.length > 5, readers.join());
  const { status, stdout } = spawnSync(process.execPath, ["--test", ...readers], {
    cwd: repository,
    encoding: "utf8",
    maxBuffer: 64 << 20,
    env: {
      ...process.env,
      NODE_TEST_CONTEXT: undefined,
      NODE_OPTIONS: `--import=file://${join(place, "recorder.mjs")}`,
    },
  });
  ok(status === 0, stdout.slice(-4000));
  const opened = new Set(
    readFileSync(list, "utf8")
      .split("\n")
      .map((path) => relative(vectors, resolve(repository, path))),
  );
  const files = readdirSync(vectors, { recursive: true, encoding: "utf8" })
    .filter((path) => statSync(join(vectors, path)).isFile())
    .sort();
  const isNamed = (path: string) =>
    noVectors[path] !== undefined || noVectors[path.split("/").at(-1)!] !== undefined;
  deepEqual(
    files.filter((path) => !opened.has(path) && !isNamed(path)),
    [],
  );
  // The list names nothing that is read, or is not there.
  deepEqual(
    Object.keys(noVectors).filter(
      (name) => !files.some((path) => path === name || path.endsWith(`/${name}`)),
    ),
    [],
  );
});
