// SPDX-License-Identifier: Apache-2.0
/**
 * Attacks on SEV-SNP and on Azure's virtual TPM, by code: what is signed rightly and means something else, documents that two
 * readers would read differently, and parts of one guest beside parts of another.
 */
import { deepEqual, equal, throws } from "node:assert/strict";
import test from "node:test";
import { amdHierarchy, issueReport, mintAmd } from "@caisson/simulated/amd-pki";
import { hclReport, type QuoteChange, virtualTpm } from "@caisson/simulated/azure-hcl";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import fc from "fast-check";
import { REPORT_SIZE } from "../amd/report.ts";
import { VerifyError } from "../errors.ts";
import { readPolicy } from "../policy/policy.ts";
import { policyFrom } from "../policy/policy-from.ts";
import { readPolicyText } from "../policy/policy-text.ts";
import { now, times } from "../testing/evidence.ts";
import { verifyEvidence } from "../verify.ts";
import type { AnyEvidence } from "./evidence.ts";
import { readEvidence } from "./formats/forms.ts";

const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const json = (value: unknown) => bytes(JSON.stringify(value));
const url = (data: Uint8Array) => Buffer.from(data).toString("base64url");
const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");
const nonce = new Uint8Array(32).fill(9);
const pcrs = Array.from({ length: 24 }, (_, i) => new Uint8Array(32).fill(i));

/** An Azure guest of SEV-SNP, under one test hierarchy of AMD's. */
const h = amdHierarchy("Genoa", times);
const amd = mintAmd(h);
function azure(tpm = virtualTpm(), change?: (report: typeof h.report) => void) {
  const own = { ...h, report: { ...h.report, reportData: tpm.reportData } };
  change?.(own.report);
  return { tpm, report: issueReport(own) };
}
const honest = azure();
const document = (
  { tpm, report } = honest,
  {
    runtimeData = tpm.runtimeData,
    quote = tpm.quote(nonce, pcrs),
  }: Partial<{ runtimeData: Uint8Array; quote: ReturnType<typeof tpm.quote> }> = {},
) => ({
  version: 1,
  hcl_report: url(hclReport(2, report, runtimeData)),
  vcek: Buffer.from(amd.collateral.endorsement).toString("base64"),
  tpm_quote: { message: hex(quote.message), signature: hex(quote.signature), pcrs: quote.pcrs.map(hex) },
});
const policy = readPolicy({
  version: "caisson/policy/v1",
  snp: { measurements: [h.report.measurement], minimumTcb: "any", chipIds: "any" },
  pcrs: { 4: [hex(pcrs[4]!)], 7: [hex(pcrs[7]!)] },
});
async function codes(input: object | Uint8Array, under = policy): Promise<readonly string[]> {
  const evidence = readEvidence(input instanceof Uint8Array ? input : json(input));
  const { codes } = await verifyEvidence(evidence, {
    policy: under,
    now,
    amdCollateral: amd.collateral,
    amdRoots: amd.roots,
    expectedReportData: { scheme: "raw", fields: { data: nonce } },
  });
  return codes;
}

test("an honest Azure guest is accepted, and so under a policy made of its own evidence", async () => {
  deepEqual(await codes(document()), []);
  deepEqual(await codes({ platform: "az-snp", evidence: document() }), []);
  const text = policyFrom(readEvidence(json(document())), undefined);
  const own = readPolicyText(text, "p");
  deepEqual(await codes(document(), own), []);
  for (let i = 0; i < 24; i++) {
    const other = pcrs.map((value, at) => (at === i ? new Uint8Array(32).fill(0xee) : value));
    deepEqual(await codes(document(honest, { quote: honest.tpm.quote(nonce, other) }), own), ["hcl/pcr"]);
  }
});

test("parts of two guests: another TPM's quote, another's runtime data, another's report", async () => {
  const other = azure();
  deepEqual(await codes(document(honest, { quote: other.tpm.quote(nonce, pcrs) })), ["hcl/signature"]);
  deepEqual(await codes(document(honest, { runtimeData: other.tpm.runtimeData })), ["hcl/binding"]);
  deepEqual(await codes(document({ tpm: honest.tpm, report: other.report })), ["hcl/binding"]);
});

test("a guest of somebody else's with a TPM of its own making is refused by its measurement; and a policy without one does not exist", async () => {
  const theirs = azure(virtualTpm(), (report) => (report.measurement = "0b".repeat(48)));
  deepEqual(await codes(document(theirs)), ["snp/measurement"]);
  const open = { minimumTcb: "any", chipIds: "any", measurements: "any" };
  const version = "caisson/policy/v1";
  throws(() => readPolicy({ version, snp: open, pcrs: { 4: [hex(pcrs[4]!)] } }), {
    code: "policy/malformed",
  });
  throws(() => readPolicy({ version, registers: { mrtd: "any" }, pcrs: { 4: [hex(pcrs[4]!)] } }), {
    code: "policy/malformed",
  });
  readPolicy({ version, snp: { ...open, idKeys: ["0c".repeat(48)] }, pcrs: { 4: [hex(pcrs[4]!)] } });
  readPolicy({ version, snp: open, pcrs: "any" });
});

