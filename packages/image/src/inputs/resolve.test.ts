// SPDX-License-Identifier: Apache-2.0
import { deepEqual, match, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ImageError, type ImageErrorCode } from "../errors.ts";
import { makeIndex, type TestPackage } from "../testing/archive.ts";
import { parsePackages } from "./archive.ts";
import { resolve } from "./resolve.ts";
import { compareVersions } from "./version.ts";

type Suites = Record<string, TestPackage[]>;

const one = (name: string, version: string, fields: Record<string, string> = {}): TestPackage => ({
  name,
  version,
  fields,
});

function choose(suites: Suites, packages: string[], dependencies = true): string[] {
  const indexes = new Map(
    Object.entries(suites).map(([suite, list]) => [
      suite,
      parsePackages(Buffer.from(makeIndex(list)), suite),
    ]),
  );
  return resolve({ packages, dependencies, suites: Object.keys(suites) }, indexes).map(
    ({ name, version, suite }) => `${name} ${version} ${suite}`,
  );
}

const cases: {
  name: string;
  suites: Suites;
  packages: string[];
  chosen: string[];
  dependencies?: boolean;
}[] = [
  {
    name: "the highest version of all suites wins",
    suites: { main: [one("a", "1")], security: [one("a", "1.1"), one("a", "1.0.9")] },
    packages: ["a"],
    chosen: ["a 1.1 security"],
  },
  {
    name: "of equal versions, that of the first suite",
    suites: { main: [one("a", "1")], security: [one("a", "1")] },
    packages: ["a"],
    chosen: ["a 1 main"],
  },
  {
    name: "dependencies, through Pre-Depends, in circles, each once",
    suites: {
      main: [
        one("a", "1", { "Pre-Depends": "b", Depends: "c (>= 2)" }),
        one("b", "1", { Depends: "a" }),
        one("c", "2", { Depends: "b (<< 2)" }),
      ],
    },
    packages: ["a"],
    chosen: ["a 1 main", "b 1 main", "c 2 main"],
  },
  {
    name: "recommended packages are not wanted",
    suites: { main: [one("a", "1", { Recommends: "b", Suggests: "c" }), one("b", "1")] },
    packages: ["a"],
    chosen: ["a 1 main"],
  },
  {
    name: "the first alternative that there is",
    suites: { main: [one("a", "1", { Depends: "x | b | c" }), one("b", "1"), one("c", "1")] },
    packages: ["a"],
    chosen: ["a 1 main", "b 1 main"],
  },
  {
    name: "an alternative that is chosen anyway",
    suites: { main: [one("a", "1", { Depends: "b | c" }), one("b", "1"), one("c", "1")] },
    packages: ["c", "a"],
    chosen: ["a 1 main", "c 1 main"],
  },
  {
    name: "an alternative whose own dependency is missing is passed over",
    suites: {
      main: [one("a", "1", { Depends: "b | c" }), one("b", "1", { Depends: "nothing" }), one("c", "1")],
    },
    packages: ["a"],
    chosen: ["a 1 main", "c 1 main"],
  },
  {
    name: "a virtual package, by the name of its first provider",
    suites: {
      main: [
        one("a", "1", { Depends: "awk" }),
        one("mawk", "1", { Provides: "awk" }),
        one("gawk", "1", { Provides: "awk" }),
      ],
    },
    packages: ["a"],
    chosen: ["a 1 main", "gawk 1 main"],
  },
  {
    name: "a version is satisfied by a provided version only",
    suites: {
      main: [
        one("a", "1", { Depends: "lib (>= 2)" }),
        one("b", "9", { Provides: "lib" }),
        one("c", "1", { Provides: "lib (= 2.1)" }),
      ],
    },
    packages: ["a"],
    chosen: ["a 1 main", "c 1 main"],
  },
  {
    name: "an older version where only that one fits",
    suites: { main: [one("a", "1", { Depends: "b (= 1)" }), one("b", "1"), one("b", "2")] },
    packages: ["a"],
    chosen: ["a 1 main", "b 1 main"],
  },
  {
    name: "a conflict makes it go back and take the other alternative",
    suites: {
      main: [
        one("a", "1", { Depends: "b | c, d" }),
        one("b", "1"),
        one("c", "1"),
        one("d", "1", { Conflicts: "b" }),
      ],
    },
    packages: ["a"],
    chosen: ["a 1 main", "c 1 main", "d 1 main"],
  },
  {
    name: "Breaks of another version does no harm; one's own provided name does not conflict",
    suites: { main: [one("a", "1", { Breaks: "b (<< 2)", Provides: "x", Conflicts: "x" }), one("b", "2")] },
    packages: ["a", "b"],
    chosen: ["a 1 main", "b 2 main"],
  },
  {
    name: "qualifiers: any for what allows it, and the native architecture",
    suites: {
      main: [
        one("a", "1", { Depends: "p:any, q:amd64" }),
        one("p", "1", { "Multi-Arch": "allowed" }),
        one("q", "1"),
      ],
    },
    packages: ["a"],
    chosen: ["a 1 main", "p 1 main", "q 1 main"],
  },
  {
    name: "a group without dependencies",
    suites: { main: [one("b", "1", { Depends: "nothing" }), one("a", "1", { Conflicts: "b" })] },
    packages: ["b", "a"],
    dependencies: false,
    chosen: ["a 1 main", "b 1 main"],
  },
];

