// SPDX-License-Identifier: Apache-2.0
import { deepEqual, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseDocument } from "yaml";
import { readPolicyText, readYaml } from "./policy-text.ts";

test("YAML and JSON give the same policy", () => {
  const policy = { version: "caisson/policy/v1", platformIdentities: "any" };
  deepEqual(readPolicyText("version: caisson/policy/v1\nplatformIdentities: any\n", "p"), policy);
  deepEqual(readPolicyText(JSON.stringify(policy), "p"), policy);
});

for (const [name, text] of [
  ["a key twice", "version: caisson/policy/v1\nversion: caisson/policy/v1\n"],
  ["an alias", "version: &v caisson/policy/v1\ndescription: *v\n"],
  ["an unknown tag, of which the parser only warns", "version: !odd caisson/policy/v1\n"],
  ["two documents", "version: caisson/policy/v1\n---\nversion: caisson/policy/v1\n"],
  ["an unclosed list", "version: [caisson/policy/v1\n"],
  ["no policy", "a text"],
  ["nothing", ""],
] as const) {
  test(`refused: ${name}`, () =>
    throws(() => readPolicyText(text, "p"), { code: "policy/malformed", kind: "input" }));
}

test("JSON is what YAML takes it for, whatever is in it", () => {
  const anything = fc.jsonValue({ stringUnit: "binary" });
  fc.assert(
    fc.property(
      fc.dictionary(fc.string({ unit: "binary" }), anything),
      fc.constantFrom(0, 2),
      (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        deepEqual(readYaml(text), parseDocument(text, { uniqueKeys: false }).toJS());
      },
    ),
  );
});

test("a key that stands twice in JSON is refused, however it is written", () => {
  for (const text of [
    '{"a":1,"a":1}',
    '{"b":[{"a":1, "a" :2}]}',
    '{"a":1,"\\u0061":1}',
    '{"__proto__":1,"__proto__":1}',
  ])
    throws(() => readYaml(text), { name: "SyntaxError", message: /stands twice/ });
  deepEqual(readYaml('{"a":"\\":","b":"\\\\"}'), { a: '":', b: "\\" });
});

test("a text that is nested without measure is refused in words", () => {
  for (const deep of ["[".repeat(20_000), `a:\n ${"- ".repeat(20_000)}x\nb: 1\n`])
    throws(() => readPolicyText(deep, "p.yaml"), {
      code: "policy/malformed",
      message: /too deep to be read/,
    });
});

test("any text is data or a SyntaxError", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        readYaml(text);
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
      }
    }),
  );
});
