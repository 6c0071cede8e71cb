// SPDX-License-Identifier: Apache-2.0
/** `caisson/evidence/v1`, written and read: quotes and SEV-SNP reports, with collateral stapled to them. */
import { deepEqual, equal, throws } from "node:assert/strict";
import test from "node:test";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { VerifyError } from "../../errors.ts";
import { buildSnp } from "../../testing/snp-refusals.ts";
import { verifyGenuine } from "../../verify.ts";
import type { AnyEvidence, SnpEvidence } from "../evidence.ts";
import { writeEvidenceDocument, writeSnpDocument } from "./caisson-writer.ts";
import { readEvidence } from "./forms.ts";

const bytes = (value: object) => new Uint8Array(Buffer.from(JSON.stringify(value)));
const { report, collateral, roots, now } = buildSnp({});
const snp: SnpEvidence = {
  platform: "snp",
  report,
  collateral,
  reportData: { scheme: "raw", fields: { data: new Uint8Array(64) } },
};

test("a SEV-SNP report with its collateral needs nothing else", async () => {
  const document = writeSnpDocument(snp);
  const read = readEvidence(bytes(document));
  deepEqual(read, snp);
  equal((await verifyGenuine(read, { now, amdRoots: roots })).verdict, "accepted");
  const { collateral: _, ...bare } = document;
  equal((await verifyGenuine(readEvidence(bytes(bare)), { now, amdRoots: roots })).verdict, "undetermined");
});

test("a quote with its collateral needs nothing else, and what was stapled is checked as any other", async () => {
  const h = hierarchy("writer", { issued: new Date("2026-01-01"), expires: new Date("2027-01-01") });
  const made = mint(h);
  const evidence: AnyEvidence = { platform: "tdx", quote: issueQuote(h, made.pckChain, {}, "td15-v5") };
  const judge = async (collateral: typeof made.collateral) => {
    const read = readEvidence(bytes(writeEvidenceDocument({ ...evidence, collateral } as never)));
    return (await verifyGenuine(read, { now, trust: made.trust })).codes;
  };
  deepEqual(await judge(made.collateral), []);
  deepEqual(
    await judge({ ...made.collateral, tcb_info: made.collateral.tcb_info.replace("UpToDate", "OutOfDate") }),
    ["tcb-info/signature"],
  );
});

test("what a document has no place for", () => {
  const hcl = { runtimeData: new Uint8Array() };
  throws(() => writeSnpDocument({ ...snp, hcl }), RangeError);
  throws(() => writeEvidenceDocument({ platform: "tdx", quote: new Uint8Array(), hcl }), RangeError);
  const claim = { scheme: "tinfoil/v1", fields: {} } as const;
  throws(() => writeSnpDocument({ ...snp, reportData: claim }), RangeError);
});

const document = writeSnpDocument(snp);
for (const [name, change] of [
  ["a report of another size", { report: Buffer.alloc(1183).toString("base64") }],
  ["a quote beside it", { quote: "AAAA" }],
  ["events, which nothing proves", { runtimeEvents: [] }],
  ["a boot log, which nothing proves", { bootLog: "AAAA" }],
  [
    "a certificate that is not PEM",
    { collateral: { ...document.collateral, endorsement: "-----BEGIN CERTIFICATE-----\n!" } },
  ],
  ["collateral with an unknown part", { collateral: { ...document.collateral, ocsp: "" } }],
  ["another version", { version: "caisson/evidence/v2" }],
  ["a platform that there is not", { platform: "sev" }],
] as const) {
  test(`refused: ${name}`, () => {
    throws(() => readEvidence(bytes({ ...document, ...change })), { code: "evidence/malformed" });
  });
}

test("every truncation, and one bit of any byte of what counts: refused, or not accepted", async () => {
  const whole = bytes(document);
  const end = Buffer.from(whole).indexOf('"reportData"');
  for (let at = 0; at < end; at += 7) {
    throws(() => readEvidence(whole.subarray(0, at)), VerifyError);
    try {
      const read = readEvidence(whole.with(at, whole[at]! ^ 2));
      equal((await verifyGenuine(read, { now, amdRoots: roots })).verdict === "accepted", false, `${at}`);
    } catch (error) {
      if (!(error instanceof VerifyError)) throw error;
    }
  }
});
