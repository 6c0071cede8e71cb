import { deepEqual, equal, match } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { CommanderError } from "commander";
import { errorDocument, exitCode, renderError, UsageError } from "./failure.ts";

const refused = Object.assign(new Error("the quote is signed by nobody"), {
  code: "quote/signature",
  kind: "rejected",
  facts: [["found", "none"]],
  fix: "ask again",
});

test("a failure says what, where and what to do, and its kind decides the exit code", () => {
  equal(
    renderError("caisson verify", refused),
    "caisson verify: the quote is signed by nobody   [quote/signature]\n  found  none\n  try    ask again\n",
  );
  equal(exitCode(refused), 10);
  equal(exitCode(new UsageError("no", "yes")), 2);
  equal(exitCode(new CommanderError(1, "commander.unknownOption", "error: unknown option '--x'")), 2);
  equal(exitCode(new TypeError("a bug")), 1);
  match(renderError("caisson", new TypeError("a bug")), /^caisson: internal error\nTypeError: a bug\n/);
});

test("for programs the same is one document", () => {
  deepEqual(errorDocument(refused), {
    error: {
      code: "quote/signature",
      message: "the quote is signed by nobody",
      facts: { found: "none" },
      fix: "ask again",
    },
  });
  deepEqual(errorDocument(new TypeError("a bug")), {
    error: { code: "internal", message: "TypeError: a bug" },
  });
});

const main = new URL("./main.ts", import.meta.url).pathname;
const cases = [
  { name: "an unknown command", args: ["fly", "--json"], status: 2, code: "cli/usage" },
  { name: "an unknown option", args: ["lock", "x", "--fly", "--json"], status: 2, code: "cli/usage" },
  { name: "a spec that is not there", args: ["build", "/nowhere", "--json"], status: 30, code: /^spec\// },
];
for (const { name, args, status, code } of cases) {
  test(`--json prints one document of the failure: ${name}`, () => {
    const run = spawnSync(process.execPath, ["--disable-warning=ExperimentalWarning", main, ...args], {
      encoding: "utf8",
    });
    equal(run.status, status, run.stderr);
    const document = JSON.parse(run.stdout) as { error: { code: string } };
    if (typeof code === "string") equal(document.error.code, code);
    else match(document.error.code, code);
    match(run.stderr, /^caisson \w+: /);
  });
}
