// SPDX-License-Identifier: Apache-2.0
/**
 * Why evidence is refused: one closed set of codes, grouped by the check that raises them.
 *
 * `checks` is the whole list of questions that this package asks, in the order in which a report shows them; each
 * names the document that demands it and the codes with which it can fail. A code belongs to exactly one check, so
 * that every refusal says which question was answered with no.
 */
import { Failure } from "@caisson/vocabulary/failure";

/** Documents that demand a check, cited by short name (docs/verification.md lists them in full). */
const DCAP = "Intel TDX DCAP Quoting Library API, appendix A.3";
const QVL = "Intel DCAP Quote Verification, section 4.1.2.4";
const PCK = "Intel SGX PCK Certificate and CRL Profile, 1.5";
const X509 = "RFC 5280";
const SNP = "AMD 56860, SEV-SNP firmware ABI, ATTESTATION_REPORT";
const KDS = "AMD 57230, VCEK certificate and KDS interface";
const PCS = "Intel PCS API v4";
const MODULE = "Intel TDX Module Base Architecture";
const NITRO = "AWS, Nitro Enclaves and NitroTPM attestation documents; RFC 9052";
const HCL = "Microsoft, guest attestation design details (HCL report)";
const POLICY = "the policy";
const RELEASES = "Caisson docs/releases.md, the order of questions";
const EVENTS = "Caisson docs/verification.md, event log";

/**
 * Genuine: does this quote come from a TEE that Intel vouches for? `chain/…` and `collateral/…` are asked of both
 * vendors.
 */
export const genuineChecks = {
  "quote/format": {
    source: DCAP,
    codes: [
      "quote/size",
      "quote/truncated",
      "quote/version",
      "quote/unsupported",
      "quote/header",
      "quote/body",
      "quote/signature-data",
      "quote/certification-data",
      "quote/trailing-bytes",
    ],
  },
  "collateral/format": {
    source: `${PCS}; ${KDS}`,
    codes: ["collateral/missing", "collateral/malformed", "der/malformed", "pem/malformed", "json/malformed"],
  },
  "chain/platform": {
    source: `${PCK}; ${KDS}; ${NITRO}`,
    codes: [
      "chain/length",
      "chain/untrusted-root",
      "chain/name",
      "chain/issuer",
      "chain/key",
      "chain/key-usage",
      "chain/constraints",
      "chain/extension",
      "chain/not-yet-valid",
      "chain/expired",
      "chain/signature",
      "certificate/malformed",
    ],
  },
  "chain/revocation": {
    source: `${X509}, section 6.3; ${PCK}; ${KDS}`,
    codes: [
      "crl/missing",
      "crl/malformed",
      "crl/issuer",
      "crl/signature",
      "crl/not-yet-valid",
      "crl/expired",
      "crl/extension",
      "certificate/revoked",
    ],
  },
  "pck/extension": { source: PCK, codes: ["pck/extension"] },
  "tcb-info/signature": { source: PCS, codes: ["tcb-info/signature"] },
  "tcb-info/content": {
    source: PCS,
    codes: ["tcb-info/malformed", "tcb-info/version", "tcb-info/not-yet-valid", "tcb-info/expired"],
  },
  "qe-identity/signature": { source: PCS, codes: ["qe-identity/signature"] },
  "qe-identity/content": {
    source: PCS,
    codes: [
      "qe-identity/malformed",
      "qe-identity/version",
      "qe-identity/not-yet-valid",
      "qe-identity/expired",
    ],
  },
  "tcb-info/platform": {
    source: `${QVL}.9-10`,
    codes: ["tcb-info/tee", "tcb-info/fmspc", "tcb-info/pceid"],
  },
  "qe/report-signature": { source: `${QVL}.12`, codes: ["qe/signature"] },
  "qe/key-binding": { source: `${QVL}.13`, codes: ["qe/report-data"] },
  "qe/identity": {
    source: `${QVL}.14-15`,
    codes: ["qe/tee", "qe/miscselect", "qe/attributes", "qe/signer", "qe/product", "qe/svn"],
  },
  "quote/signature": { source: `${QVL}.16`, codes: ["quote/key", "quote/signature"] },
  "tdx-module/identity": {
    source: `${QVL}.11`,
    codes: ["tdx-module/unknown", "tdx-module/signer", "tdx-module/attributes"],
  },
  "tcb/level": { source: `${QVL}.17`, codes: ["tcb/no-level", "tcb/module-level", "tcb/revoked"] },
} as const;

/** Genuine: does this report come from a guest that AMD vouches for? Beside those of `sharedGenuineChecks`. */
export const snpGenuineChecks = {
  "snp/format": {
    source: SNP,
    codes: [
      "snp/size",
      "snp/version",
      "snp/algorithm",
      "snp/reserved",
      "snp/vmpl",
      "snp/signing-key",
      "snp/unsigned",
      "snp/chip-id-masked",
    ],
  },
  "snp/endorsement": {
    source: KDS,
    codes: [
      "snp/extension",
      "snp/product",
      "snp/endorsement-kind",
      "snp/reported-tcb",
      "snp/tcb-layout",
      "snp/chip-id",
    ],
  },
  "snp/signature": { source: SNP, codes: ["snp/signature"] },
  "hcl/report": { source: HCL, codes: ["hcl/binding"] },
  "hcl/tpm-quote": { source: HCL, codes: ["hcl/key", "hcl/signature", "hcl/pcrs"] },
} as const;

