// SPDX-License-Identifier: Apache-2.0
/**
 * Is it genuine? Whether a quote was made by a TEE that Intel vouches for, and how good Intel says that TEE is.
 *
 * Five steps, each of which refuses or passes on what it established: read the quote; verify the collateral; verify
 * the platform's PCK chain and that nothing in it is revoked; verify the quoting enclave and with its key the quote;
 * judge the TCB. It says nothing about what runs inside.
 */

import { concat, equal, fromHex, isZero, toHex } from "@caisson/vocabulary/bytes";
import { digest, verifyP256 } from "#crypto";
import { type CheckCode, checkOf, VerifyError } from "../errors.ts";
import { type Authority, type TrustAnchor, verifyIssued } from "../pki/chain.ts";
import { checkNotRevoked } from "../pki/crl.ts";
import { isSignedBy, keyOfPoint, type Signatures } from "../pki/remembered.ts";
import type { Certificate } from "../pki/x509.ts";
import { Answers } from "../report.ts";
import { type Collateral, parseChain, sameRoot, VerifiedCollateral, verifyCollateral } from "./collateral.ts";
import { type PckExtension, pckExtension } from "./pck.ts";
import { type EnclaveReport, parseQuote, type Quote, type TdReport } from "./quote.ts";
import { roles } from "./roles.ts";
import {
  evaluateTcb,
  moduleIdentity,
  type QeIdentity,
  softwareLevel,
  type TcbInfo,
  type TcbStatus,
  type TcbVerdict,
} from "./tcb.ts";
import {
  type Advice,
  type AdvisedPlatform,
  adviceLines,
  adviseTcb,
  teeShortfallLines,
} from "./tcb-advice.ts";

/** A quote that is genuine, and what Intel says about where it comes from. */
export interface Genuine {
  readonly quote: Quote;
  readonly pck: PckExtension;
  readonly tcb: TcbVerdict;
  /** The root under which all of this holds. */
  readonly trust: TrustAnchor;
  /** When the first certificate or document expires on which this rests; milliseconds since 1970. */
  readonly validUntil: number;
  /** What would bring the platform to one of these statuses. */
  readonly advise: (accepted: readonly TcbStatus[]) => Advice;
  /** What would bring the TDX module to a policy's least TEE_TCB_SVN. */
  readonly adviseTee: (least: Uint8Array) => string[];
}

type CollateralParts = ReturnType<VerifiedCollateral["at"]>;

/**
 * Verifies a quote at the time `now` under one pinned root.
 *
 * @param collateral as published, or verified before (`verifyCollateral`), which saves most of the signature checks
 * @param answers collects which checks passed, for a report
 * @param platforms remembers the signatures that a platform's quotes have in common
 * @throws VerifyError of kind "rejected", whose code says which check failed
 */
export async function verifyQuote(
  quoteBytes: Uint8Array,
  collateral: Collateral | VerifiedCollateral,
  now: Date,
  trust: TrustAnchor,
  answers: Answers = new Answers(),
  platforms?: Signatures,
): Promise<Genuine> {
  const quote = parseQuote(quoteBytes);
  answers.pass("quote/format", { actual: `version ${quote.version}, ${quote.body.tee.toUpperCase()}` });

  answers.judging = "collateral";
  let verified: VerifiedCollateral;
  let parts: CollateralParts;
  try {
    verified =
      collateral instanceof VerifiedCollateral ? collateral : await verifyCollateral(collateral, now, trust);
    parts = verified.at(now.getTime(), trust);
  } catch (error) {
    if (revokesOwn(quote, error)) answers.judging = "quote";
    throw error;
  }
  // A quote without its platform's certificate rests on one that was brought, until the quoting enclave's report fits it.
  if (quote.pckChain !== undefined) answers.judging = "quote";
  for (const id of [
    "collateral/format",
    "tcb-info/signature",
    "tcb-info/content",
    "qe-identity/signature",
    "qe-identity/content",
  ] as const) {
    answers.pass(id);
  }

  const { leaf, notAfter } = await verifyPckChain(quote, parts, now.getTime(), platforms);
  answers.pass("chain/platform", { actual: `up to ${trust.name}` });
  answers.pass("chain/revocation");
  const pck = readPck(leaf);
  answers.pass("pck/extension", { actual: `FMSPC ${pck.fmspc}, PPID ${pck.ppid}` });

  checkTcbInfo(quote, pck, parts.tcbInfo);
  answers.pass("tcb-info/platform");
  const qeLevel = await verifyQuotingEnclave(quote, leaf, parts.qeIdentity, answers, platforms);
  await verifyQuoteSignature(quote);
  answers.pass("quote/signature");

  const td = quote.body.tee === "tdx" ? quote.body.report : undefined;
  if (td !== undefined) {
    checkTdxModule(td, parts.tcbInfo);
    answers.pass("tdx-module/identity");
  } else answers.notChecked("tdx-module/identity", "this is an SGX quote");
  const { tcbInfo, qeIdentity } = parts;
  const platform = { pck, td, qeSvn: quote.qeReport.isvSvn };
  const tcb = judgeTcb(platform, tcbInfo, qeIdentity, qeLevel);
  answers.pass("tcb/level", { actual: tcb.status });
  const advise = (accepted: readonly TcbStatus[]) =>
    adviseTcb(platform, tcbInfo, qeIdentity, tcb.status, accepted);
  const adviseTee = (least: Uint8Array) => (td === undefined ? [] : teeShortfallLines(td, least, tcbInfo));
  return { quote, pck, tcb, trust, validUntil: Math.min(verified.validUntil, notAfter), advise, adviseTee };
}

