// SPDX-License-Identifier: Apache-2.0
/** Alerts and runbook name metrics that a KMS has. */
import { deepEqual, ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { readYaml } from "@caisson/verify/policy-text";
import { CollateralCache } from "./collateral-cache.ts";
import { Metrics } from "./metrics.ts";
import { PolicySet } from "./policy-set.ts";

const file = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), "utf8");

/** Every metric, by name, once each was counted. */
function names(): Set<string> {
  const metrics = new Metrics();
  const counters = ["hellos", "anchors", "released", "denied", "unlogged", "refused"] as const;
  for (const name of [...counters, "collateral_fetches", "peer_heads"] as const) metrics.count(name);
  metrics.observe(1);
  const collateral = Object.defineProperty(new CollateralCache(), "validUntil", { value: Date.now() });
  metrics.configured(1, { policies: new PolicySet(), files: new PolicySet(), collateral });
  return new Set([...metrics.render(1).matchAll(/^(\w+)[ {]/gm)].map(([, name]) => name!));
}

interface Rules {
  groups: { rules: { alert: string; expr: string; labels: { severity: string } }[] }[];
}

const metricIn = (text: string) =>
  [...text.matchAll(/\b((?:caisson_kms|process|nodejs)_\w+)/g)].map(([, name]) => name!);

test("each panel of the dashboard asks for metrics that there are, and each metric has a panel", () => {
  const known = names();
  const { panels } = JSON.parse(file("deploy/kms/dashboard.json")) as {
    panels: { title: string; targets: { expr: string }[] }[];
  };
  const shown = panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => metricIn(expr)));
  deepEqual(
    shown.filter((name) => !known.has(name)),
    [],
  );
  deepEqual(
    [...known].filter((name) => !shown.includes(name)),
    [],
  );
});

test("what is alerted on the first time it happens was there before, at zero", () => {
  const page = new Metrics().render(0);
  const rules = (readYaml(file("deploy/kms/alerts.yaml")) as Rules).groups.flatMap((group) => group.rules);
  for (const { expr } of rules) {
    for (const [series] of expr.matchAll(/caisson_kms_\w+_total\{[^}]+\}/g))
      ok(page.includes(`${series} 0\n`), series);
  }
});

test("each alert asks for metrics that there are", () => {
  const known = names();
  const rules = (readYaml(file("deploy/kms/alerts.yaml")) as Rules).groups.flatMap((group) => group.rules);
  ok(rules.length > 10);
  for (const { alert, expr } of rules) {
    deepEqual(
      metricIn(expr).filter((name) => !known.has(name)),
      [],
      alert,
    );
  }
});

test("each metric of the runbook is one, and has an alert", () => {
  const known = names();
  const [table] = file("docs/runbooks.md").split("## Watch")[1]!.split("## ");
  const alerts = file("deploy/kms/alerts.yaml");
  const rows = [...table!.matchAll(/^\| `(\w+)[`{]/gm)]
    .map(([, name]) => name!)
    .filter((name) => name !== "up");
  ok(rows.length > 8);
  for (const name of rows) {
    ok(known.has(name) || known.has(`${name}_bucket`), name);
    // Replicas' logs are compared by themselves (peer-heads.ts).
    if (name !== "caisson_kms_log_entries") ok(alerts.includes(name), name);
  }
});
