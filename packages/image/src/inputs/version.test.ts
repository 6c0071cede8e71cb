// SPDX-License-Identifier: Apache-2.0
import { equal, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compareVersions, type Relation, satisfies } from "./version.ts";

// Each line is in rising order, by deb-version(7).
const rising = [
  ["1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a", "1.0+b", "1.0.1"],
  ["9", "10", "1:1", "2:0.1"],
  ["1.0", "1.0-0.1", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0-10"],
  ["7.3.4-1~bpo13+1", "7.3.4-1", "7.3.4-1+deb13u1"],
  ["0.9", "1.0-rc1", "1.0A", "1.0a", "1.0b"],
  ["2.0-1~1", "2.0-1", "2.0-1-1"],
  ["1.000000000000000000001", "1.99999999999999999999999999999999"],
];

for (const line of rising) {
  test(`${line.join(" < ")}`, () => {
    for (const [i, a] of line.entries()) {
      for (const [j, b] of line.entries()) {
        equal(Math.sign(compareVersions(a, b)), Math.sign(i - j), `${a} and ${b}`);
      }
    }
  });
}

test("leading zeros, a missing revision and a zero epoch make no difference", () => {
  for (const [a, b] of [
    ["1.01", "1.1"],
    ["1.0", "1.0-0"],
    ["0:1.0", "1.0"],
  ] as const) {
    equal(compareVersions(a, b), 0);
  }
});

const malformed = ["", "a1", "1:", ":1", "-1", "1 0", "1_0", "1.0-", "x:1", `1${"0".repeat(300)}`];
for (const version of malformed) {
  test(`'${version.slice(0, 12)}' is not a version`, () => {
    throws(() => compareVersions(version, "1.0"), { code: "lock/version" });
  });
}

const version = fc
  .tuple(
    fc.option(fc.nat(3), { nil: undefined }),
    fc.stringMatching(/^[0-9][0-9a-z.+~]{0,6}$/),
    fc.option(fc.stringMatching(/^[0-9a-z.+~]{1,4}$/), { nil: undefined }),
  )
  .map(
    ([epoch, upstream, revision]) =>
      (epoch === undefined ? "" : `${epoch}:`) + upstream + (revision === undefined ? "" : `-${revision}`),
  );

test("the order is total: antisymmetric and transitive", () => {
  fc.assert(
    fc.property(version, version, version, (a, b, c) => {
      equal(Math.sign(compareVersions(a, b)), -Math.sign(compareVersions(b, a)) || 0);
      if (compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0) equal(compareVersions(a, c) <= 0, true);
    }),
    { numRuns: 2000 },
  );
});

test("relations", () => {
  const cases: [string, Relation, string, boolean][] = [
    ["1.0", "<<", "1.0", false],
    ["1.0", "<=", "1.0", true],
    ["1.0", "=", "1.0-0", true],
    ["1.0", ">=", "1.0~", true],
    ["1.0", ">>", "1.0", false],
  ];
  for (const [a, relation, b, expected] of cases) equal(satisfies(a, relation, b), expected);
});