/** Genuine: does AWS vouch for this document? */
export const nitroGenuineChecks = {
  "nitro/format": { source: NITRO, codes: ["nitro/malformed", "nitro/algorithm"] },
  "nitro/signature": { source: NITRO, codes: ["nitro/signature"] },
  "nitro/time": { source: NITRO, codes: ["nitro/future"] },
} as const;

/** Acceptable: is it what this relying party wants? */
export const acceptableChecks = {
  "policy/platform": {
    source: POLICY,
    codes: ["policy/platform", "policy/simulated-root", "policy/tee"],
  },
  "policy/tcb-status": { source: POLICY, codes: ["policy/tcb-status"] },
  "policy/advisories": { source: POLICY, codes: ["policy/advisories"] },
  "policy/tcb-evaluation": {
    source: POLICY,
    codes: ["policy/tcb-evaluation", "policy/tcb-evaluation-not-stated"],
  },
  "policy/platform-identity": {
    source: POLICY,
    codes: ["policy/platform-identity", "policy/platform-identity-not-stated"],
  },
  "policy/platform-instance": { source: POLICY, codes: ["policy/platform-instance"] },
  "policy/fmspc": { source: POLICY, codes: ["policy/fmspc"] },
  "sgx/debug": { source: "Intel SDM volume 3D, enclave attributes", codes: ["sgx/debug"] },
  "sgx/enclave": { source: POLICY, codes: ["sgx/enclave", "sgx/enclave-not-stated"] },
  "sgx/signer": { source: POLICY, codes: ["sgx/signer", "sgx/product", "sgx/version"] },
  "td/debug": { source: `${MODULE}, TD attributes (TUD)`, codes: ["td/debug"] },
  "td/attributes": { source: `${MODULE}, TD attributes`, codes: ["td/attributes"] },
  "td/xfam": { source: `${MODULE}, XFAM`, codes: ["td/xfam"] },
  "td/mr-seam": { source: POLICY, codes: ["td/mr-seam", "td/mr-signer-seam", "td/tee-tcb-svn"] },
  "td/mr-service-td": { source: POLICY, codes: ["td/mr-service-td", "td/mr-service-td-unknown"] },
  "td/mr-config-id": { source: POLICY, codes: ["td/mr-config-id"] },
  "td/mr-owner": { source: POLICY, codes: ["td/mr-owner"] },
  "td/mr-owner-config": { source: POLICY, codes: ["td/mr-owner-config"] },
  "registers/mrtd": { source: POLICY, codes: ["registers/mrtd"] },
  "registers/rtmr0": { source: POLICY, codes: ["registers/rtmr0", "registers/rtmr0-log"] },
  "registers/rtmr1": { source: POLICY, codes: ["registers/rtmr1"] },
  "registers/rtmr2": { source: POLICY, codes: ["registers/rtmr2"] },
  "registers/rtmr3": { source: POLICY, codes: ["registers/rtmr3"] },
  "registers/reference": {
    source: POLICY,
    codes: ["registers/no-reference", "registers/not-covered", "registers/no-match"],
  },
  "events/boot-log": { source: EVENTS, codes: ["events/boot-log", "events/boot-replay"] },
  "events/runtime-replay": { source: EVENTS, codes: ["events/runtime-replay"] },
  "events/sequence": {
    source: EVENTS,
    codes: ["events/missing", "events/duplicate", "events/order", "events/unexpected", "events/name"],
  },
  "events/boundary": { source: EVENTS, codes: ["events/after-boundary"] },
  "app/id": { source: POLICY, codes: ["app/id", "app/id-not-stated"] },
  "app/compose-hash": { source: POLICY, codes: ["app/compose-hash", "app/compose-hash-not-stated"] },
  "app/instance-id": { source: POLICY, codes: ["app/instance-id", "app/instance-id-not-stated"] },
  "app/volumes": { source: POLICY, codes: ["app/volumes", "app/volumes-malformed"] },
  "time/secure-time": {
    source: POLICY,
    codes: [
      "time/malformed",
      "time/method",
      "time/origin",
      "time/operators",
      "time/width",
      "time/future",
      "time/age",
    ],
  },
  "keys/key-provider": {
    source: POLICY,
    codes: ["keys/malformed", "keys/key-provider", "keys/key-provider-not-stated"],
  },
  "snp/debug": { source: SNP, codes: ["snp/debug"] },
  "snp/guest-policy": { source: POLICY, codes: ["snp/policy-permits", "snp/policy-demands"] },
  "snp/privilege-level": { source: POLICY, codes: ["snp/privilege-level"] },
  "snp/measurement": { source: POLICY, codes: ["snp/measurement", "snp/measurement-not-stated"] },
  "snp/host-data": { source: POLICY, codes: ["snp/host-data"] },
  "snp/id-block": {
    source: POLICY,
    codes: ["snp/id-key", "snp/author-key", "snp/family-id", "snp/image-id", "snp/guest-svn"],
  },
  "snp/processor": { source: POLICY, codes: ["snp/processor"] },
  "snp/tcb-minimum": { source: POLICY, codes: ["snp/tcb-minimum", "snp/tcb-minimum-not-stated"] },
  "snp/platform-info": { source: POLICY, codes: ["snp/platform-info"] },
  "snp/chip": { source: POLICY, codes: ["snp/chip", "snp/chip-not-stated"] },
  "snp/provider": { source: POLICY, codes: ["snp/provider"] },
  "hcl/pcrs": { source: POLICY, codes: ["hcl/pcr", "hcl/pcr-missing"] },
  "nitro/kind": { source: POLICY, codes: ["nitro/kind"] },
  "nitro/debug": { source: NITRO, codes: ["nitro/debug"] },
  "nitro/pcrs": { source: POLICY, codes: ["nitro/pcr", "nitro/pcrs-not-stated"] },
  "nitro/module": { source: POLICY, codes: ["nitro/module"] },
  "nitro/public-key": { source: POLICY, codes: ["nitro/public-key"] },
  "nitro/user-data": { source: POLICY, codes: ["nitro/user-data"] },
  "report-data/preimage": { source: EVENTS, codes: ["report-data/preimage", "report-data/missing"] },
  "report-data/expected": {
    source: POLICY,
    codes: ["report-data/scheme", "report-data/field", "report-data/nonce", "report-data/no-nonce"],
  },
  "app/identity": {
    source: RELEASES,
    codes: ["identity/malformed", "identity/hash", "identity/chain", "identity/threshold"],
  },
  "app/release": {
    source: RELEASES,
    codes: [
      "release/missing",
      "bundle/malformed",
      "envelope/malformed",
      "release/malformed",
      "release/app",
      "release/generation",
      "release/signature",
      "release/subject",
      "release/not-yet-valid",
      "release/expired",
      "release/below-minimum",
      "release/revoked",
      "release/previous",
    ],
  },
  "app/log": {
    source: RELEASES,
    codes: [
      "log/malformed",
      "log/origin",
      "log/quorum",
      "log/age",
      "log/proof",
      "note/malformed",
      "note/signature",
    ],
  },
  "app/rebuilds": { source: RELEASES, codes: ["rebuild/threshold", "rebuild/differs"] },
  "app/provenance": {
    source: RELEASES,
    codes: [
      "provenance/missing",
      "provenance/malformed",
      "provenance/root",
      "provenance/signature",
      "provenance/subject",
      "provenance/builder",
    ],
  },
} as const;

