// SPDX-License-Identifier: Apache-2.0
/** Evidence in, a report out: genuine, then acceptable, every check listed. */

import type { AcceptedRelease } from "@caisson/releases";
import { provesHardware } from "@caisson/vocabulary/platforms";
import type { AmdCollateral } from "./amd/collateral.ts";
import { withEvidence } from "./amd/collateral.ts";
import { type GenuineSnp, type SnpTrust, verifyReport } from "./amd/genuine.ts";
import { chipIdText } from "./amd/products.ts";
import { type GenuineNitro, type NitroRoot, verifyNitro } from "./aws/genuine.ts";
import { cannotTell } from "./certainty.ts";
import { type CheckId, genuineChecks, nitroGenuineChecks, snpGenuineChecks, VerifyError } from "./errors.ts";
import type { AnyEvidence, Evidence, NitroEvidence, SnpEvidence } from "./evidence/evidence.ts";
import { type GenuineHcl, type Hcl, verifyHcl } from "./evidence/hcl.ts";
import type { Collateral, VerifiedCollateral } from "./intel/collateral.ts";
import { type Genuine, verifyQuote } from "./intel/genuine.ts";
import { parseQuote } from "./intel/quote.ts";
import { intelRoot } from "./intel/roots.ts";
import type { TrustAnchor } from "./pki/x509.ts";
import { trustAnchorFor } from "./platform.ts";
import {
  askedChecks,
  checkPolicyPlatform,
  checkTee,
  evaluateNitroPolicy,
  evaluatePolicy,
  evaluateSnpPolicy,
  type ReleaseJudge,
} from "./policy/acceptable.ts";
import type { Policy } from "./policy/policy.ts";
import type { Reference } from "./policy/reference.ts";
import type { ExpectedReportData } from "./policy/report-data-rules.ts";
import {
  Answers,
  type IntelSummary,
  type NitroSummary,
  type PlatformSummary,
  type Report,
  type SnpSummary,
} from "./report.ts";

const hclIds: readonly CheckId[] = ["hcl/report", "hcl/tpm-quote"];
/** What is asked of evidence to be genuine: each vendor's own checks, and a virtual TPM's where there is one. */
function genuineIds({ platform, hcl }: AnyEvidence): CheckId[] {
  const chain: CheckId[] = ["chain/platform", "chain/revocation"];
  const withChain = (checks: object, shared: CheckId[]): CheckId[] => {
    const [format, ...own] = Object.keys(checks) as [CheckId, ...CheckId[]];
    return [format, ...shared, ...own];
  };
  const asked =
    platform === "nitro"
      ? withChain(nitroGenuineChecks, chain)
      : platform === "snp"
        ? withChain(snpGenuineChecks, ["collateral/format", ...chain])
        : (Object.keys(genuineChecks) as CheckId[]);
  return [...asked.filter((id) => !hclIds.includes(id)), ...(hcl === undefined ? [] : hclIds)];
}

/** How evidence is judged. */
export interface Judgement {
  policy: Policy;
  /** Reference values beside those that the policy lists (`readReferences`). */
  references?: readonly Reference[];
  now: Date;
  /** In place of the vendor's root (`platformRows`). The emulated platform's root is the policy's `simulatedRoot`. */
  trust?: TrustAnchor;
  /** Used in place of what the evidence carries. */
  collateral?: Collateral | VerifiedCollateral;
  /** The same for SEV-SNP reports; its parts go before what the evidence carries. */
  amdCollateral?: AmdCollateral;
  /** In place of AMD's roots. */
  amdRoots?: SnpTrust["roots"];
  /** In place of AWS's root. */
  nitroRoot?: NitroRoot;
  /** The verifier's nonce, and other report-data fields that it knows. */
  expectedReportData?: ExpectedReportData;
  /** Judges releases, for policies that name an identity (`@caisson/verify/releases`). */
  releases?: ReleaseJudge;
}

/**
 * Judges evidence under a policy. Refusals are answers, not errors: they are in the report. Throws only what is no
 * VerifyError, that is, bugs.
 */
export async function verifyEvidence(evidence: AnyEvidence, judgement: Judgement): Promise<Report> {
  if (evidence.platform === "snp") return judgeSnp(evidence, judgement);
  if (evidence.platform === "nitro") return judgeNitro(evidence, judgement);
  return (await judgeEvidence(evidence, judgement)).report;
}

