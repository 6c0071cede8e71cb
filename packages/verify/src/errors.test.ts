// SPDX-License-Identifier: Apache-2.0
/** The set of codes is closed, unambiguous and documented. */
import { equal, ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { type CheckCode, checkOf, checks, genuineChecks, snpGenuineChecks, VerifyError } from "./errors.ts";
import { refusals } from "./testing/refusals.ts";
import { snpRefusals } from "./testing/snp-refusals.ts";

const codes = Object.values(checks).flatMap((check) => check.codes as readonly CheckCode[]);

test("a code belongs to one check", () => {
  equal(new Set(codes).size, codes.length);
  for (const [id, check] of Object.entries(checks)) {
    for (const code of check.codes) equal(checkOf(code), id);
  }
});

test("codes of checks are refusals, others are faults of the input", () => {
  equal(new VerifyError("crl/expired", "").kind, "rejected");
  equal(new VerifyError("policy/malformed", "").kind, "input");
  equal(new VerifyError("evidence/unsupported", "").kind, "unsupported");
});

test("every check and code is documented", () => {
  const text = readFileSync(new URL("../../../docs/verification.md", import.meta.url), "utf8");
  for (const name of [...Object.keys(checks), ...codes]) ok(text.includes(`\`${name}\``), name);
});

test("every code with which a quote can be refused is provoked by a named case", () => {
  const provoked = new Set<string>([...refusals, ...snpRefusals].map(({ code }) => code));
  const { "hcl/report": _, "hcl/tpm-quote": __, ...ofReports } = snpGenuineChecks;
  const missing = Object.values({ ...genuineChecks, ...ofReports })
    .flatMap((check) => check.codes as readonly string[])
    .filter((code) => !provoked.has(code));
  equal(missing.join(", "), "");
});