const CHANNEL = "Caisson docs/channel.md";

/** Of a connection: does it end in this guest? Asked by `verifyChannel` alone. */
export const channelChecks = {
  "channel/stated": { source: CHANNEL, codes: ["channel/not-stated"] },
  "channel/nonce": { source: CHANNEL, codes: ["channel/nonce-path"] },
  "channel/session-binding": { source: CHANNEL, codes: ["channel/session"] },
  "channel/tls": { source: CHANNEL, codes: ["channel/tls-key"] },
  "channel/hpke": { source: CHANNEL, codes: ["channel/hpke-key"] },
} as const;

/** Every question, in the order of a report. */
export const checks = {
  ...genuineChecks,
  ...snpGenuineChecks,
  ...nitroGenuineChecks,
  ...acceptableChecks,
  ...channelChecks,
} as const;

export type CheckId = keyof typeof checks;

/** Reasons to refuse evidence; each belongs to one check. */
export type CheckCode = (typeof checks)[CheckId]["codes"][number];

/** Documents that could not be read at all, so that no check was asked. */
export type InputCode =
  | "evidence/malformed"
  | "evidence/size"
  | "evidence/unsupported"
  | "policy/malformed"
  | "reference/malformed";

export type ErrorCode = CheckCode | InputCode;

const checkOfCode = new Map<string, CheckId>(
  Object.entries(checks).flatMap(([id, { codes }]) => codes.map((code) => [code, id as CheckId] as const)),
);

/** The check that a code belongs to; undefined for input codes. */
export function checkOf(code: ErrorCode): CheckId | undefined {
  return checkOfCode.get(code);
}

/** What this package throws, and nothing else. `kind` "rejected" is an answer; "input" a document that is none. */
export class VerifyError extends Failure<ErrorCode, "rejected" | "input" | "unsupported"> {
  override readonly name = "VerifyError";

  constructor(
    code: ErrorCode,
    message: string,
    details: { expected?: string; actual?: string; where?: string; fix?: string } = {},
  ) {
    const { expected, actual, where, fix } = details;
    const facts = Object.entries({ where, expected, found: actual }).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    );
    const kind =
      code === "evidence/unsupported" ? "unsupported" : checkOfCode.has(code) ? "rejected" : "input";
    super(code, kind, message, { facts, ...(fix !== undefined && { fix }) });
  }
}
