// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { Failure, type FailureKind } from "@caisson/vocabulary/failure";
import { CommanderError } from "commander";
import { errorDocument, exitCode, renderError, UsageError } from "./failure.ts";

class ExampleError extends Failure {}

const failure = (kind: FailureKind) =>
  new ExampleError("area/reason", kind, "what failed, where", {
    facts: [
      ["found", "1"],
      ["expected", "2"],
    ],
    fix: "do this",
  });

const exitCodes: Record<FailureKind, number> = {
  rejected: 10,
  unsupported: 20,
  input: 30,
  usage: 2,
  unavailable: 75,
  interrupted: 130,
  internal: 1,
};
for (const [kind, code] of Object.entries(exitCodes) as [FailureKind, number][]) {
  test(`${kind} is exit code ${code}`, () => equal(exitCode(failure(kind)), code));
}

test("wrong usage is exit code 2, help is 0, anything else 1", () => {
  equal(exitCode(new UsageError("", "")), 2);
  equal(exitCode(new CommanderError(1, "commander.unknownOption", "error: unknown option '--x'")), 2);
  equal(exitCode(new CommanderError(0, "commander.helpDisplayed", "")), 0);
  equal(exitCode(new TypeError("a bug")), 1);
});

test("a person reads what failed, its facts in a column, and what to do", () => {
  equal(
    renderError("caisson x", failure("input")),
    "caisson x: what failed, where   [area/reason]\n  found     1\n  expected  2\n  try       do this\n",
  );
  match(
    renderError("caisson x", new TypeError("a bug")),
    /^caisson x: internal error\nTypeError: a bug\n +at /,
  );
});

test("wrong usage leads to the help", () => {
  const error = new CommanderError(1, "commander.unknownOption", "error: unknown option '--x'");
  equal(renderError("caisson x", error), "caisson x: unknown option '--x'\n  try  caisson x --help\n");
});

test("what a file or a guest wrote does not reach the terminal as a command", () => {
  const evil = new ExampleError("area/reason", "input", "a\x1b[2Jb", {
    facts: [["found", "c\r\nd\x07"]],
    fix: "e\x9bf",
  });
  equal(/[^\P{Cc}\n]/u.test(renderError("caisson x", evil)), false);
});

test("a program reads the same as one object", () => {
  deepEqual(errorDocument(failure("input")), {
    error: {
      code: "area/reason",
      message: "what failed, where",
      facts: { found: "1", expected: "2" },
      fix: "do this",
    },
  });
  deepEqual(errorDocument(new CommanderError(1, "commander.unknownOption", "error: unknown option '--x'")), {
    error: { code: "cli/usage", message: "unknown option '--x'" },
  });
  deepEqual(errorDocument("thrown"), { error: { code: "internal", message: "thrown" } });
});

const main = new URL("./main.ts", import.meta.url).pathname;
for (const { name, args, status, code } of [
  { name: "an unknown command", args: ["fly", "--json"], status: 2, code: "cli/usage" },
  { name: "an unknown option", args: ["lock", "x", "--fly", "--json"], status: 2, code: "cli/usage" },
  {
    name: "a spec that is not there",
    args: ["build", "/nowhere", "--json"],
    status: 2,
    code: "spec/unreadable",
  },
]) {
  test(`--json prints one document of the failure: ${name}`, () => {
    const run = spawnSync(process.execPath, ["--disable-warning=ExperimentalWarning", main, ...args], {
      encoding: "utf8",
    });
    equal(run.status, status, run.stderr);
    equal((JSON.parse(run.stdout) as { error: { code: string } }).error.code, code);
    match(run.stderr, /^caisson \w+: /);
  });
}
