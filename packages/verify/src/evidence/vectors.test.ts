// SPDX-License-Identifier: Apache-2.0
/**
 * Real evidence of clouds with real collateral, and the real files that other tests do not read; skipped without the
 * vectors.
 */
import { deepEqual, equal, match, rejects, throws } from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import test from "node:test";
import { toHex } from "@caisson/vocabulary/bytes";
import { digest } from "#crypto";
import { parseAuthority, parseEndorsement } from "../amd/certificates.ts";
import { verifyReport } from "../amd/genuine.ts";
import { amdRoots } from "../amd/roots.ts";
import { verifyCollateral } from "../intel/collateral.ts";
import { collateralFromText } from "../intel/collateral-forms.ts";
import { signedParts } from "../intel/pcs-answers.ts";
import { intelRoot } from "../intel/roots.ts";
import { parseCrl } from "../pki/crl.ts";
import { parsePemChain, pemToDer } from "../pki/pem.ts";
import { readPolicy } from "../policy/policy.ts";
import { policyFrom } from "../policy/policy-from.ts";
import { readPolicyText } from "../policy/policy-text.ts";
import { verifyEvidence, verifyGenuine } from "../verify.ts";
import { isQuote } from "./evidence.ts";
import { readEvidence } from "./formats/every-form.ts";
import { readHclReport } from "./hcl.ts";

const vectors = new URL("../../../../../shared/vectors/", import.meta.url);
const skip = existsSync(vectors) ? false : "../shared/vectors is absent";
const read = (path: string) => new Uint8Array(readFileSync(new URL(path, vectors)));
const text = (path: string) => readFileSync(new URL(path, vectors), "utf8");

/** The set of March 2026 for one kind of platform; chains of PCK CRLs are those of a quote. */
function collateralOf(fmspc: string) {
  const place = "attestation-rs/collateral";
  const live = readEvidence(read("attestation-rs/az_tdx/live-evidence.json"));
  if (!isQuote(live)) throw new Error("not a quote");
  const pem = new TextDecoder().decode(live.quote.subarray(Buffer.from(live.quote).indexOf("-----BEGIN")));
  const [, ca, root] = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/g)!;
  const document = {
    pck_crl_issuer_chain: `${ca}${root}`,
    root_ca_crl: toHex(read(`${place}/root_ca_crl.der`)),
    pck_crl: toHex(read(`${place}/pck_crl_platform.der`)),
    tcb_info_issuer_chain: text(`${place}/tcb_signing_chain.pem`),
    tcb_info: text(`${place}/tcb_info_${fmspc}.json`),
    qe_identity_issuer_chain: text(`${place}/qe_identity_signing_chain.pem`),
    qe_identity: text(`${place}/td_qe_identity.json`),
  };
  return collateralFromText(JSON.stringify(document), fmspc);
}
const march = new Date("2026-03-20T00:00:00Z");

for (const fmspc of ["50806f000000", "90c06f000000"]) {
  test(`collateral of ${fmspc}, as PCS answered in March 2026`, { skip }, async () => {
    const { tcbInfo, qeIdentity } = (await verifyCollateral(collateralOf(fmspc), march, intelRoot)).at(
      march.getTime(),
      intelRoot,
    );
    deepEqual(
      [tcbInfo.fmspc, tcbInfo.tcbEvaluationDataNumber, qeIdentity.tcbEvaluationDataNumber],
      [fmspc, 18, 18],
    );
    await rejects(verifyCollateral(collateralOf(fmspc), new Date("2026-05-01"), intelRoot), {
      code: /expired/,
    });
  });
}

