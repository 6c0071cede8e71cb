// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { Failure, messageOf } from "./failure.ts";

class ExampleError extends Failure<"example/broken", "rejected"> {
  override readonly name = "ExampleError";
}

test("a failure carries its code, kind, facts, remedy and cause, and what is left out is not there", () => {
  const cause = new Error("beneath");
  const whole = new ExampleError("example/broken", "rejected", "it broke", {
    facts: [["found", "1"]],
    fix: "mend it",
    cause,
  });
  const { code, kind, message, facts, fix, name } = whole;
  deepEqual(
    { code, kind, message, facts, fix, name, cause: whole.cause },
    {
      code: "example/broken",
      kind: "rejected",
      message: "it broke",
      facts: [["found", "1"]],
      fix: "mend it",
      name: "ExampleError",
      cause,
    },
  );
  const bare = new ExampleError("example/broken", "rejected", "it broke");
  deepEqual(bare.facts, []);
  ok(bare.fix === undefined && !Object.hasOwn(bare, "cause"));
});

test("whatever was thrown says something", () => {
  equal(messageOf(new TypeError("wrong type")), "wrong type");
  equal(messageOf("a text"), "a text");
  equal(messageOf(undefined), "undefined");
  const endless = (): number => 1 + endless();
  try {
    endless();
  } catch (error) {
    equal(messageOf(error), "nested too deep to be read");
  }
});
