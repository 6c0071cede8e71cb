// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { capabilities, describedRecipes, evaluate, type KernelRecipe } from "./kernel-candidates.ts";
import { parseKernelConfig } from "./kernel-config.ts";
import { checkRecommendations, deviations, recommendations } from "./kernel-recommendations.ts";
import { compareReleases } from "./releases.ts";
import { resolvedConfig } from "./testing/facts.ts";

const answers = (recipe: KernelRecipe) =>
  Object.fromEntries(evaluate(recipe).verdicts.map(({ capability, answer }) => [capability.id, answer]));
const debian = (release: string): KernelRecipe => ({ name: "linux", release, origin: "a test" });

const releases: [older: string, newer: string][] = [
  ["6.9", "6.16"],
  ["6.18.40", "7.0"],
  ["7.0-rc6", "7.0.1"],
  ["5.19", "6.1.0"],
];
for (const [older, newer] of releases) {
  test(`${older} is older than ${newer}`, () => {
    ok(compareReleases(older, newer) < 0);
    ok(compareReleases(newer, older) > 0);
    equal(compareReleases(older, older), 0);
  });
}

test("no described recipe has everything; each is refused for what it lacks", () => {
  const lacking = Object.fromEntries(
    describedRecipes.map((recipe) => [
      recipe.release,
      evaluate(recipe)
        .verdicts.filter(({ answer, capability }) => capability.required && answer !== "yes")
        .map(({ capability }) => capability.id),
    ]),
  );
  deepEqual(lacking, {
    "6.6": ["configfs-tsm", "stub-measures", "rdrand-or-panic", "rtmr-extension", "quote-length-fix"],
    "6.9": ["rtmr-extension", "quote-length-fix"],
    "6.12": ["rtmr-extension", "quote-length-fix"],
    "6.18": ["quote-length-fix"],
  });
});

test("a fix that stable branches took is unknown by release, decided by source", () => {
  equal(answers(debian("6.18.40"))["quote-length-fix"], "unknown");
  const files = new Map([["drivers/virt/coco/tdx-guest/tdx-guest.c", "#define TDX_QUOTE_MAX_LEN"]]);
  equal(answers({ ...debian("6.18.40"), files })["quote-length-fix"], "yes");
  equal(answers({ ...debian("7.3.4"), files: new Map() })["quote-length-fix"], "no");
});

test("a configuration can only take away", () => {
  const config = resolvedConfig("production");
  ok(evaluate({ ...debian("7.3.4"), config }).accepted);
  for (const { id, symbols = [] } of capabilities) {
    for (const symbol of symbols) {
      const without = new Map(config);
      without.delete(symbol);
      const answer = evaluate({ ...debian("7.3.4"), config: without }).verdicts.find(
        ({ capability }) => capability.id === id,
      );
      deepEqual([answer?.answer, answer?.basis], ["no", "configuration"], `${id} without ${symbol}`);
    }
  }
  equal(evaluate({ ...debian("6.6"), config }).accepted, false);
});

for (const flavour of ["production", "development"] as const) {
  test(`${flavour}: every recommendation is followed, or its deviation is explained and still needed`, () => {
    const findings = checkRecommendations(resolvedConfig(flavour));
    deepEqual(
      findings.filter(({ outcome }) => outcome === "fail"),
      [],
    );
    const used = findings.filter(({ outcome }) => outcome === "deviation").map(({ symbol }) => symbol);
    deepEqual(new Set(used), new Set(Object.keys(deviations)));
  });
}

test("a configuration with nothing set fails; the count of recommendations is stable", () => {
  const findings = checkRecommendations(parseKernelConfig("CONFIG_MODULES=y\nCONFIG_DEVMEM=y\n"));
  const count = (outcome: string) => findings.filter((one) => one.outcome === outcome).length;
  deepEqual([count("fail"), count("deviation"), count("ok")], [59, 22, 110]);
  ok(findings.some(({ symbol, outcome }) => symbol === "MODULES" && outcome === "fail"));
  equal(new Set(recommendations.map(({ symbols }) => symbols[0])).size, recommendations.length);
});
