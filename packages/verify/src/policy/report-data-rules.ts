// SPDX-License-Identifier: Apache-2.0
/** What report data binds, and that it is what the verifier expects: its nonce, first of all. */
import { concat, equal, toHex } from "@caisson/vocabulary/bytes";
import { digest } from "#crypto";
import type { AnyEvidence, ClaimScheme, Evidence } from "../evidence/evidence.ts";
import type { GenuineHcl } from "../evidence/hcl.ts";
import { reportData, reportDataSchemes } from "../evidence/report-data.ts";
import type { Answers } from "../report.ts";
import type { Policy } from "./policy.ts";

/** Report data that the verifier itself knows: its nonce, and whatever else it chose or was told in private. */
export interface ExpectedReportData {
  scheme: ClaimScheme;
  /** Fields by name (`reportDataSchemes`); those that are left out may have any value. `raw` has the field `data`. */
  fields: Partial<Record<string, Uint8Array>>;
}

/** A nonce as this evidence would carry it: under the scheme that it names, never under one for something else than a nonce. */
export function expectNonce({ reportData: claim }: AnyEvidence, nonce: Uint8Array): ExpectedReportData {
  const scheme = claim === undefined || claim.scheme === "raw" ? "raw" : claim.scheme;
  if (scheme === "raw") return { scheme, fields: { data: nonce } };
  return { scheme: scheme === "tinfoil/v1" ? scheme : "caisson/app/v1", fields: { nonce } };
}

export const noNonce =
  'the verifier was given no nonce to expect; freshness: "any" accepts evidence of any age';

type Claim = NonNullable<Evidence["reportData"]>;

/** The bytes that a claim binds; undefined when its fields are not those of its scheme. */
async function boundReportData({ scheme, fields }: Claim): Promise<Uint8Array | undefined> {
  if (scheme === "raw") {
    const data = Object.keys(fields).length === 1 ? fields.data : undefined;
    if (data === undefined || data.length > 64) return undefined;
    return padded(data);
  }
  if (scheme === "tinfoil/v1") return tinfoilReportData(fields);
  const names: readonly string[] = reportDataSchemes[scheme];
  if (Object.keys(fields).length !== names.length || !names.every((name) => Object.hasOwn(fields, name))) {
    return undefined;
  }
  return reportData(scheme, fields as Parameters<typeof reportData>[1]);
}

/** What a document of Tinfoil's binds; undefined where what it says of itself is not so. */
async function tinfoilReportData(fields: Record<string, Uint8Array>): Promise<Uint8Array | undefined> {
  const { nonce, cryptoMaterial, deviceEvidence, cryptoMaterialHash, deviceEvidenceHash } = fields;
  const hashes = await Promise.all([digest("sha256", cryptoMaterial!), digest("sha256", deviceEvidence!)]);
  const label = new TextEncoder().encode("https://tinfoil.sh/report-data/v1");
  const bound = padded(await digest("sha256", concat(label, nonce!, ...hashes)));
  const stated = [cryptoMaterialHash!, deviceEvidenceHash!, fields.reportData!];
  return stated.every((value, i) => equal(value, [...hashes, bound][i]!)) ? bound : undefined;
}

/** Raw report data is what it is, zeros behind it. */
function padded(data: Uint8Array): Uint8Array {
  const whole = new Uint8Array(Math.max(64, data.length));
  whole.set(data);
  return whole;
}

/** `hcl`: the report data binds a virtual TPM, and it is that TPM's quote that carries the nonce. */
export async function checkReportData(
  { reportData: stated }: AnyEvidence,
  found: Uint8Array,
  hcl: GenuineHcl | undefined,
  { policy, expectedReportData: expected }: { policy: Policy; expectedReportData?: ExpectedReportData },
  answers: Answers,
): Promise<void> {
  const fresh = policy.freshness !== "any";
  if (hcl !== undefined) {
    answers.pass("report-data/preimage", { actual: "the runtime data of the HCL report" });
    checkQuoteNonce(hcl, expected, fresh, answers);
    return;
  }
  // A quote by itself says no scheme: for whoever knows the bytes to expect, they are what they are.
  const raw = { scheme: "raw", fields: { data: found } } as const;
  const claim = stated ?? (expected?.scheme === "raw" ? raw : undefined);
  await checkPreimage(claim, found, fresh || expected !== undefined, answers);
  checkExpected(claim, expected, fresh, answers);
}

