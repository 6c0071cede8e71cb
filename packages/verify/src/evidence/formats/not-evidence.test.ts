// SPDX-License-Identifier: Apache-2.0
/** What people hold in place of evidence is called by its name; evidence never is. */
import { deepEqual, equal, match, throws } from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import fc from "fast-check";
import { pemToDer } from "../../pki/pem.ts";
import { buildSnp } from "../../testing/snp-refusals.ts";
import { isEvidence, readEvidence } from "./forms.ts";
import { notEvidence } from "./not-evidence.ts";

const text = (value: string) => new TextEncoder().encode(value);
const json = (value: object) => text(JSON.stringify(value));
const hex = (value: string) => Uint8Array.fromHex(value.replace(/\s/g, ""));
const described = hierarchy("not evidence", {
  issued: new Date("2026-01-01"),
  expires: new Date("2027-01-01"),
});
const { collateral, pckChain } = mint(described);
const quote = issueQuote(described, pckChain, {}, "td15-v5");

const strangers: readonly (readonly [name: string, input: Uint8Array, what: RegExp])[] = [
  ["a JWT", text("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwcyJ9.c2ln\n"), /token of an attestation service/],
  ["go-tdx-guest's text", text("header: {\n  version: 4\n}\ntd_quote_body: {}\n"), /taken apart/],
  ["go-tpm-tools' text", text('ak_pub: "\\000\\001"\ntee_attestation {\n}\n'), /taken apart/],
  ["gotpm's JSON", json({ akPub: "AAEACw==", quotes: [] }), /taken apart/],
  ["go-tdx-guest's JSON", json({ header: { version: 4 }, tdQuoteBody: {} }), /taken apart/],
  ["a TDREPORT", new Uint8Array(1024).with(0, 0x81), /TDREPORT/],
  ["a TPM's quote", hex("ff54 4347 8018 0022"), /TPM's quote/],
  ["a TPM's quote in JSON", json({ signature: "00", message: "00", pcrs: [] }), /TPM's quote/],
  ["the table CCEL", text("CCEL8\0\0\0"), /CCEL/],
  ["auxblob", hex(`8d75da6364e66445adc5f4b93be8accd ${"00".repeat(40)}`), /auxblob/],
  ["a certificate", text(pckChain), /^a certificate$/],
  ["a certificate in DER", pemToDer(pckChain)[1]!, /^a certificate$/],
  ["a list", hex(collateral.pck_crl), /list of revocations/],
  ["a list in hexadecimal", text(collateral.pck_crl), /list of revocations/],
  ["collateral", json(collateral), /^collateral$/],
  ["PCS's answer", text(`{"tcbInfo":${collateral.tcb_info},"signature":"00"}`), /^collateral$/],
  ["a policy", text("version: caisson/policy/v1\n"), /judged by/],
  ["a manifest", json({ version: "caisson/manifest/v1" }), /judged by/],
  ["a CCA token", hex("d9018f a1"), /CCA/],
  ["gzip", hex("1f8b 0800"), /compressed/],
  ["JSON in base64", text(btoa('{"quote":"AAAA"}')), /JSON in base64/],
  ["YAML", text(`report_data: 00\nquote: 0x${"00".repeat(8)}\n`), /not JSON/],
];
for (const [name, input, what] of strangers) {
  test(`named: ${name}`, () => {
    const found = notEvidence(input);
    match(found?.what ?? "nothing", what);
    equal((found?.fix ?? "").length > 10, true);
  });
}

test("evidence is not a stranger: quotes and reports, in bytes and texts", () => {
  const { report } = buildSnp({});
  for (const bytes of [quote, report]) {
    const forms = [bytes, text(bytes.toHex()), text(bytes.toBase64()), json({ quote: bytes.toBase64() })];
    deepEqual(
      forms.map((form) => [isEvidence(form), notEvidence(form)?.what]),
      forms.map(() => [true, undefined]),
    );
  }
});

test("any bytes: an answer, or none, and never an error", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => void notEvidence(bytes)),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(fc.string({ maxLength: 64 }), (value) => void notEvidence(text(value))),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(fc.json(), (value) => void notEvidence(text(value))),
    { numRuns: 1000 },
  );
});

test("Intel Trust Authority's evidence is its quote", () => {
  const part = { quote: quote.toBase64(), runtime_data: "AA==", event_log: "bm90aGluZw==" };
  deepEqual(readEvidence(json({ tdx: part })), { platform: "tdx", quote });
  deepEqual(readEvidence(json({ sgx: part })), { platform: "tdx", quote });
  throws(() => readEvidence(json({ tdx: part, sgx: part })), { code: "evidence/malformed" });
  throws(() => readEvidence(json({ tdx: { ...part, quote: "!" } })), { code: "evidence/malformed" });
  throws(() => readEvidence(json({ tdx: part, quote: part.quote })), { code: "evidence/malformed" });
});

const vectors = new URL("../../../../../../shared/vectors/", import.meta.url);
const skip = existsSync(vectors) ? false : "../shared/vectors is absent";
for (const [path, what] of [
  ["go-tdx-guest/ccel_table.dat", /CCEL/],
  ["go-eventlog/CCEL.bin", /CCEL/],
  ["go-eventlog/cos-113-intel-tdx.table.bin", /CCEL/],
  ["go-tdx-guest/pckcrl", /list of revocations/],
  ["go-tdx-guest/sample_tcbInfo_response", /^collateral$/],
  ["intel-qvl/qveIdentity.json", /^collateral$/],
  ["intel-qvl/rootCaCrl.pem", /list of revocations/],
  ["intel-qvl/pckCert.pem", /^a certificate$/],
  ["attestation-rs/az_snp/tpm-quote.msg", /TPM's quote/],
  ["attestation-rs/az_tdx/tpm-quote-v1.json", /TPM's quote/],
  ["go-sev-guest/vcek.testcer", /^a certificate$/],
] as const) {
  test(`named: ${path}`, { skip }, () => {
    match(notEvidence(new Uint8Array(readFileSync(new URL(path, vectors))))?.what ?? "nothing", what);
  });
}