/** A refusal says what would help. */
function judgeTcb(
  platform: AdvisedPlatform,
  tcbInfo: TcbInfo,
  qeIdentity: QeIdentity,
  qeLevel: QeIdentity["tcbLevels"][number],
): TcbVerdict {
  try {
    return evaluateTcb(platform.pck, platform.td, tcbInfo, qeIdentity, qeLevel);
  } catch (error) {
    if (!(error instanceof VerifyError) || checkOf(error.code) !== "tcb/level") throw error;
    const status = error.code === "tcb/revoked" ? "Revoked" : undefined;
    const lines = adviceLines(adviseTcb(platform, tcbInfo, qeIdentity, status, ["UpToDate"]));
    const found = new Map(error.facts).get("found");
    throw new VerifyError(
      error.code,
      [error.message, ...lines].join("; "),
      found === undefined ? {} : { actual: found },
    );
  }
}

/** Whether a certificate that was found revoked among the collateral's is one of the quote's own. */
function revokesOwn(quote: Quote, error: unknown): boolean {
  if (!(error instanceof VerifyError) || error.code !== "certificate/revoked") return false;
  const facts = new Map(error.facts);
  return ownChain(quote).some(
    ({ commonName, serial }) =>
      facts.get("where") === commonName && facts.get("found") === `serial ${serial}`,
  );
}

/** The certificates that a quote carries; none where it carries no chain of them. */
function ownChain({ pckChain }: Quote): Certificate[] {
  try {
    return pckChain === undefined ? [] : parseChain(pckChain, 3, "the PCK chain");
  } catch (error) {
    if (error instanceof VerifyError) return [];
    throw error;
  }
}

/** The platform's certificate: issued by a PCK CA under the root, and not revoked by that CA's own list. */
async function verifyPckChain(
  quote: Quote,
  parts: CollateralParts,
  now: number,
  platforms: Signatures | undefined,
): Promise<{ leaf: Authority; notAfter: number }> {
  const pem = quote.pckChain ?? parts.pckChain;
  if (pem === undefined) {
    throw new VerifyError("collateral/missing", "neither the quote nor the collateral has a PCK chain");
  }
  const chain = parseChain(pem, 3, "the PCK chain");
  const [leaf, ca, root] = chain;
  const rootAuthority = await sameRoot(root!, parts.root, parts.trust, now);
  const caAuthority = equal(ca!.encoding, parts.pckCa.certificate.encoding)
    ? parts.pckCa
    : await verifyIssued(ca!, rootAuthority, roles.pckCa, now);
  checkNotRevoked(caAuthority.certificate, parts.rootCrl);
  const authority = await verifyIssued(leaf!, caAuthority, roles.pck, now, platforms);
  if (!equal(caAuthority.certificate.publicKey, parts.pckCa.certificate.publicKey)) {
    throw new VerifyError("crl/issuer", "the PCK CRL is not one of the CA that issued this platform's PCK", {
      expected: caAuthority.certificate.commonName,
      actual: parts.pckCa.certificate.commonName,
    });
  }
  checkNotRevoked(authority.certificate, parts.pckCrl);
  // CA and root may be other certificates than those of the collateral, for the same keys.
  return { leaf: authority, notAfter: Math.min(...chain.map((certificate) => certificate.notAfter)) };
}

function readPck({ certificate }: Authority): PckExtension {
  const extension = pckExtension(certificate);
  if (extension === undefined) {
    throw new VerifyError("pck/extension", "the PCK certificate has no SGX extension");
  }
  return extension;
}

function requireEqual(code: CheckCode, what: string, actual: string, expected: string): void {
  if (actual !== expected)
    throw new VerifyError(code, `${what} is not the expected one`, { expected, actual });
}

/** Whether this TCB info is about this TEE and this platform (4.1.2.4.9 and .10). */
function checkTcbInfo(quote: Quote, pck: PckExtension, tcbInfo: TcbInfo): void {
  requireEqual("tcb-info/tee", "the TEE of the TCB info", tcbInfo.id.toLowerCase(), quote.body.tee);
  requireEqual("tcb-info/fmspc", "the FMSPC of the TCB info", tcbInfo.fmspc, pck.fmspc);
  requireEqual("tcb-info/pceid", "the PCE id of the TCB info", tcbInfo.pceId, pck.pceId);
}