async function judgeNitro(evidence: NitroEvidence, judgement: Judgement): Promise<Report> {
  const { policy, references = [], now } = judgement;
  const answers = new Answers();
  const wanted = checkTee("nitro", policy, answers);
  const genuine = wanted ? await askNitro(evidence, now, judgement.nitroRoot, answers) : undefined;
  if (genuine !== undefined) evaluateNitroPolicy(genuine, { ...judgement, references }, answers);
  const asked = [...genuineIds(evidence), ...askedChecks(policy, evidence)];
  return report(answers, asked, "genuine-and-acceptable", now, genuine && nitroSummary(genuine));
}

async function askNitro(
  { document }: NitroEvidence,
  now: Date,
  root: NitroRoot | undefined,
  answers: Answers,
): Promise<GenuineNitro | undefined> {
  try {
    return await verifyNitro(document, now, answers, root);
  } catch (error) {
    answers.failFrom(error);
    return undefined;
  }
}

const nitroSummary = ({ document, root, validUntil }: GenuineNitro): NitroSummary => ({
  tee: "nitro",
  root: root.name,
  kind: document.kind,
  module: document.moduleId,
  time: new Date(document.timestamp).toISOString(),
  validUntil: new Date(validUntil).toISOString(),
});

async function judgeSnp(evidence: SnpEvidence, judgement: Judgement): Promise<Report> {
  const { policy, references = [], now } = judgement;
  const answers = new Answers();
  const trust = {
    ...(judgement.amdRoots && { roots: judgement.amdRoots }),
    ...(policy.snp?.revocation && { revocation: policy.snp.revocation }),
  };
  // Without rules for it nothing has to be known of the report.
  const wanted = checkTee("snp", policy, answers);
  const genuine = wanted ? await askSnp(evidence, judgement.amdCollateral, now, trust, answers) : undefined;
  if (genuine !== undefined) {
    await evaluateSnpPolicy(genuine.snp, evidence, genuine.hcl, { ...judgement, references }, answers);
  }
  const asked = [...genuineIds(evidence), ...askedChecks(policy, evidence)];
  return report(answers, asked, "genuine-and-acceptable", now, genuine && snpSummary(genuine.snp));
}

async function askSnp(
  evidence: SnpEvidence,
  given: AmdCollateral | undefined,
  now: Date,
  trust: SnpTrust,
  answers: Answers,
): Promise<{ snp: GenuineSnp; hcl: GenuineHcl | undefined } | undefined> {
  try {
    const collateral = withEvidence(given, evidence.collateral);
    const snp = await verifyReport(evidence.report, collateral, now, trust, answers);
    return { snp, hcl: await askHcl(evidence.hcl, snp.report.reportData, answers) };
  } catch (error) {
    answers.failFrom(error);
    return undefined;
  }
}

const askHcl = async (hcl: Hcl | undefined, reportData: Uint8Array, answers: Answers) =>
  hcl === undefined ? undefined : verifyHcl(hcl, reportData, answers);

function snpSummary({
  report,
  product,
  signedBy,
  endorsement,
  tcb,
  root,
  validUntil,
}: GenuineSnp): SnpSummary {
  return {
    tee: "snp",
    root: root.name,
    reportVersion: report.version,
    product,
    signedBy,
    ...(endorsement.provider !== undefined && { provider: endorsement.provider }),
    chipId: chipIdText(report.chipId, product),
    tcb,
    validUntil: new Date(validUntil).toISOString(),
  };
}

/** The same with the genuine quote and the release that was accepted, for callers that go on to use them. */
export async function judgeEvidence(
  evidence: Evidence,
  judgement: Judgement,
): Promise<{ report: Report; genuine?: Genuine; release?: AcceptedRelease }> {
  const { policy, references = [], now } = judgement;
  const answers = new Answers();
  const trust = trustFor(evidence, judgement);
  let genuine: Genuine | undefined;
  let release: AcceptedRelease | undefined;
  if (trust === undefined) checkPolicyPlatform(evidence, policy, answers);
  else {
    const found = await askGenuine(evidence, judgement.collateral, now, trust, answers);
    genuine = found?.quote;
    if (found !== undefined) {
      release = await evaluatePolicy(found.quote, evidence, { ...judgement, references }, answers, found.hcl);
    }
  }
  const asked = [...genuineIds(evidence), ...askedChecks(policy, evidence)];
  return {
    report: report(answers, asked, "genuine-and-acceptable", now, genuine && summary(genuine), release),
    ...(genuine === undefined ? {} : { genuine }),
    ...(release === undefined ? {} : { release }),
  };
}

