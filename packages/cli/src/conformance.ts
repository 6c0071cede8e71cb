// SPDX-License-Identifier: Apache-2.0
/**
 * Conformance cases: evidence with everything that it is judged by, and what the answer must be, one JSON file each, so that
 * verifiers in any language can be driven by the same files (test/conformance/README.md has the form).
 */
import { globSync, statSync } from "node:fs";
import { join } from "node:path";
import { styleText } from "node:util";
import {
  expectNonce,
  intelRoot,
  readAmdCollateral,
  readCollateral,
  readPolicy,
  readReferences,
  VerifyError,
  verifyEvidence,
  verifyGenuine,
} from "@caisson/verify";
import { products } from "@caisson/verify/amd-products";
import { readEvidence } from "@caisson/verify/every-form";
import { fromBase64, fromHex } from "@caisson/vocabulary/bytes";
import { limits } from "@caisson/vocabulary/limits";
import {
  hex,
  type Infer,
  list,
  object,
  oneOf,
  optional,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";
import { exitCodes } from "./exit-codes.ts";
import { UsageError } from "./failure.ts";
import { readText } from "./judgement-files.ts";
import { jsonText } from "./views/answer.ts";
import { printable } from "./views/printable.ts";

const verdicts = ["accepted", "rejected", "undetermined", "unsupported", "malformed"] as const;

const anything: Schema<unknown> = (value) => value;
const base64 = text("base64", /^[A-Za-z0-9+/]*={0,2}$/, 2 * limits.document);
const caseSchema = object({
  version: oneOf("caisson/conformance/v1"),
  name: text("a name", /^[\x20-\x7e]+$/, 200),
  /** As of when, ISO 8601. */
  at: text("a time", /^\d{4}-/, 40),
  /** Roots in place of the vendors': for minted cases. */
  roots: optional(
    object({
      intel: optional(hex(65)),
      amd: optional(list(object({ product: oneOf(...products), keySha256: hex(32) }), 1, 3)),
    }),
  ),
  /** The evidence as somebody would hand it over, in base64. */
  evidence: base64,
  collateral: optional(anything),
  policy: optional(anything),
  references: optional(anything),
  nonce: optional(hex([1, 64])),
  /** `codes` are this implementation's: others are free to ignore them. */
  expect: object({
    verdict: oneOf(...verdicts),
    codes: optional(list(text("a code", /^[\w/-]+$/, 64), 0, 64)),
  }),
});
export type ConformanceCase = Infer<typeof caseSchema>;

export interface ConformanceResult {
  name: string;
  file: string;
  passed: boolean;
  expected: string;
  found: string;
}

/** Runs every case of a file or of a directory (`*.json`). Throws UsageError where there is none. */
export async function runConformance(path: string): Promise<ConformanceResult[]> {
  const directory = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  const files = directory
    ? globSync("**/*.json", { cwd: path })
        .sort()
        .map((name) => join(path, name))
    : [path];
  if (files.length === 0)
    throw new UsageError(`${path} has no conformance cases`, "files *.json in the form of test/conformance");
  const results: ConformanceResult[] = [];
  for (const file of files) results.push(await runFile(file));
  return results;
}

async function runFile(file: string): Promise<ConformanceResult> {
  const one = readCase(readText(file), file);
  const found = await answer(one);
  const { verdict, codes } = one.expect;
  const same = found.verdict === verdict && (codes === undefined || codes.join() === found.codes.join());
  const words = (v: string, c: readonly string[] = []) => `${v}${c.length === 0 ? "" : ` (${c.join(", ")})`}`;
  return {
    name: one.name,
    file,
    passed: same,
    expected: words(verdict, codes),
    found: words(found.verdict, found.codes),
  };
}

/** Throws VerifyError "evidence/malformed" for a file that is not a case. */
export function readCase(source: string, name: string): ConformanceCase {
  try {
    return caseSchema(JSON.parse(source));
  } catch (error) {
    if (!(error instanceof SchemaError || error instanceof SyntaxError)) throw error;
    throw new VerifyError("evidence/malformed", `${name} is not a conformance case: ${error.message}`);
  }
}

async function answer(
  one: ConformanceCase,
): Promise<{ verdict: (typeof verdicts)[number]; codes: string[] }> {
  try {
    const { verdict, codes } = await judge(one);
    return { verdict, codes };
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    const verdict =
      error.kind === "unsupported" ? "unsupported" : error.kind === "rejected" ? "undetermined" : "malformed";
    return { verdict, codes: [error.code] };
  }
}

async function judge(one: ConformanceCase) {
  const evidence = readEvidence(fromBase64(one.evidence) ?? new Uint8Array());
  const amd = evidence.platform === "snp";
  const { intel, amd: amdRoots } = one.roots ?? {};
  const judgement = {
    now: new Date(one.at),
    trust: intel === undefined ? intelRoot : { name: "the case's root", rootKey: fromHex(intel)! },
    ...(amdRoots && {
      amdRoots: amdRoots.map((root) => ({ name: `the case's ARK-${root.product}`, ...root })),
    }),
    ...(one.collateral !== undefined &&
      (amd
        ? { amdCollateral: readAmdCollateral(one.collateral) }
        : { collateral: readCollateral(one.collateral) })),
  };
  if (one.policy === undefined) return verifyGenuine(evidence, judgement);
  const expectedReportData = one.nonce === undefined ? undefined : expectNonce(evidence, fromHex(one.nonce)!);
  return verifyEvidence(evidence, {
    ...judgement,
    policy: readPolicy(one.policy),
    references: one.references === undefined ? [] : readReferences(one.references, "the case"),
    ...(expectedReportData && { expectedReportData }),
  });
}

/** Every case, those that are answered otherwise first. */
export async function showConformance(path: string, json: boolean): Promise<void> {
  const results = await runConformance(path);
  const wrong = results.filter(({ passed }) => !passed);
  const lines = wrong.map(({ name, file, expected, found }) =>
    [
      `${styleText("red", "FAIL")}  ${printable(name)}`,
      `      file      ${printable(file)}`,
      `      expected  ${expected}`,
      `      found     ${found}`,
    ].join("\n"),
  );
  const summary = `${results.length - wrong.length} of ${results.length} cases are answered as they must be`;
  process.stdout.write(json ? jsonText({ results }) : `${[...lines, summary].join("\n")}\n`);
  if (wrong.length > 0) process.exitCode = exitCodes.rejected;
}