for (const { name, suites, packages, chosen, dependencies } of cases) {
  test(name, () => {
    deepEqual(choose(suites, packages, dependencies), chosen);
  });
}

const impossible: {
  name: string;
  list: TestPackage[];
  code: ImageErrorCode;
  message: RegExp;
  facts?: [string, string][];
}[] = [
  {
    name: "no such package",
    list: [one("b", "1")],
    code: "lock/missing-package",
    message: /no package 'a' in main/,
  },
  {
    name: "only something that provides it",
    list: [one("b", "1", { Provides: "a" })],
    code: "lock/missing-package",
    message: /no package 'a'/,
  },
  {
    name: "a dependency that is nowhere, with the chain to it",
    list: [one("a", "1", { Depends: "b" }), one("b", "2", { Depends: "c | d (>= 3)" }), one("d", "2")],
    code: "lock/unsatisfiable",
    message: /'c \| d \(>= 3\)'/,
    facts: [
      ["chosen", "a 1"],
      ["needs", "b 2"],
      ["needs", "c | d (>= 3)"],
    ],
  },
  {
    name: "a dependency deep in a circle",
    list: [
      one("a", "1", { Depends: "b" }),
      one("b", "1", { Depends: "a, c" }),
      one("c", "1", { Depends: "a, nothing" }),
    ],
    code: "lock/unsatisfiable",
    message: /'nothing', which a leads to/,
  },
  {
    name: "another architecture",
    list: [one("a", "1", { Depends: "b:arm64" }), one("b", "1")],
    code: "lock/unsatisfiable",
    message: /'b:arm64'/,
  },
  {
    name: "any architecture of what does not allow it",
    list: [one("a", "1", { Depends: "b:any" }), one("b", "1")],
    code: "lock/unsatisfiable",
    message: /'b:any'/,
  },
  {
    name: "two that conflict, with the chain to the later one",
    list: [
      one("a", "1", { Depends: "b, c" }),
      one("b", "1"),
      one("c", "1", { Depends: "d" }),
      one("d", "1", { Breaks: "b (<= 1)" }),
    ],
    code: "lock/conflict",
    message: /d 1 cannot stand beside b 1/,
    facts: [
      ["chosen", "a 1"],
      ["needs", "c 1"],
      ["needs", "d"],
    ],
  },
  {
    name: "two versions of one package",
    list: [
      one("a", "1", { Depends: "b (= 1), c" }),
      one("b", "1"),
      one("b", "2"),
      one("c", "1", { Depends: "b (= 2)" }),
    ],
    code: "lock/conflict",
    message: /b 2 cannot stand beside b 1/,
  },
  {
    name: "a malformed relation",
    list: [one("a", "1", { Depends: "b (~ 1)" })],
    code: "lock/index",
    message: /not a package relation/,
  },
  {
    name: "a path that climbs out of the pool",
    list: [{ name: "a", version: "1/../../../x" }],
    code: "lock/index",
    message: /a in main/,
  },
];