for (const [name, change] of [
  ["another magic: something that the key signed and no TPM made", { magic: 0x41414141 }],
  ["a certification, not a quote", { type: 0x8017 }],
  ["PCRs of another bank", { bank: 0x0004 }],
  ["something behind it", { behind: Uint8Array.of(0) }],
] as [string, QuoteChange][]) {
  test(`what the TPM's key signed is not a quote: ${name}`, async () => {
    deepEqual(await codes(document(honest, { quote: honest.tpm.quote(nonce, pcrs, change) })), [
      "hcl/signature",
    ]);
  });
}

test("PCRs that the quote does not cover prove nothing, whatever stands beside it", async () => {
  const quote = honest.tpm.quote(nonce, pcrs, { selection: [0x10, 0, 0] });
  deepEqual(await codes(document(honest, { quote })), ["hcl/pcr"]);
  const none = honest.tpm.quote(nonce, pcrs, { selection: [0, 0, 0] });
  deepEqual(await codes(document(honest, { quote: none })), ["hcl/pcr"]);
  const short = honest.tpm.quote(nonce, pcrs);
  deepEqual(await codes(document(honest, { quote: { ...short, pcrs: short.pcrs.slice(0, 23) } })), [
    "hcl/pcrs",
  ]);
  const swapped = [...short.pcrs.slice(0, 4), short.pcrs[5]!, short.pcrs[4]!, ...short.pcrs.slice(6)];
  deepEqual(await codes(document(honest, { quote: { ...short, pcrs: swapped } })), ["hcl/pcrs"]);
});

test("an old quote carries another nonce", async () => {
  deepEqual(await codes(document(honest, { quote: honest.tpm.quote(new Uint8Array(32), pcrs) })), [
    "report-data/nonce",
  ]);
  deepEqual(await codes(document(honest, { quote: honest.tpm.quote(new Uint8Array(), pcrs) })), [
    "report-data/nonce",
  ]);
});

for (const [name, text] of [
  [
    "two attestation keys",
    ({ n, e }) =>
      JSON.stringify({
        keys: [
          { kid: "HCLAkPub", kty: "RSA", n, e },
          { kid: "HCLAkPub", kty: "RSA", n: `${n.slice(0, -4)}AAAA`, e },
        ],
      }),
  ],
  [
    "a member twice",
    ({ n, e }) => `{"keys":[],"keys":[{"kid":"HCLAkPub","kty":"RSA","e":"${e}","n":"${n}"}]}`,
  ],
  [
    "a key's member twice",
    ({ n, e }) => `{"keys":[{"kid":"other","kid":"HCLAkPub","kty":"RSA","e":"${e}","n":"${n}"}]}`,
  ],
  ["another exponent", ({ n }) => JSON.stringify({ keys: [{ kid: "HCLAkPub", kty: "RSA", n, e: "Aw" }] })],
  ["another kind of key", ({ n, e }) => JSON.stringify({ keys: [{ kid: "HCLAkPub", kty: "EC", n, e }] })],
  ["no key", () => JSON.stringify({ keys: [] })],
  [
    "a short modulus",
    ({ n, e }) => JSON.stringify({ keys: [{ kid: "HCLAkPub", kty: "RSA", n: n.slice(0, 100), e }] }),
  ],
  ["not JSON", () => "keys"],
] as [string, (key: { n: string; e: string }) => string][]) {
  test(`runtime data that the report binds and that names no one key: ${name}`, async () => {
    deepEqual(await codes(document(azure(virtualTpm(text)))), ["hcl/key"]);
  });
}

test("one bit changed in any byte of an Azure document: refused, or no evidence at all", async () => {
  const whole = json({ hcl_report: document().hcl_report, tpm_quote: document().tpm_quote });
  await fc.assert(
    fc.asyncProperty(fc.nat(whole.length - 1), fc.integer({ min: 0, max: 7 }), async (at, bit) => {
      const changed = whole.with(at, whole[at]! ^ (1 << bit));
      try {
        // Hexadecimal says the same in either case; unused bits of base64 say nothing.
        const same =
          Buffer.from(changed).toString().toLowerCase() === Buffer.from(whole).toString().toLowerCase();
        if (!same) equal((await codes(changed)).length > 0, true, `${at}/${bit}`);
      } catch (error) {
        if (!(error instanceof VerifyError)) throw error;
      }
    }),
    { numRuns: 500 },
  );
});

