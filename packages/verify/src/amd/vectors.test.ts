// SPDX-License-Identifier: Apache-2.0
/** Real SEV-SNP evidence, where the vectors are present: AMD's own chains and keys, three clouds and two projects. */
import { deepEqual, equal } from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { toHex } from "@caisson/vocabulary/bytes";
import type { AnyEvidence } from "../evidence/evidence.ts";
import { readEvidence } from "../evidence/formats/every-form.ts";
import { pemToDer } from "../pki/pem.ts";
import { readPolicy } from "../policy/policy.ts";
import { verifyEvidence, verifyGenuine } from "../verify.ts";

const vectors = new URL("../../../../../shared/vectors/", import.meta.url);
const skip = existsSync(vectors) ? false : "../shared/vectors is absent";
const read = (path: string) => new Uint8Array(readFileSync(new URL(path, vectors)));
const chainOf = (product: string) =>
  pemToDer(new TextDecoder().decode(read(`go-sev-guest/ask_ark_${product}.pem`)));
const now = new Date("2025-06-01T00:00:00Z");

/** Nothing but the list of revocations is missing: AMD's lists could not be recorded. */
const genuine: [report: string, certificate: string | undefined, chain: string, at: Date, product: string][] =
  [
    ["go-sev-guest/attestation.bin", "go-sev-guest/vcek.testcer", "milan", now, "Milan"],
    ["attestation-rs/snp/test-report.bin", "attestation-rs/snp/test-vcek.der", "milan", now, "Milan"],
    [
      "attestation-rs/snp/test-vlek-report.bin",
      "attestation-rs/snp/test-vlek.der",
      "milan_vlek",
      now,
      "Milan",
    ],
    [
      "attestation-rs/snp/live-report-v5-genoa.bin",
      "attestation-rs/snp/live-vcek-genoa.der",
      "genoa",
      new Date("2026-06-01"),
      "Genoa",
    ],
    ["attestation-rs/snp/live-evidence-genoa.json", undefined, "genoa", new Date("2026-06-01"), "Genoa"],
    ["attestation-rs/az_snp/evidence-v1.json", undefined, "milan", now, "Milan"],
    ["attestation-rs/az_snp/live-evidence.json", undefined, "milan", now, "Milan"],
  ];

const collateral = (certificate: string | undefined, chain: string) => ({
  chain: chainOf(chain),
  ...(certificate !== undefined && { endorsement: certificateOf(read(certificate)) }),
});
/** DER, or PEM. */
const certificateOf = (bytes: Uint8Array) =>
  bytes[0] === 0x30 ? bytes : pemToDer(new TextDecoder().decode(bytes))[0]!;

for (const [path, certificate, chain, at, product] of genuine) {
  test(`${path}: all but the list of revocations`, { skip }, async () => {
    const evidence = readEvidence(read(path));
    const amdCollateral = collateral(certificate, chain);
    const found = await verifyGenuine(evidence, { now: at, amdCollateral });
    deepEqual([found.verdict, found.codes], ["undetermined", ["crl/missing"]]);
    const policy = readPolicy({
      version: "caisson/policy/v1",
      snp: {
        measurements: "any",
        hostData: "any",
        privilegeLevels: "any",
        products: ["Milan", "Genoa"],
        minimumTcb: "any",
        chipIds: "any",
        revocation: "any",
      },
      ...(path.includes("az_snp") && { pcrs: "any" }),
      freshness: "any",
    });
    const report = await verifyEvidence(evidence, { policy, now: at, amdCollateral });
    const debug = path.startsWith("go-sev-guest");
    deepEqual(report.codes, debug ? ["snp/debug"] : []);
    equal(report.platform?.tee === "snp" && report.platform.product, product);
  });
}

for (const wrong of ["legacy", "new"]) {
  test(`a Milan report with a certificate whose extensions are another's (${wrong})`, { skip }, async () => {
    const evidence = readEvidence(read("attestation-rs/snp/test-report.bin"));
    const amdCollateral = collateral(`attestation-rs/snp/test-vcek-invalid-${wrong}.der`, "milan");
    const found = await verifyGenuine(evidence, { now, amdCollateral });
    equal(found.verdict === "accepted", false);
    deepEqual(found.codes.length, 1);
  });
}

test("dstack: chain and report of a Milan", { skip }, async () => {
  const evidence = readEvidence(read("dstack/sev-snp-attestation.json"));
  const pem = (name: string) => pemToDer(new TextDecoder().decode(read(`dstack/sev_snp_${name}.pem`)))[0]!;
  const amdCollateral = { endorsement: pem("vcek"), chain: [pem("ask"), chainOf("milan")[1]!] };
  const found = await verifyGenuine(evidence, { now: new Date("2026-08-07"), amdCollateral });
  deepEqual(found.codes, ["crl/missing"]);
});

test("Azure: the virtual TPM's quote carries the nonce; one changed PCR, key or message is refused", {
  skip,
}, async () => {
  const evidence = readEvidence(read("attestation-rs/az_snp/evidence-v1.json"));
  if (evidence.platform !== "snp") throw new Error("not a SEV-SNP guest's");
  const { hcl } = evidence;
  if (hcl?.quote === undefined) throw new Error("no quote");
  const policy = readPolicy({
    version: "caisson/policy/v1",
    snp: {
      measurements: [toHex(evidence.report.subarray(0x90, 0xc0))],
      products: ["Milan"],
      minimumTcb: "any",
      chipIds: "any",
      revocation: "any",
    },
    pcrs: { 4: [hcl.quote.pcrs[4]!.toHex()] },
  });
  const amdCollateral = collateral(undefined, "milan");
  const judge = async (changed: AnyEvidence = evidence, nonce = new TextEncoder().encode("challenge")) =>
    (
      await verifyEvidence(changed, {
        policy,
        now,
        amdCollateral,
        expectedReportData: { scheme: "raw", fields: { data: nonce } },
      })
    ).codes;
  deepEqual(await judge(), []);
  deepEqual(await judge(evidence, new TextEncoder().encode("challengf")), ["report-data/nonce"]);
  const flip = (bytes: Uint8Array, at: number) => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
  const quote = hcl.quote;
  const pcrs = (index: number) => quote.pcrs.map((value, i) => (i === index ? flip(value, 0) : value));
  deepEqual(await judge({ ...evidence, hcl: { ...hcl, quote: { ...quote, pcrs: pcrs(4) } } }), ["hcl/pcrs"]);
  deepEqual(
    await judge({ ...evidence, hcl: { ...hcl, quote: { ...quote, message: flip(quote.message, 50) } } }),
    ["hcl/signature"],
  );
  deepEqual(await judge({ ...evidence, hcl: { ...hcl, runtimeData: flip(hcl.runtimeData, 60) } }), [
    "hcl/binding",
  ]);
  deepEqual(await judge({ ...evidence, hcl: { runtimeData: hcl.runtimeData } }), [
    "hcl/pcr-missing",
    "report-data/nonce",
  ]);
});

test("Azure TDX: the HCL report is bound by the quote", { skip }, async () => {
  const evidence = readEvidence(read("attestation-rs/az_tdx/evidence-v1.json"));
  equal(evidence.platform, "tdx");
  equal(evidence.hcl?.quote?.pcrs.length, 24);
});
