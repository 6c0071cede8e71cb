// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import {
  type CheckKind,
  type Control,
  type ControlCheck,
  checkKinds,
  decisions,
  type Facts,
  groups,
  judge,
} from "../control.ts";
import { reasonsForNoCheck } from "../expect.ts";
import type { LiveFacts } from "../facts.ts";
import { frontedFacts, goodFacts, resolvedConfig } from "../testing/facts.ts";
import { catalogue } from "./index.ts";

const repository = new URL("../../../../", import.meta.url);
const hasCheck = (control: Control, kind: CheckKind) => typeof control[kind] !== "string";

test("what is expected is written in the catalogue, and taken from nothing that it judges", () => {
  const directory = new URL("./", import.meta.url);
  const files = readdirSync(directory).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));
  const taken = [
    ...files.map((name) => new URL(name, directory)),
    new URL("../expect.ts", directory),
  ].flatMap((file) =>
    [...readFileSync(file, "utf8").matchAll(/^import (?!type )[^;]*? from "(@caisson\/[^"]+)";/gm)].map(
      ([, name]) => name,
    ),
  );
  // How a line is cut into words, and which servers an image asks that names none: what is judged, not by what.
  deepEqual(new Set(taken), new Set(["@caisson/nts", "@caisson/protocol/command-line"]));
});

/** How many controls each group has: none goes without this line. */
const counts = {
  "command line": 22,
  "kernel attack surface": 45,
  "kernel self-protection": 25,
  randomness: 8,
  time: 14,
  firmware: 12,
  devices: 10,
  "file system": 13,
  "user space": 18,
  network: 10,
  container: 17,
  "key release": 9,
  attestation: 14,
};

test("the catalogue has these controls, and only rules of the verifier and the KMS have no check", () => {
  const found: Record<string, number> = {};
  for (const { group } of catalogue) found[group] = (found[group] ?? 0) + 1;
  deepEqual(found, counts);
  const unchecked = catalogue.filter((control) => !checkKinds.some((kind) => hasCheck(control, kind)));
  deepEqual(
    unchecked.map(({ id }) => id),
    ["X04", "X06", "Q07"],
  );
});

test("ids are unique, and every group and decision has controls", () => {
  equal(new Set(catalogue.map(({ id }) => id)).size, catalogue.length);
  deepEqual(new Set(catalogue.map(({ group }) => group)), new Set(groups));
  deepEqual(new Set(catalogue.map(({ decision }) => decision)), new Set(Object.keys(decisions)));
});

test("a control without any check names the tests that show it", () => {
  for (const control of catalogue) {
    ok(checkKinds.some((kind) => hasCheck(control, kind)) || (control.tests?.length ?? 0) > 0, control.id);
  }
});

test("a control that refers to tests names them", () => {
  for (const { id, tests, static: check } of catalogue)
    if (check === reasonsForNoCheck.behaviour) ok(tests !== undefined, id);
});

test("every named test exists", () => {
  for (const { id, tests = [] } of catalogue) {
    for (const path of tests) ok(existsSync(new URL(path, repository)), `${id} names ${path}`);
  }
});

test("firmware whose modules cannot be listed does not pass for one without a shell", () => {
  const { modules: _, ...firmware } = goodFacts.static().firmware;
  const facts = { ...goodFacts.static(), firmware: { ...firmware, unlisted: "compressed in another way" } };
  for (const id of ["F02", "F03", "F13"])
    equal(judge(catalogue.find((control) => control.id === id)!, "static", facts).outcome, "fail", id);
});

const redirects = "net.ipv4.conf.eth0.accept_redirects";
for (const [name, change] of [
  ["takes redirects although all and default refuse them", (sysctls) => void (sysctls[redirects] = "1")],
  ["has a value that is not reported", (sysctls) => void delete sysctls[redirects]],
  ["has a value that could not be read", (sysctls) => void (sysctls[redirects] = null)],
  [
    "is not reported at all, nor is another",
    (sysctls) => {
      for (const key of Object.keys(sysctls)) if (/conf\.(eth0|lo)\./.test(key)) delete sysctls[key];
    },
  ],
] as [string, (sysctls: LiveFacts["sysctls"]) => void][]) {
  test(`N05 fails where an interface ${name}`, () => {
    const facts = goodFacts.live();
    change(facts.sysctls);
    equal(judge(catalogue.find(({ id }) => id === "N05")!, "live", facts).outcome, "fail");
  });
}

