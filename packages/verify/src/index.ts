// SPDX-License-Identifier: Apache-2.0
/**
 * Evidence in, a report out. Pure: no file, no network, no clock; runs in Node and in a browser.
 *
 * Two questions are kept apart. `verifyQuote` asks whether a quote is *genuine* (signatures, collateral, TCB);
 * `evaluatePolicy` whether what it says is *acceptable*; `verifyEvidence` asks both and reports every check.
 */

export { type AmdCollateral, readAmdCollateral } from "./amd/collateral.ts";
export { type GenuineSnp, verifyReport } from "./amd/genuine.ts";
export { parseReport, type SnpReport } from "./amd/report.ts";
export { type AmdRoot, amdRoots } from "./amd/roots.ts";
export {
  type ChannelExpectation,
  type ChannelJudgement,
  type ChannelKeys,
  readChannelEvidence,
  verifyChannel,
} from "./channel.ts";
export { type CheckCode, type CheckId, checks, type ErrorCode, VerifyError } from "./errors.ts";
export type {
  AnyEvidence,
  BootLog,
  Evidence,
  LoggedEvent,
  NitroEvidence,
  ReportDataClaim,
  SnpEvidence,
} from "./evidence/evidence.ts";
export { isQuote } from "./evidence/evidence.ts";
export {
  type EvidenceDocument,
  readEvidenceDocument,
} from "./evidence/formats/caisson.ts";
export { readDstackQuote } from "./evidence/formats/dstack.ts";
export { type Form, forms, isEvidence, readEvidence } from "./evidence/formats/forms.ts";
export {
  type ReportDataFields,
  type ReportDataScheme,
  reportData,
  reportDataSchemes,
} from "./evidence/report-data.ts";
export {
  type Collateral,
  readCollateral,
  type VerifiedCollateral,
  verifyCollateral,
} from "./intel/collateral.ts";
export { type Genuine, verifyQuote } from "./intel/genuine.ts";
export { type EnclaveReport, parseQuote, type Quote, type TdReport } from "./intel/quote.ts";
export { intelRoot } from "./intel/roots.ts";
export { type TcbStatus, type TcbVerdict, tcbStatuses } from "./intel/tcb.ts";
export { type Advice, adviceLines, type Remedy, remedies, type Shortfall } from "./intel/tcb-advice.ts";
export type { TrustAnchor } from "./pki/chain.ts";
export { Signatures } from "./pki/remembered.ts";
export { trustAnchorFor } from "./platform.ts";
export { type Circumstances, evaluatePolicy } from "./policy/acceptable.ts";
export { acceptedPlatforms, type Policy, readPolicy } from "./policy/policy.ts";
export {
  type Reference,
  type ReferenceRegister,
  readReferences,
  referenceRegisters,
} from "./policy/reference.ts";
export { comparedRegisters, coveringReferences } from "./policy/registers.ts";
export { type ExpectedReportData, expectNonce } from "./policy/report-data-rules.ts";
export {
  Answers,
  type Check,
  type IntelSummary,
  notReached,
  type Outcome,
  type PlatformSummary,
  type Report,
  type SnpSummary,
} from "./report.ts";
export { type Judgement, judgeEvidence, verifyEvidence, verifyGenuine } from "./verify.ts";
