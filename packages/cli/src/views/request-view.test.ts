// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import type { OperatorRequest } from "@caisson/kms";
import fc from "fast-check";
import { renderRequest } from "./request-view.ts";

const about = { version: "caisson/kms-request/v1", kms: "ab".repeat(32), replaces: 0, expires: 0 } as const;
const setting = (policy: string): OperatorRequest => ({
  ...about,
  action: "policy/set",
  app: "cd".repeat(20),
  policy,
});

test("a request is shown field by field, its policy line by line", () => {
  equal(
    renderRequest(setting("a: 1\nb:\n  c: 2\n"), 80),
    [
      "version: caisson/kms-request/v1",
      `kms: ${"ab".repeat(32)}`,
      "replaces: 0",
      "expires: 1970-01-01T00:00:00.000Z",
      "action: policy/set",
      `app: ${"cd".repeat(20)}`,
      "policy:",
      "  | a: 1",
      "  | b:",
      "  |   c: 2",
    ].join("\n"),
  );
});

test("a line that goes on cannot pass for another one", () => {
  const hidden = `a: 1${" ".repeat(72)}b: 2`;
  deepEqual(renderRequest(setting(hidden), 80).split("\n").slice(-2), [
    `  | a: 1${" ".repeat(72)}`,
    "  > b: 2",
  ]);
  ok(renderRequest(setting("a\u001b[2K"), 80).endsWith('  | "a\\u001b[2K"'));
});

test("no line is wider than the terminal, and nothing of a policy is lost", () => {
  const line = fc.stringMatching(/^[ -~]{1,200}$/);
  fc.assert(
    fc.property(
      fc.array(line, { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 80, max: 120 }),
      (lines, columns) => {
        const shown = renderRequest(setting(`${lines.join("\n")}.`), columns).split("\n");
        for (const one of shown) ok(one.length <= columns, one);
        const policy = shown.slice(shown.indexOf("policy:") + 1).join("\n");
        equal(policy.replaceAll("\n  > ", "").replaceAll(/^ {2}\| /gm, ""), `${lines.join("\n")}.`);
      },
    ),
  );
});
