// SPDX-License-Identifier: Apache-2.0
import { equal, match, throws } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs, {
  appendFileSync,
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { checkWriters, readClosed } from "./writers.ts";

const check = (path: string, parents = true) => checkWriters(path, { code: "policy/permissions", parents });

/** `outer/inner/file`, each with mode 755 or 644. */
function tree(t: TestContext) {
  const outer = mkdtempSync(join(tmpdir(), "caisson-kms-writers-"));
  t.after(() => rmSync(outer, { recursive: true }));
  const inner = join(outer, "inner");
  mkdirSync(inner);
  const file = join(inner, "file");
  writeFileSync(file, "");
  for (const [path, mode] of [
    [outer, 0o755],
    [inner, 0o755],
    [file, 0o644],
  ] as const) {
    chmodSync(path, mode);
  }
  return { outer, inner, file };
}

test("what only its owner may write is taken, below a directory with the sticky bit as well", (t) => {
  const { outer, inner, file } = tree(t);
  for (const path of [outer, inner, file]) check(path);
  chmodSync(outer, 0o1777);
  check(file);
});

const open: { name: string; change: (paths: ReturnType<typeof tree>) => void }[] = [
  { name: "the file, by its group", change: ({ file }) => chmodSync(file, 0o664) },
  { name: "the file, by all", change: ({ file }) => chmodSync(file, 0o646) },
  { name: "its directory", change: ({ inner }) => chmodSync(inner, 0o775) },
  { name: "a directory above", change: ({ outer }) => chmodSync(outer, 0o777) },
];
for (const { name, change } of open) {
  test(`refused where others can write ${name}`, (t) => {
    const paths = tree(t);
    change(paths);
    throws(() => check(paths.file), { code: "policy/permissions" });
  });
}

test("of another owner's file it is not said that a mode would mend it", (t) => {
  const { file } = tree(t);
  t.mock.method(process as Required<Pick<NodeJS.Process, "getuid">>, "getuid", () => 4711);
  if (fs.statSync(file).uid === 0) chownSync(file, 7700, 7700);
  const { uid } = fs.statSync(file);
  throws(
    () => check(file, false),
    ({ fix }: { fix: string }) => fix.includes(`as user ${uid}`) && !fix.includes("chmod"),
  );
});

test("a file with the sticky bit is not excused by it", (t) => {
  const { file } = tree(t);
  chmodSync(file, 0o1666);
  throws(() => check(file), { code: "policy/permissions" });
});

test("for development only the thing itself is looked at", (t) => {
  const { outer, file } = tree(t);
  chmodSync(outer, 0o777);
  check(file, false);
  chmodSync(file, 0o666);
  throws(() => check(file, false), { code: "policy/permissions" });
});

test("every symbolic link on the way counts: where it lies, and where the next one lies", (t) => {
  const { inner, file } = tree(t);
  const middle = tree(t);
  const first = tree(t);
  symlinkSync(inner, join(middle.inner, "link"));
  symlinkSync(join("..", "..", middle.outer.split("/").at(-1)!, "inner", "link"), join(first.inner, "link"));
  const path = join(first.inner, "link", "file");
  check(path);
  for (const directory of [first.inner, middle.inner, inner]) {
    chmodSync(directory, 0o777);
    throws(
      () => check(path),
      (error: Error) => {
        match(error.message, new RegExp(`who can write ${directory}$`));
        return true;
      },
    );
    chmodSync(directory, 0o755);
  }
  chmodSync(file, 0o666);
  throws(() => check(path), { code: "policy/permissions" });
});

test("refused where the owner is another user", (t) => {
  // Root can give its files away; anybody else becomes another user instead.
  const root = process.getuid?.() === 0;
  for (const place of ["file", "inner", "outer"] as const) {
    const paths = tree(t);
    if (root) chownSync(paths[place], 65_534, 0);
    else t.mock.method(process as { getuid: () => number }, "getuid", () => 65_534);
    throws(() => check(paths.file), { code: "policy/permissions" });
  }
});

/** Reads a file that `meanwhile` changes: after it was looked at, or after it was opened. */
function readWhile(t: TestContext, when: "openSync" | "readFileSync", meanwhile: (file: string) => void) {
  const { file } = tree(t);
  writeFileSync(file, "as it was");
  const real = fs[when] as (...about: unknown[]) => unknown;
  const mocked = t.mock.method(fs, when as "readFileSync", (...about: unknown[]) => {
    mocked.mock.restore();
    meanwhile(file);
    return real(...about) as never;
  });
  return readClosed(file, { code: "policy/permissions", parents: true }).toString();
}

test("a file that is exchanged after it was looked at is looked at itself", (t) => {
  const others = (mode: number) => (file: string) => {
    writeFileSync(`${file}.new`, "another");
    chmodSync(`${file}.new`, mode);
    renameSync(`${file}.new`, file);
  };
  throws(() => readWhile(t, "openSync", others(0o666)), { code: "policy/permissions" });
  equal(readWhile(t, "openSync", others(0o644)), "another");
  equal(readWhile(t, "readFileSync", others(0o644)), "as it was");
});

test("a file that is written while it is read is not taken", (t) => {
  const half = (file: string) => appendFileSync(file, ", and more");
  throws(() => readWhile(t, "readFileSync", half), /written while it was read/);
});

test("a pipe is not waited for", (t) => {
  const { inner } = tree(t);
  const path = join(inner, "pipe");
  execFileSync("mkfifo", ["-m", "600", path]);
  throws(() => readClosed(path, { code: "policy/permissions", parents: true }), /not a regular file/);
});