/** The root for the evidence's platform: what the caller gives takes the place of the vendor's, never of a policy's. */
function trustFor({ platform }: Evidence, { policy, trust }: Judgement): TrustAnchor | undefined {
  const anchor = trustAnchorFor(platform, policy);
  return anchor !== undefined && provesHardware[platform] ? (trust ?? anchor) : anchor;
}

/** Answers the first question alone: whether the quote is genuine. Nothing is said about what runs in the TD. */
export async function verifyGenuine(
  evidence: AnyEvidence,
  judgement: Pick<Judgement, "now" | "trust" | "collateral" | "amdCollateral" | "amdRoots" | "nitroRoot">,
): Promise<Report> {
  const answers = new Answers();
  const { now, trust = intelRoot, collateral, amdCollateral, amdRoots: roots } = judgement;
  const asked = genuineIds(evidence);
  if (evidence.platform === "snp") {
    const found = await askSnp(evidence, amdCollateral, now, roots === undefined ? {} : { roots }, answers);
    return report(answers, asked, "genuine", now, found && snpSummary(found.snp));
  }
  if (evidence.platform === "nitro") {
    const found = await askNitro(evidence, now, judgement.nitroRoot, answers);
    return report(answers, asked, "genuine", now, found && nitroSummary(found));
  }
  const found = await askGenuine(evidence, collateral, now, trust, answers);
  return report(answers, asked, "genuine", now, found && summary(found.quote));
}

async function askGenuine(
  evidence: Evidence,
  given: Judgement["collateral"],
  now: Date,
  trust: TrustAnchor,
  answers: Answers,
): Promise<{ quote: Genuine; hcl: GenuineHcl | undefined } | undefined> {
  try {
    const collateral = given ?? evidence.collateral;
    if (collateral === undefined) {
      const { version, body } = parseQuote(evidence.quote);
      answers.pass("quote/format", { actual: `version ${version}, ${body.tee.toUpperCase()}` });
      throw new VerifyError("collateral/missing", "there is no collateral to verify the quote with");
    }
    const quote = await verifyQuote(evidence.quote, collateral, now, trust, answers);
    return { quote, hcl: await askHcl(evidence.hcl, quote.quote.body.report.reportData, answers) };
  } catch (error) {
    answers.failFrom(error);
    return undefined;
  }
}

function report(
  answers: Answers,
  asked: readonly CheckId[],
  scope: Report["scope"],
  now: Date,
  platform: PlatformSummary | undefined,
  release?: AcceptedRelease,
): Report {
  const list = answers.list(asked);
  const codes = list.flatMap(({ code }) => code ?? []);
  const reference = list.find(
    ({ id, outcome }) => id === "registers/reference" && outcome === "pass",
  )?.actual;
  const accepted = platform !== undefined && answers.allow(asked);
  const undetermined = platform === undefined && cannotTell(list, answers.judging);
  return {
    version: "caisson/report/v1",
    verdict: accepted ? "accepted" : undetermined ? "undetermined" : "rejected",
    scope,
    at: now.toISOString(),
    codes,
    ...(platform === undefined ? {} : { platform }),
    ...(reference === undefined ? {} : { reference }),
    ...(release === undefined ? {} : { release: releaseSummary(release) }),
    checks: list,
  };
}

function releaseSummary({ release: { hash, predicate } }: AcceptedRelease): NonNullable<Report["release"]> {
  const { app, release: number, expires } = predicate;
  return { app, number, hash, expires: new Date(expires).toISOString() };
}

function summary({ quote, pck, tcb, trust, validUntil }: Genuine): IntelSummary {
  return {
    tee: quote.body.tee,
    root: trust.name,
    quoteVersion: quote.version,
    tcbStatus: tcb.status,
    advisories: tcb.advisories,
    tcbDate: new Date(tcb.date).toISOString(),
    tcbEvaluationDataNumber: tcb.evaluationDataNumber,
    fmspc: pck.fmspc,
    ppid: pck.ppid,
    ...(pck.piid !== undefined && { piid: pck.piid }),
    validUntil: new Date(validUntil).toISOString(),
  };
}