const intel = hierarchy("attacks", times);
const quote = issueQuote(intel, mint(intel).pckChain, {}, "td15-v5");
test("documents with evidence of two kinds, which readers would not agree on", () => {
  const report = Buffer.from(honest.report).toString("base64");
  for (const mixed of [
    { ...document(), attestation_report: report },
    { attestation_report: report, quote: hex(quote) },
    { attestation: "00", quote: hex(quote), event_log: "[]" },
    { ...document(), quote: hex(quote) },
    { platform: "snp", evidence: { attestation_report: report, td_quote: url(quote) } },
  ]) {
    throws(() => readEvidence(json(mixed)), { code: "evidence/malformed" }, Object.keys(mixed).join());
  }
  for (const twice of [
    `{"attestation_report":"${report}","attestation_report":"${report}"}`,
    `{"quote":"${hex(quote)}","qu\\u006fte":"${hex(quote)}"}`,
  ]) {
    throws(() => readEvidence(bytes(twice)), { code: "evidence/malformed" });
  }
});

test("an HCL report's kind is that of its hardware: a TD's is not a report, a report not a TD's", async () => {
  const { tpm, report } = honest;
  throws(
    () => readEvidence(json({ ...document(), hcl_report: url(hclReport(4, report, tpm.runtimeData)) })),
    {
      code: "evidence/unsupported",
    },
  );
  throws(
    () =>
      readEvidence(json({ td_quote: url(quote), hcl_report: url(hclReport(2, report, tpm.runtimeData)) })),
    { code: "evidence/malformed" },
  );
  // A quote that binds other runtime data.
  const evidence = readEvidence(
    json({ td_quote: url(quote), hcl_report: url(hclReport(4, report, tpm.runtimeData)) }),
  );
  const { collateral, trust } = mint(intel);
  const judged = await verifyEvidence(evidence, {
    policy: readPolicy({ version: "caisson/policy/v1", pcrs: "any" }),
    now,
    collateral,
    trust,
  });
  deepEqual(judged.codes, ["hcl/binding"]);
});

test("a report of another version under the same signature, and bytes behind it", async () => {
  const snp: AnyEvidence = { platform: "snp", report: honest.report };
  for (const version of [2, 4, 5]) {
    const report = honest.report.with(0, version);
    const under = readPolicy({
      version: "caisson/policy/v1",
      snp: { measurements: "any", minimumTcb: "any", chipIds: "any" },
    });
    const { verdict } = await verifyEvidence(
      { ...snp, report },
      { policy: under, now, amdCollateral: amd.collateral, amdRoots: amd.roots },
    );
    equal(verdict, "rejected", `version ${version}`);
  }
  const longer = new Uint8Array(REPORT_SIZE + 24);
  longer.set(honest.report);
  equal("report" in readEvidence(longer), true, "zeros are what older kernels fill up with");
  throws(() => readEvidence(longer.with(REPORT_SIZE + 3, 1)), { code: "evidence/malformed" });
});

test("the certificate of another generation, in the place of each", async () => {
  const milan = mintAmd(amdHierarchy("Milan", times));
  const under = readPolicy({
    version: "caisson/policy/v1",
    snp: { measurements: "any", minimumTcb: "any", chipIds: "any", products: ["Milan", "Genoa"] },
    freshness: "any",
  });
  const [ask, ark] = amd.collateral.chain as [Uint8Array, Uint8Array];
  const [otherAsk, otherArk] = milan.collateral.chain as [Uint8Array, Uint8Array];
  for (const collateral of [
    { ...amd.collateral, endorsement: milan.collateral.endorsement },
    { ...amd.collateral, chain: [otherAsk, ark] },
    { ...amd.collateral, chain: [ask, otherArk] },
    { ...amd.collateral, chain: [otherAsk, otherArk] },
    { ...amd.collateral, chain: [ark, ark] },
    { ...amd.collateral, crl: milan.collateral.crl },
  ]) {
    const { verdict } = await verifyEvidence(
      { platform: "snp", report: honest.report },
      { policy: under, now, amdCollateral: collateral, amdRoots: [...amd.roots, ...milan.roots] },
    );
    equal(verdict === "accepted", false);
  }
});

test("huge and deep documents end early", () => {
  throws(() => readEvidence(new Uint8Array((4 << 20) + 1)), { code: "evidence/size" });
  throws(() => readEvidence(json({ hcl_report: "A".repeat(3 << 20) })), { code: "evidence/malformed" });
  throws(
    () =>
      readEvidence(
        json({ ...document(), tpm_quote: { message: "00", signature: "00", pcrs: Array(25).fill("00") } }),
      ),
    {
      code: "evidence/malformed",
    },
  );
  const depth = 400_000;
  throws(() => readEvidence(bytes(`{"quote":${"[".repeat(depth)}${"]".repeat(depth)}}`)), {
    code: "evidence/malformed",
  });
});