/** Whether the TDX module is Intel's (4.1.2.4.11): its own identity counts from module 1.5 on. */
function checkTdxModule(td: TdReport, tcbInfo: TcbInfo): void {
  const major = td.teeTcbSvn[1]!;
  const identity = major > 0 ? moduleIdentity(tcbInfo, major) : tcbInfo.tdxModule;
  if (identity === undefined) {
    throw new VerifyError("tdx-module/unknown", "Intel lists no TDX module of this version", {
      actual: `module ${major}`,
    });
  }
  requireEqual("tdx-module/signer", "MRSIGNERSEAM", toHex(td.mrSignerSeam), identity.mrsigner);
  if (!isZero(td.seamAttributes)) {
    throw new VerifyError("tdx-module/attributes", "SEAMATTRIBUTES are not zero", {
      actual: toHex(td.seamAttributes),
    });
  }
  requireEqual("tdx-module/attributes", "SEAMATTRIBUTES", toHex(td.seamAttributes), identity.attributes);
}

/**
 * Verifies that Intel's quoting enclave ran on this platform and made the attestation key (4.1.2.4.12 to .15). It keeps
 * that key, and its report with the signature: all quotes of a platform have them until the enclave is renewed.
 */
async function verifyQuotingEnclave(
  quote: Quote,
  pck: Authority,
  identity: QeIdentity,
  answers: Answers,
  platforms: Signatures | undefined,
) {
  await verifyQeReport(quote, pck, platforms);
  answers.judging = "quote";
  answers.pass("qe/report-signature");
  await verifyKeyBinding(quote);
  answers.pass("qe/key-binding");
  requireEqual("qe/tee", "the QE identity's kind", identity.id, quote.body.tee === "tdx" ? "TD_QE" : "QE");
  const level = checkEnclave(quote.qeReport, identity);
  answers.pass("qe/identity", { actual: `SVN ${quote.qeReport.isvSvn}, ${level.tcbStatus}` });
  return level;
}

/** Verifies that the platform's key signed the quoting enclave's report (4.1.2.4.12). */
export async function verifyQeReport(
  { qeReport, qeReportSignature }: Quote,
  { certificate, key }: Authority,
  platforms?: Signatures,
): Promise<void> {
  const signer = { point: certificate.publicKey, key };
  if (!(await isSignedBy(signer, qeReportSignature, qeReport.bytes, platforms))) {
    throw new VerifyError("qe/signature", "the QE report is not signed by the platform's PCK");
  }
}

/** Verifies that the quoting enclave's report is about this attestation key (4.1.2.4.13). */
export async function verifyKeyBinding({ attestationKey, qeAuthData, qeReport }: Quote): Promise<void> {
  const { reportData } = qeReport;
  const binding = await digest("sha256", concat(attestationKey, qeAuthData));
  if (!equal(reportData.subarray(0, 32), binding) || !isZero(reportData.subarray(32))) {
    throw new VerifyError("qe/report-data", "the QE report does not bind this attestation key", {
      expected: toHex(binding),
      actual: toHex(reportData),
    });
  }
}

/** Compares an enclave with its published identity; returns the TCB level that it reaches. */
function checkEnclave(report: EnclaveReport, identity: QeIdentity) {
  const miscSelect = masked(report.miscSelect, identity.miscselectMask);
  requireEqual("qe/miscselect", "the QE's MISCSELECT", miscSelect, identity.miscselect);
  const attributes = masked(report.attributes, identity.attributesMask);
  requireEqual("qe/attributes", "the QE's ATTRIBUTES", attributes, identity.attributes);
  requireEqual("qe/signer", "the QE's MRSIGNER", toHex(report.mrSigner), identity.mrsigner);
  requireEqual("qe/product", "the QE's ISVPRODID", `${report.isvProdId}`, `${identity.isvprodid}`);
  const level = softwareLevel(identity.tcbLevels, report.isvSvn);
  if (level === undefined) {
    throw new VerifyError("qe/svn", "the QE is below every level that Intel lists", {
      actual: `${report.isvSvn}`,
    });
  }
  return level;
}

function masked(value: Uint8Array, maskHex: string): string {
  const mask = fromHex(maskHex)!;
  return toHex(value.map((byte, i) => byte & mask[i]!));
}

/** Verifies the quote's own signature with the attestation key (4.1.2.4.16). */
export async function verifyQuoteSignature(quote: Quote): Promise<void> {
  const key = await keyOfPoint(concat(Uint8Array.of(4), quote.attestationKey));
  if (key === undefined) throw new VerifyError("quote/key", "the attestation key is not a point of P-256");
  if (!(await verifyP256(key, quote.signature, quote.signed))) {
    throw new VerifyError("quote/signature", "the quote is not signed by its attestation key");
  }
}
