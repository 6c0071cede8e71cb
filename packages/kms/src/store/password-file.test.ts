// SPDX-License-Identifier: Apache-2.0
import { equal, throws } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { passwordFor } from "./password-file.ts";

const login = { host: "database", port: 5432, database: "kms", user: "kms" };

function file(t: TestContext, text: string, mode = 0o600): string {
  const directory = mkdtempSync(join(tmpdir(), "caisson-kms-password-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "pgpass");
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

const lines: { name: string; text: string; password: string }[] = [
  { name: "the line for it", text: "database:5432:kms:kms:secret\n", password: "secret" },
  { name: "a line for anything", text: "*:*:*:*:secret", password: "secret" },
  { name: "the first of two", text: "*:*:kms:kms:one\ndatabase:5432:kms:kms:two\n", password: "one" },
  {
    name: "not another host's, port's, database's or user's",
    text: "other:5432:kms:kms:a\ndatabase:1:kms:kms:b\ndatabase:5432:x:kms:c\ndatabase:5432:kms:x:d\n*:*:*:*:e\n",
    password: "e",
  },
  {
    name: "not a comment, nor what is not a line",
    text: "#*:*:*:*:a\n*:*:*:b\n*:*:*:*:\n*:*:*:*:c",
    password: "c",
  },
  { name: "colons and backslashes", text: "*:*:*:*:a:b\\\\c\\:d\r\n", password: "a:b\\c:d" },
];
for (const { name, text, password } of lines) {
  test(`a password is that of ${name}`, (t) => {
    equal(passwordFor(login, { PGPASSFILE: file(t, text) }), password);
  });
}

test("a host with a colon has a backslash before it", (t) => {
  const PGPASSFILE = file(t, "\\:\\:1:5432:kms:kms:secret");
  equal(passwordFor({ ...login, host: "::1" }, { PGPASSFILE }), "secret");
});

test("without PGPASSFILE it is .pgpass of the home directory", (t) => {
  const path = file(t, "");
  const home = `${path}-home`;
  mkdirSync(home);
  writeFileSync(join(home, ".pgpass"), "*:*:*:*:secret", { mode: 0o600 });
  equal(passwordFor(login, { HOME: home }), "secret");
});

const refused: { name: string; path: (t: TestContext) => string; message: RegExp }[] = [
  { name: "no file", path: (t) => `${file(t, "")}-typo`, message: /cannot be read/ },
  { name: "a directory", path: (t) => join(file(t, ""), ".."), message: /is not a file/ },
  { name: "a file that its group can open", path: (t) => file(t, "*:*:*:*:x", 0o640), message: /mode 640/ },
  { name: "a file without a line", path: (t) => file(t, "other:*:*:*:x"), message: /has no line/ },
  { name: "a long file", path: (t) => file(t, "#".repeat(65 * 1024)), message: /at most 65536 bytes/ },
];
for (const { name, path, message } of refused) {
  test(`${name}: it is said what is missing, and what to write`, (t) => {
    const PGPASSFILE = path(t);
    throws(
      () => passwordFor(login, { PGPASSFILE }),
      (error: { code: string; message: string; fix: string }) =>
        error.code === "log/unavailable" &&
        message.test(error.message) &&
        error.fix.includes("database:5432:kms:kms:PASSWORD"),
    );
  });
}

test("a pipe is not waited for", (t) => {
  const path = `${file(t, "")}-pipe`;
  execFileSync("mkfifo", [path]);
  throws(() => passwordFor(login, { PGPASSFILE: path }), { code: "log/unavailable" });
});
