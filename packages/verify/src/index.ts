/**
 * Evidence in, a report out. Pure: no file, no network, no clock; runs in Node and in a browser.
 *
 * Two questions are kept apart. `verifyQuote` asks whether a quote is *genuine* (signatures, collateral, TCB);
 * `evaluatePolicy` whether what it says is *acceptable*; `verifyEvidence` asks both and reports every check.
 */
export { type Circumstances, type ExpectedReportData, evaluatePolicy } from "./acceptable.ts";
export { type Collateral, readCollateral, type VerifiedCollateral, verifyCollateral } from "./collateral.ts";
export { type CheckCode, type CheckId, checks, type ErrorCode, VerifyError } from "./errors.ts";
export {
  type BootLog,
  type Evidence,
  type EvidenceDocument,
  limits,
  type PlatformName,
  type ReportDataClaim,
  type RuntimeEvent,
  readDstackQuote,
  readEvidence,
  readEvidenceDocument,
  writeEvidenceDocument,
} from "./evidence.ts";
export { type Genuine, verifyQuote } from "./genuine.ts";
export { guestEvents, type Policy, readPolicy } from "./policy.ts";
export { type EnclaveReport, parseQuote, type Quote, type TdReport } from "./quote.ts";
export { type Reference, type RegisterName, readReferences } from "./reference.ts";
export { Answers, type Check, type Outcome, type PlatformSummary, type Report } from "./report.ts";
export {
  type ReportDataFields,
  type ReportDataScheme,
  reportData,
  reportDataSchemes,
} from "./report-data.ts";
export { intelRoot, type TrustAnchor } from "./roots.ts";
export { type TcbStatus, type TcbVerdict, tcbStatuses } from "./tcb.ts";
export { type Judgement, judgeEvidence, verifyEvidence, verifyGenuine } from "./verify.ts";