test("a setting that the guest does not report passes nowhere", () => {
  const facts = goodFacts.live();
  const asked = catalogue.flatMap(({ live }) =>
    typeof live === "string" ? [] : live.filter(({ expects }) => /^[a-z]+(\.\w+)+ = /.test(expects)),
  );
  ok(asked.some(({ expects }) => expects === "kernel.yama.ptrace_scope = 3"));
  facts.sysctls = {};
  for (const one of asked) equal(one.judge(facts), "not reported", one.expects);
});

/** Controls of the front, which only some images have. */
const ofFront = ["O13", "O14", "O15", "O16"];

for (const kind of ["static", "live"] as const) {
  test(`${kind}: the controls of the front have nothing to judge where there is none`, () => {
    for (const control of catalogue.filter(({ id }) => ofFront.includes(id))) {
      const { outcome, details } = judge(control, kind, goodFacts[kind]());
      equal(outcome, "not-applicable", control.id);
      if (hasCheck(control, kind)) deepEqual(details, ["there is no front"], control.id);
    }
  });
}

test("X10 judges releases where the policy names an identity, and what was not reached is not passed", () => {
  const control = catalogue.find(({ id }) => id === "X10")!;
  const facts = goodFacts.remote();
  const { checks } = facts.report;
  facts.report.checks = checks.filter(({ id }) => id !== "app/release" && id !== "app/log");
  equal(judge(control, "remote", facts).outcome, "not-applicable");
  facts.report.checks = checks.map((one) =>
    one.id === "app/log" ? { ...one, outcome: "not-checked" } : one,
  );
  equal(judge(control, "remote", facts).outcome, "fail");
});

/** The matrix: every test of every check of every control, once on good facts, once on its counterexample. */
function matrix<K extends CheckKind>(kind: K): void {
  const [good, fronted] = [goodFacts[kind](), frontedFacts[kind]()];
  const goodFor = ({ id }: Control) => (ofFront.includes(id) ? fronted : good);
  test(`${kind}: good facts pass every control`, () => {
    for (const control of catalogue) {
      const { outcome, details } = judge(control, kind, goodFor(control));
      ok(outcome !== "fail", `${control.id}: ${details.join("; ")}`);
      // A check that judges nothing on good facts would be decoration.
      equal(outcome === "not-applicable", !hasCheck(control, kind), `${control.id}: ${details.join("; ")}`);
    }
  });
  test(`${kind}: every counterexample is noticed`, () => {
    for (const control of catalogue) {
      const check = control[kind] as ControlCheck<Facts[K]>;
      if (typeof check === "string") continue;
      ok(check.length > 0, `${control.id} has an empty list`);
      for (const one of check) {
        const copy = structuredClone(goodFor(control));
        one.break(copy);
        const found = one.judge(copy);
        ok(typeof found === "string", `${control.id} does not notice: ${one.expects}`);
        equal(judge(control, kind, copy).outcome, "fail", control.id);
      }
    }
  });
}
for (const kind of checkKinds) matrix(kind);

test("the committed production configuration fails recommended controls only, and exactly these", () => {
  const facts = {
    ...goodFacts.static(),
    kernel: { release: "7.3.4", config: resolvedConfig("production"), size: 0 },
  };
  const failed = catalogue.filter((control) => judge(control, "static", facts).outcome === "fail");
  deepEqual(
    failed.map(({ id, severity }) => [id, severity]),
    [
      ["K34", "recommended"],
      ["P21", "recommended"],
      ["F04", "recommended"],
    ],
  );
});

test("the committed development configuration differs by its declared deviations", () => {
  const facts = {
    ...goodFacts.static(),
    kernel: { release: "7.3.4", config: resolvedConfig("development"), size: 0 },
  };
  const failed = catalogue.filter(
    (control) => control.severity === "required" && judge(control, "static", facts).outcome === "fail",
  );
  deepEqual(
    failed.map(({ id }) => id),
    ["K35", "K37", "T13"],
  );
  for (const { id, development } of failed) ok(development?.kinds.includes("static"), id);
});

test("what development may fail is this, and nothing else", () => {
  const declared = catalogue.flatMap(({ id, development }) =>
    development === undefined ? [] : [`${id} ${development.kinds.join(" ")}`],
  );
  deepEqual(declared, [
    "K35 static live",
    "K37 static live",
    "R07 live",
    "T13 static live",
    "T14 live",
    "F01 static",
    "F02 static",
    "F03 static",
    "F11 static",
    "F13 static",
    "D05 live",
    "U18 static live",
    "Q11 live remote",
  ]);
});
