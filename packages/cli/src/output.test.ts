// SPDX-License-Identifier: Apache-2.0
/** Real pipes, real full devices: how commands end when their output cannot be written. */
import { deepEqual, equal, match } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { test } from "node:test";

const main = new URL("./main.ts", import.meta.url).pathname;
const commands = readdirSync(new URL("./commands/", import.meta.url))
  .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
  .map((name) => name.slice(0, -3));

/** Runs a shell line in which "$@" is the CLI; bash tells how each part of a pipe ended. */
function shell(line: string) {
  const { stdout, stderr } = spawnSync("bash", ["-c", line, "bash", process.execPath, main], {
    encoding: "utf8",
  });
  return { stdout, stderr };
}

/** What a command whose reader has gone says on stderr, and its exit code. */
function unread(words: string) {
  const { stdout, stderr } = shell(`exec 3>&1; { sleep 0.2; "$@" ${words}; echo $? >&3; } | true`);
  return { status: stdout.trim(), stderr };
}

test("a reader that goes away ends a command without a word, and not with success", () => {
  for (const words of ["audit --list", "audit --list --json"]) {
    deepEqual(unread(words), { status: "141", stderr: "" }, words);
  }
});

test("head takes its lines and nobody complains", () => {
  const { stdout, stderr } = shell('"$@" audit --list | head -n 1 | wc -l');
  deepEqual([stdout, stderr], ["1\n", ""]);
});

test("so does one that reads nothing, whatever the command", () => {
  for (const command of commands)
    deepEqual(unread(`${command} --help`), { status: "141", stderr: "" }, command);
});

test("a failure whose document nobody reads says why on stderr, once, without a stack", () => {
  const { stderr } = shell('{ sleep 0.1; "$@" verify /nowhere --json; } | true');
  equal(/ at |EPIPE/.test(stderr), false, stderr);
});

test("stderr that nobody reads ends it, too", () => {
  const { stdout } = shell(
    '{ sleep 0.1; "$@" verify /nowhere; echo "status $?" >&3; } 3>&1 2>&1 >/dev/null | true',
  );
  equal(/ at |EPIPE/.test(stdout), false, stdout);
});

test("a full disk behind stdout is an error with its reason", () => {
  for (const words of ["--help", "audit --list", "audit --list --json", "verify --help"]) {
    const { stdout, stderr } = shell(`"$@" ${words} >/dev/full; echo $?`);
    equal(stdout, "1\n", words);
    match(
      stderr,
      /^caisson \S+: the output cannot be written: ENOSPC: no space left on device, write {3}\[cli\/output\]\n {2}try {2}make room/,
    );
    equal(stderr.split("\n").length, 3, stderr);
  }
});
