// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseChallenges } from "./challenges.ts";

const plain = (field: string) =>
  parseChallenges(field).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

const fields: [field: string, challenges: unknown[]][] = [
  ["", []],
  ['Basic realm="x"', [["basic", { realm: "x" }]]],
  // The example of RFC 9110, section 11.6.1.
  [
    'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""',
    [["basic", { realm: "simple" }], ["newauth", { realm: "apps", type: "1", title: 'Login to "apps"' }]],
  ],
  ["Negotiate, NTLM", [["negotiate", {}], ["ntlm", {}]]],
  ['Negotiate YII=, bearer Realm = "r" , Scope="a,b"', [["negotiate", {}], ["bearer", { realm: "r", scope: "a,b" }]]],
  [",, Basic realm=x ,, ", [["basic", { realm: "x" }]]],
  ['Bearer realm="a", realm="b"', [["bearer", { realm: "a" }]]],
  ['Bearer realm="open', [["bearer", {}]]],
]; // biome-ignore format: a table
for (const [field, challenges] of fields) {
  test(`WWW-Authenticate: ${field}`, () => deepEqual(plain(field), challenges));
}

test("whatever a server sends, reading it ends", () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom("a", "=", '"', "\\\\", ",", " ", "\t", "1", "~+/", "realm", "Bearer ")),
      (pieces) => {
        parseChallenges(pieces.join(""));
      },
    ),
  );
});