test("Azure, a TDX guest as it was in March 2026: quote, collateral, HCL report and TPM; a policy made of it", {
  skip,
}, async () => {
  const evidence = readEvidence(read("attestation-rs/az_tdx/live-evidence.json"));
  const collateral = collateralOf("90c06f000000");
  const genuine = await verifyGenuine(evidence, { now: march, collateral });
  deepEqual([genuine.verdict, genuine.codes], ["accepted", []]);
  equal(genuine.checks.find(({ id }) => id === "hcl/tpm-quote")?.outcome, "pass");
  equal(genuine.platform?.tee === "tdx" && genuine.platform.piid?.length, 32);
  const judge = async (policy: string) => {
    const judged = await verifyEvidence(evidence, {
      policy: readPolicyText(policy, "p"),
      now: march,
      collateral,
    });
    return judged.codes.filter((code) => code !== "policy/tcb-status" && code !== "policy/advisories");
  };
  const policy = `${policyFrom(evidence, undefined)}freshness: any\n`;
  deepEqual(await judge(policy), []);
  deepEqual(await judge(policy.replace(/("4": \[")../, "$100")), ["hcl/pcr"]);
});

test("HCL reports by themselves", { skip }, () => {
  const snp = readEvidence(read("attestation-rs/az_snp/hcl-report.bin"));
  equal(snp.platform, "snp");
  equal(readHclReport(read("attestation-rs/az_tdx/hcl-report.bin")).kind, "tdx");
  throws(() => readEvidence(read("attestation-rs/az_tdx/hcl-report.bin")), { code: "evidence/unsupported" });
});

test("an HCL report's guest under the certificates of Azure's metadata service", { skip }, async () => {
  const { hardware } = readHclReport(read("attestation-rs/az_snp/hcl-report.bin"));
  const chain = [0, 1].map((i) => read(`attestation-rs/az_snp/imds-chain-${i}.der`));
  const [other] = pemToDer(text("attestation-rs/az_snp/vcek.pem"));
  const judge = async (endorsement: Uint8Array, authorities: readonly Uint8Array[]) => {
    equal(parseEndorsement(endorsement).commonName, "SEV-VCEK");
    const now = new Date("2026-01-01");
    try {
      const { product } = await verifyReport(hardware, { endorsement, chain: authorities }, now, {
        revocation: "any",
      });
      return product;
    } catch (error) {
      return (error as { code?: string }).code;
    }
  };
  const found = [];
  for (const vcek of [read("attestation-rs/az_snp/imds-vcek.der"), other!]) {
    for (const authorities of [chain, chain.toReversed()]) found.push(await judge(vcek, authorities));
  }
  // The other certificate is of the same chip at other levels; a chain in the wrong order ends at no root.
  deepEqual(found, ["snp/reported-tcb", "chain/untrusted-root", "Milan", "chain/untrusted-root"]);
});

for (const spelling of ["legacy", "new"]) {
  test(`a VCEK whose hardware id is another chip's (${spelling} spelling)`, { skip }, async () => {
    const collateral = {
      endorsement: read(`attestation-rs/snp/test-vcek-invalid-${spelling}.der`),
      chain: pemToDer(text("go-sev-guest/ask_ark_milan.pem")),
    };
    await rejects(
      verifyReport(read("attestation-rs/snp/test-report.bin"), collateral, new Date("2026-01-01"), {
        revocation: "any",
      }),
      { kind: "rejected" },
    );
  });
}

test("PCS's answers, of three years, are cut apart by position; lists in DER and PEM are one", {
  skip,
}, () => {
  for (const [name, member] of [
    ["sample_tcbInfo_response", "tcbInfo"],
    ["sample_tcbinfo_response_v5", "tcbInfo"],
    ["sample_qeIdentity_response", "enclaveIdentity"],
  ] as const) {
    const answer = text(`go-tdx-guest/${name}`);
    const { json, signature } = signedParts(answer, member)!;
    equal(signature.length, 128);
    deepEqual(JSON.parse(json), (JSON.parse(answer) as Record<string, unknown>)[member]);
  }
  equal(parseCrl(read("go-tdx-guest/rootcrl.der")).revoked.size >= 0, true);
  for (const name of ["rootCaCrl", "intermediateCaCrl"]) {
    const block = /-----BEGIN X509 CRL-----([^-]+)/.exec(text(`intel-qvl/${name}.pem`))![1]!;
    deepEqual(new Uint8Array(Buffer.from(block, "base64")), read(`intel-qvl/${name}.der`));
  }
});

test("dstack's attestations, in JSON and as the bytes in it", { skip }, () => {
  const tdx = readEvidence(read("dstack/tdx-lite-attestation.json"));
  // Three events of RTMR0 are left in it, which are not a boot log.
  equal(isQuote(tdx) && tdx.runtimeEvents !== undefined && tdx.bootLog === undefined, true);
  const raw = JSON.stringify({ attestation: toHex(read("dstack/sev_snp_attestation.bin")) });
  const fromBytes = readEvidence(new Uint8Array(Buffer.from(raw)));
  const fromJson = readEvidence(read("dstack/sev-snp-attestation.json"));
  if (fromBytes.platform !== "snp" || fromJson.platform !== "snp") throw new Error("not reports");
  deepEqual(fromBytes.report, fromJson.report);
});

test("a TDREPORT, and a TPM's quote alone, are not evidence", { skip }, () => {
  for (const path of [
    "go-tdx-guest/report.dat",
    "attestation-rs/az_snp/tpm-quote.msg",
    "attestation-rs/az_tdx/tpm-quote-v1.json",
  ]) {
    throws(() => readEvidence(read(path)), { code: "evidence/unsupported" }, path);
  }
});

test("Intel's root key in its certificate is the pinned one", { skip }, () => {
  const der = Buffer.from(read("dcap-qvl/TrustedRootCA.der"))
    .toString("base64")
    .match(/.{1,64}/g)!;
  const [root] = parsePemChain(`-----BEGIN CERTIFICATE-----\n${der.join("\n")}\n-----END CERTIFICATE-----\n`);
  deepEqual(root!.publicKey, intelRoot.rootKey);
});

for (const name of ["milan", "genoa", "turin_vcek", "milan_vlek", "genoa_vlek", "turin_vlek"]) {
  test(`AMD's chain ${name} ends at the pinned root`, { skip }, async () => {
    const [intermediate, root] = pemToDer(text(`go-sev-guest/ask_ark_${name}.pem`)).map(parseAuthority);
    const key = toHex(await digest("sha256", root!.publicKey));
    const product = name.split("_")[0]!;
    const anchor = amdRoots.find(({ keySha256 }) => keySha256 === key);
    equal(anchor?.product.toLowerCase(), product);
    deepEqual(intermediate!.issuer, root!.subject);
    match(intermediate!.commonName, name.endsWith("vlek") ? /^SEV-VLEK-/ : /^SEV-(?!VLEK)/);
  });
}

test("parts of Azure's evidence in files of their own are those of the documents", { skip }, () => {
  const whole = readEvidence(read("attestation-rs/az_tdx/evidence-v1.json"));
  const alone = readEvidence(read("attestation-rs/az_tdx/td-quote.bin"));
  if (!isQuote(whole) || !isQuote(alone)) throw new Error("not a quote");
  deepEqual(alone.quote, whole.quote);
  for (const path of ["az_snp/quote.bin", "az_tdx/quote.bin"]) {
    throws(() => readEvidence(read(`attestation-rs/${path}`)), { code: "evidence/unsupported" }, path);
  }
  const vcek = parseEndorsement(read("attestation-rs/az_snp/imds-vcek.der"));
  const chain = [0, 1].map((i) => parseAuthority(read(`attestation-rs/az_snp/imds-chain-${i}.der`)));
  deepEqual([vcek.issuer, chain[0]!.issuer], [chain[0]!.subject, chain[1]!.subject]);
});

test("the quote of another machine's TPM, with its signature, vouches for nothing beside a real guest", {
  skip,
}, async () => {
  const evidence = readEvidence(read("attestation-rs/az_snp/evidence-v1.json"));
  if (evidence.platform !== "snp" || evidence.hcl?.quote === undefined) throw new Error("not Azure's");
  const stranger = {
    message: read("attestation-rs/az_snp/tpm-quote.msg"),
    signature: read("attestation-rs/az_snp/tpm-quote.sig"),
  };
  const amdCollateral = { chain: pemToDer(text("go-sev-guest/ask_ark_milan.pem")) };
  const policy = readPolicy({
    version: "caisson/policy/v1",
    snp: { measurements: "any", products: ["Milan"], chipIds: "any", minimumTcb: "any", revocation: "any" },
    pcrs: "any",
    freshness: "any",
  });
  const codes = async (change: object) => {
    const hcl = { ...evidence.hcl!, quote: { ...evidence.hcl!.quote!, ...change } };
    const judged = await verifyEvidence(
      { ...evidence, hcl },
      { policy, now: new Date("2025-06-01"), amdCollateral },
    );
    return judged.codes.join();
  };
  equal(await codes({}), "");
  equal(await codes(stranger), "hcl/signature");
  equal(await codes({ signature: stranger.signature }), "hcl/signature");
});
