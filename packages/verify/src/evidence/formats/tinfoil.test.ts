// SPDX-License-Identifier: Apache-2.0
/** Tinfoil's documents, minted: versions 2 and 3, over reports and quotes, whole, changed and with collateral of every kind. */
import { deepEqual, equal, notEqual, ok, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { gzipSync } from "node:zlib";
import { amdHierarchy, issueReport, mintAmd } from "@caisson/simulated/amd-pki";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { toHex } from "@caisson/vocabulary/bytes";
import fc from "fast-check";
import { VerifyError } from "../../errors.ts";
import { readPolicy } from "../../policy/policy.ts";
import { expectNonce } from "../../policy/report-data-rules.ts";
import { type Judgement, verifyEvidence } from "../../verify.ts";
import { describeEvidence } from "../describe.ts";
import { readEvidence } from "./every-form.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const now = new Date("2026-06-01T00:00:00Z");
const uri = "https://tinfoil.sh/";
const sha256 = (...parts: (Uint8Array | string)[]) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const json = (value: unknown) => new Uint8Array(Buffer.from(JSON.stringify(value)));
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");

const nonce = new Uint8Array(32).fill(5);
const material = json({
  format: `${uri}crypto-material/v1`,
  items: [
    { id: "tls", format: `${uri}key/spki-fp-sha256/v1`, data: "a1".repeat(32) },
    { id: "hpke", format: `${uri}key/x25519-hpke/v1`, data: "a2".repeat(32) },
  ],
});
const devices = json({ format: `${uri}device-evidence/v1`, items: [] });
const bound = `${toHex(sha256(`${uri}report-data/v1`, nonce, sha256(material), sha256(devices)))}${"00".repeat(32)}`;

const h = hierarchy("tinfoil", times);
const intel = mint(h);
const amd = amdHierarchy("Genoa", times);
amd.report.reportData = bound;
const amdMinted = mintAmd(amd);
const report = issueReport(amd);
const quote = issueQuote(h, intel.pckChain, { reportData: bound }, "td15-v5");

const answers = () => {
  const { collateral } = intel;
  const answer = (path: string, body: Uint8Array | string, header?: [string, string]) => ({
    url: `https://api.example${path}`,
    headers: header === undefined ? {} : { [header[0]]: [encodeURIComponent(header[1])] },
    body_base64: Buffer.from(body).toString("base64"),
  });
  return [
    answer(
      "/tdx/certification/v4/tcb?fmspc=CA1550000000",
      `{"tcbInfo":${collateral.tcb_info},"signature":"${collateral.tcb_info_signature}"}`,
      ["TCB-Info-Issuer-Chain", collateral.tcb_info_issuer_chain],
    ),
    answer(
      "/tdx/certification/v4/qe/identity",
      `{"enclaveIdentity":${collateral.qe_identity},"signature":"${collateral.qe_identity_signature}"}`,
      ["SGX-Enclave-Identity-Issuer-Chain", collateral.qe_identity_issuer_chain],
    ),
    answer("/sgx/certification/v4/pckcrl?ca=platform&encoding=der", Buffer.from(collateral.pck_crl, "hex"), [
      "SGX-PCK-CRL-Issuer-Chain",
      collateral.pck_crl_issuer_chain,
    ]),
    answer("/IntelSGXRootCA.der", Buffer.from(collateral.root_ca_crl, "hex")),
  ];
};

function document(kind: "snp" | "tdx") {
  return {
    format: `${uri}predicate/attestation/v3`,
    challenge: { nonce: toHex(nonce), report_data: bound, report_data_algorithm: `${uri}report-data/v1` },
    cpu_evidence: {
      format: `${uri}format/${kind === "snp" ? "sev-snp-report" : "tdx-quote"}/v1`,
      report_base64: base64(kind === "snp" ? report : quote),
      endorsed: {
        crypto_material_hash: toHex(sha256(material)),
        device_evidence_hash: toHex(sha256(devices)),
      },
    },
    crypto_material: base64(material),
    device_evidence: base64(devices),
    collateral:
      kind === "snp"
        ? [
            {
              id: "vcek",
              role: "endorsement",
              format: `${uri}collateral/amd-vcek/v1`,
              subjects: ["cpu"],
              data: {
                vcek_der_base64: base64(amdMinted.collateral.endorsement),
                cert_chain_pem: amdMinted.document.chain,
              },
            },
            {
              id: "crl",
              role: "endorsement",
              format: `${uri}collateral/amd-crl/v1`,
              subjects: ["cpu"],
              data: { crl_der_base64: base64(amdMinted.collateral.crl) },
            },
            {
              id: "code",
              role: "reference-values",
              format: `${uri}collateral/sigstore-code/v1`,
              data: { repo: "a/b" },
            },
          ]
        : [
            {
              id: "pcs",
              role: "endorsement",
              format: `${uri}collateral/intel-pcs/v1`,
              data: { responses: answers() },
            },
          ],
  };
}
type Document = ReturnType<typeof document>;

const version = "caisson/policy/v1";
const policies = {
  snp: readPolicy({ version, snp: { measurements: "any", chipIds: "any", minimumTcb: "any" } }),
  tdx: readPolicy({
    version,
    tcb: { minimumEvaluationNumber: "any" },
    platformIdentities: "any",
    td: { mrServiceTd: "any" },
    references: [
      { mrtd: "00".repeat(48), rtmr0: "00".repeat(48), rtmr1: "00".repeat(48), rtmr2: "00".repeat(48) },
    ],
    runtimeEvents: "none",
  }),
};
async function codes(
  kind: "snp" | "tdx",
  bytes: Uint8Array,
  challenge = nonce,
  given: Partial<Judgement> = {},
) {
  const evidence = readEvidence(bytes);
  const expectedReportData = expectNonce(evidence, challenge);
  const found = await verifyEvidence(evidence, {
    policy: policies[kind],
    now,
    trust: intel.trust,
    amdRoots: amdMinted.roots,
    expectedReportData,
    ...given,
  });
  return found.codes;
}

for (const kind of ["snp", "tdx"] as const) {
  test(`version 3, ${kind}: nonce, sections and its own collateral`, async () => {
    deepEqual(await codes(kind, json(document(kind))), []);
    deepEqual(await codes(kind, json(document(kind)), new Uint8Array(32)), ["report-data/nonce"]);
    const { groups } = describeEvidence(readEvidence(json(document(kind))));
    equal(groups["bound by the report data"]!.tls, `${"a1".repeat(32)} (key/spki-fp-sha256/v1)`);
  });

  test(`version 3, ${kind}: what it says of itself must be so`, async () => {
    const changes: ((d: Document) => void)[] = [
      (d) => (d.challenge.nonce = "06".repeat(32)),
      (d) => (d.challenge.report_data = "06".repeat(64)),
      (d) => (d.cpu_evidence.endorsed.crypto_material_hash = "06".repeat(32)),
      (d) => (d.cpu_evidence.endorsed.device_evidence_hash = "06".repeat(32)),
      (d) => (d.crypto_material = base64(json({ format: `${uri}crypto-material/v1`, items: [] }))),
      // The same items, written otherwise.
      (d) =>
        (d.device_evidence = base64(
          new Uint8Array(Buffer.from(`{ "format": "${uri}device-evidence/v1", "items": [] }`)),
        )),
    ];
    for (const [i, change] of changes.entries()) {
      const changed = document(kind);
      change(changed);
      ok((await codes(kind, json(changed))).includes("report-data/preimage"), `${i}`);
    }
  });

  test(`version 2, ${kind}: the report or quote, and no nonce`, async () => {
    const bytes = kind === "snp" ? report : quote;
    const format = `${uri}predicate/${kind === "snp" ? "sev-snp" : "tdx"}-guest/v2`;
    const evidence = readEvidence(json({ format, body: base64(gzipSync(bytes)) }));
    deepEqual("report" in evidence ? evidence.report : "quote" in evidence && evidence.quote, bytes);
    equal(evidence.reportData, undefined);
    const given = { collateral: intel.collateral, amdCollateral: amdMinted.collateral };
    deepEqual(await codes(kind, json({ format, body: base64(gzipSync(bytes)) }), nonce, given), [
      "report-data/nonce",
    ]);
  });
}

const refused: [name: string, change: (d: Document & Record<string, unknown>) => void, code?: string][] = [
  ["an unknown member", (d) => (d.generated_at = "2026")],
  ["a missing section", (d) => delete (d as Partial<Document>).device_evidence],
  ["hexadecimal in upper case", (d) => (d.challenge.nonce = "AB".repeat(32))],
  ["a short nonce", (d) => (d.challenge.nonce = "05".repeat(31))],
  ["another algorithm", (d) => (d.challenge.report_data_algorithm = `${uri}report-data/v2`)],
  ["another kind of processor", (d) => (d.cpu_evidence.format = `${uri}format/cca/v1`)],
  ["loose base64", (d) => (d.crypto_material = `${d.crypto_material}\n`)],
  ["a section that is not JSON", (d) => (d.crypto_material = base64(new Uint8Array(Buffer.from("{"))))],
  ["a section of another format", (d) => (d.crypto_material = base64(json({ format: "x", items: [] })))],
  [
    "a key twice",
    (d) => {
      const item = { id: "tls", format: "f", data: "00" };
      d.crypto_material = base64(json({ format: `${uri}crypto-material/v1`, items: [item, item] }));
    },
  ],
  [
    "a member twice in a section",
    (d) =>
      (d.crypto_material = base64(
        new Uint8Array(Buffer.from(`{"format":"${uri}crypto-material/v1","items":[],"items":[]}`)),
      )),
  ],
  [
    "a key in upper case",
    (d) =>
      (d.crypto_material = base64(
        json({ format: `${uri}crypto-material/v1`, items: [{ id: "tls", format: "f", data: "AA" }] }),
      )),
  ],
  ["collateral twice", (d) => d.collateral.push(d.collateral[0]! as never)],
  [
    "more collateral than there is",
    (d) =>
      (d.collateral = Array.from({ length: 33 }, (_, i) => ({ ...d.collateral[2]!, id: `${i}` })) as never),
  ],
  [
    "a certificate that is not base64",
    (d) => (d.collateral[0]!.data = { vcek_der_base64: "!", cert_chain_pem: "" } as never),
  ],
  ["a report that is too short", (d) => (d.cpu_evidence.report_base64 = base64(report.subarray(1)))],
  ["version 4", (d) => (d.format = `${uri}predicate/attestation/v4`), "evidence/unsupported"],
];
for (const [name, change, code = "evidence/malformed"] of refused) {
  test(`refused: ${name}`, () => {
    const changed = document("snp") as Document & Record<string, unknown>;
    change(changed);
    throws(() => readEvidence(json(changed)), { code });
  });
}

for (const [name, body] of [
  ["not compressed", base64(report)],
  ["cut", base64(gzipSync(report).subarray(0, -9))],
  ["a bomb", base64(gzipSync(Buffer.alloc(4 << 20)))],
  ["something behind it", base64(Buffer.concat([gzipSync(report), Buffer.of(0)]))],
  ["another size", base64(gzipSync(report.subarray(8)))],
] as const) {
  test(`version 2 refused: ${name}`, () => {
    const format = `${uri}predicate/sev-snp-guest/v2`;
    throws(() => readEvidence(json({ format, body })), { code: "evidence/malformed" });
  });
}

test("a member twice anywhere in a document: others would read the other one", () => {
  const text = JSON.stringify(document("snp"));
  for (const member of ['"format":"', '"nonce":"', '"report_base64":"']) {
    const twice = text.replace(member, `${member}00",${member}`);
    notEqual(twice, text);
    throws(() => readEvidence(new Uint8Array(Buffer.from(twice))), { code: "evidence/malformed" });
  }
});

test("a document with any byte changed is never accepted as it was, unless nothing of what counts changed", async () => {
  const bytes = json(document("tdx"));
  const text = Buffer.from(bytes).toString();
  // What is not bound and proves itself (collateral) may change without harm: names of it, and headers nobody reads.
  const end = text.indexOf('"collateral"');
  await fc.assert(
    fc.asyncProperty(fc.nat(end - 1), fc.integer({ min: 0, max: 7 }), async (at, bit) => {
      const changed = bytes.with(at, bytes[at]! ^ (1 << bit));
      try {
        notEqual((await codes("tdx", changed)).length, 0, `${at}/${bit}`);
      } catch (error) {
        if (!(error instanceof VerifyError)) throw error;
      }
    }),
    { numRuns: 300 },
  );
});

test("every truncation is refused", () => {
  const bytes = json(document("snp"));
  for (let size = 0; size < bytes.length; size += 13) {
    throws(() => readEvidence(bytes.subarray(0, size)), VerifyError);
  }
});