/** That report data is what the evidence says; `needed` where somebody goes by that. */
async function checkPreimage(
  claim: Claim | undefined,
  found: Uint8Array,
  needed: boolean,
  answers: Answers,
): Promise<void> {
  const actual = toHex(found);
  if (claim === undefined) {
    if (needed) {
      answers.fail("report-data/missing", {
        reason: "the evidence does not say what its report data binds",
        actual,
      });
    } else answers.notChecked("report-data/preimage", "the policy leaves freshness open", { actual });
    return;
  }
  const bound = await boundReportData(claim);
  if (bound !== undefined && equal(bound, found)) {
    answers.pass("report-data/preimage", { actual: claim.scheme });
  } else {
    answers.fail("report-data/preimage", {
      expected: `${actual} (quote)`,
      actual: bound === undefined ? `other fields than ${claim.scheme} has` : `${toHex(bound)} (claim)`,
    });
  }
}

/** That what the verifier knows is in what the evidence says: its nonce, and whatever else it expects. */
function checkExpected(
  claim: Claim | undefined,
  expected: ExpectedReportData | undefined,
  fresh: boolean,
  answers: Answers,
): void {
  const nonceField = { raw: "data", "caisson/channel/v1": "nonceRoot" } as const;
  const nonceName = nonceField[expected?.scheme as keyof typeof nonceField] ?? "nonce";
  const nonce = expected?.fields[nonceName];
  if (fresh && (nonce === undefined || nonce.length === 0)) {
    answers.fail("report-data/no-nonce", {
      reason: noNonce,
    });
  } else if (expected === undefined) {
    answers.notChecked("report-data/expected", "the policy leaves freshness open");
  } else if (claim?.scheme !== expected.scheme) {
    answers.fail("report-data/scheme", { expected: expected.scheme, actual: claim?.scheme ?? "none" });
  } else {
    const fields: Partial<Record<string, Uint8Array>> = claim.fields;
    const field = (bytes: Uint8Array) => (expected.scheme === "raw" ? padded(bytes) : bytes);
    const wrong = Object.entries(expected.fields).find(
      ([name, value]) =>
        value !== undefined && !equal(field(value), field(fields[name] ?? new Uint8Array(0))),
    );
    if (wrong === undefined)
      answers.pass("report-data/expected", { actual: Object.keys(expected.fields).join(", ") });
    else {
      const [name, value] = wrong;
      answers.fail(name === nonceName ? "report-data/nonce" : "report-data/field", {
        expected: `${name} ${toHex(value!)}`,
        actual: toHex(fields[name] ?? new Uint8Array(0)),
      });
    }
  }
}

function checkQuoteNonce(
  { extraData }: GenuineHcl,
  expected: ExpectedReportData | undefined,
  fresh: boolean,
  answers: Answers,
): void {
  const nonce = expected?.scheme === "raw" ? expected.fields.data : expected?.fields.nonce;
  const actual = extraData === undefined ? "no quote of the virtual TPM" : toHex(extraData);
  if (nonce === undefined || nonce.length === 0) {
    if (!fresh) answers.notChecked("report-data/expected", "the policy leaves freshness open", { actual });
    else answers.fail("report-data/no-nonce", { reason: noNonce });
  } else if (extraData !== undefined && equal(extraData, nonce)) {
    answers.pass("report-data/expected", { actual: "the virtual TPM's quote carries the nonce" });
  } else answers.fail("report-data/nonce", { expected: toHex(nonce), actual });
}