for (const { name, list, code, message, facts } of impossible) {
  test(`refused: ${name}`, () => {
    throws(
      () => choose({ main: list }, ["a"]),
      (error) => {
        if (!(error instanceof ImageError)) throw error;
        deepEqual(error.code, code);
        match(error.message, message);
        if (facts !== undefined) deepEqual(error.facts, facts);
        return true;
      },
    );
  });
}

const universe = fc.array(
  fc.record({
    name: fc.constantFrom("a", "b", "c", "d", "e"),
    version: fc.constantFrom("1", "2", "3"),
    depends: fc.array(
      fc.tuple(
        fc.constantFrom("a", "b", "c", "d", "e", "v"),
        fc.constantFrom("", " (>= 2)", " (<< 3)", " (= 1)"),
      ),
      { maxLength: 2 },
    ),
    conflicts: fc.option(fc.constantFrom("a", "b", "c", "d", "e", "v"), { nil: undefined }),
    provides: fc.option(fc.constantFrom("v", "v (= 2)"), { nil: undefined }),
  }),
  { maxLength: 12 },
);

/** Every choice of at most one version per name, tried one after the other. */
function bruteForce(list: TestPackage[], works: (chosen: TestPackage[]) => boolean): boolean {
  const names = [...new Set(list.map(({ name }) => name))];
  const go = (at: number, chosen: TestPackage[]): boolean => {
    if (at === names.length) return works(chosen);
    const versions = list.filter(({ name }) => name === names[at]);
    return [undefined, ...versions].some((version) =>
      go(at + 1, version === undefined ? chosen : [...chosen, version]),
    );
  };
  return go(0, []);
}

/** Whether a term is satisfied, written down independently of the product. */
function isMet(term: string, by: TestPackage): boolean {
  const [, name, relation, bound] = /^(\w+)(?: \((\S+) (\d)\))?$/.exec(term)!;
  const holds = (version: string | undefined) => {
    if (relation === undefined) return true;
    if (version === undefined) return false;
    const order = compareVersions(version, bound!);
    return relation === ">=" ? order >= 0 : relation === "<<" ? order < 0 : order === 0;
  };
  const provided = /^v(?: \(= (\d)\))?$/.exec(by.fields?.["Provides"] ?? "");
  return (by.name === name && holds(by.version)) || (name === "v" && provided !== null && holds(provided[1]));
}

function isConsistent(chosen: TestPackage[]): boolean {
  return (
    chosen.some(({ name }) => name === "a") &&
    chosen.every(({ fields }) =>
      (fields?.["Depends"] ?? "")
        .split(", ")
        .every((term) => term === "" || chosen.some((by) => isMet(term, by))),
    ) &&
    chosen.every((mine) =>
      chosen.every((other) => mine === other || !isMet(mine.fields?.["Conflicts"] ?? "none", other)),
    )
  );
}

test("against brute force: what is chosen is consistent, and what is refused is impossible", () => {
  fc.assert(
    fc.property(universe, (records) => {
      const list = records
        .filter(
          (record, i) =>
            records.findIndex(({ name, version }) => name === record.name && version === record.version) ===
            i,
        )
        .map(({ name, version, depends, conflicts, provides }) =>
          one(name, version, {
            ...(depends.length > 0 && { Depends: depends.map((parts) => parts.join("")).join(", ") }),
            ...(conflicts !== undefined && { Conflicts: conflicts }),
            ...(provides !== undefined && { Provides: provides }),
          }),
        );
      let chosen: string[];
      try {
        chosen = choose({ main: list }, ["a"]);
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
        deepEqual(bruteForce(list, isConsistent), false, error.message);
        return;
      }
      const packages = chosen.map(
        (label) => list.find(({ name, version }) => label === `${name} ${version} main`)!,
      );
      deepEqual(isConsistent(packages), true, chosen.join(", "));
    }),
    { numRuns: 600 },
  );
});
