// SPDX-License-Identifier: Apache-2.0
/** Evidence in, a report out: genuine, then acceptable, every check listed. Of any kind. */

import type { AmdCollateral } from "./amd/collateral.ts";
import { withEvidence } from "./amd/collateral.ts";
import { type GenuineSnp, type SnpTrust, seenInReport, verifyReport } from "./amd/genuine.ts";
import { chipIdText } from "./amd/products.ts";
import { parseReport } from "./amd/report.ts";
import { type NitroDocument, parseNitro } from "./aws/document.ts";
import { type GenuineNitro, type NitroRoot, verifyNitro } from "./aws/genuine.ts";
import type { AnyEvidence, NitroEvidence, SnpEvidence } from "./evidence/evidence.ts";
import type { GenuineHcl } from "./evidence/hcl.ts";
import { intelRoot } from "./intel/roots.ts";
import {
  askGenuine,
  askHcl,
  askWhatIsCertain,
  genuineIds,
  type Judgement,
  judgeEvidence,
  report,
  summary,
} from "./judge.ts";
import { askedChecks, checkTee } from "./policy/acceptable.ts";
import { checkNitro } from "./policy/nitro-rules.ts";
import { checkPcrs } from "./policy/pcr-rules.ts";
import { checkReportData } from "./policy/report-data-rules.ts";
import { checkSnp, type SeenSnp } from "./policy/snp-rules.ts";
import { Answers, type NitroSummary, type Report, type SnpSummary } from "./report.ts";

export { type Judgement, judgeEvidence } from "./judge.ts";

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
  const { policy, now } = judgement;
  const answers = new Answers();
  const wanted = checkTee("nitro", policy, answers);
  const genuine = wanted ? await askNitro(evidence, now, judgement.nitroRoot, answers) : undefined;
  const { nitro } = policy;
  if (nitro !== undefined) {
    const check = (document: NitroDocument, own: Answers) =>
      checkNitro(document, nitro, policy.freshness !== "any", judgement.expectedReportData, own);
    if (genuine !== undefined) check(genuine.document, answers);
    await askWhatIsCertain(answers, async (own) => check(parseNitro(evidence.document), own));
  }
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
  const { snp } = policy;
  if (snp !== undefined) {
    const check = async (seen: SeenSnp, hcl: GenuineHcl | undefined, own: Answers) => {
      checkSnp(seen, snp, references, now, own);
      checkPcrs(hcl, policy, own);
      await checkReportData(evidence, seen.report.reportData, hcl, judgement, own);
    };
    if (genuine !== undefined) await check(genuine.snp, genuine.hcl, answers);
    await askWhatIsCertain(answers, async (own) => {
      const seen = seenInReport(parseReport(evidence.report));
      await check(seen, await askHcl(evidence.hcl, seen.report.reportData, new Answers()), own);
    });
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
    const collateral = withEvidence(given, evidence.collateral, now);
    const snp = await verifyReport(evidence.report, collateral, now, trust, answers);
    return { snp, hcl: await askHcl(evidence.hcl, snp.report.reportData, answers) };
  } catch (error) {
    answers.failFrom(error);
    await askWhatIsCertain(answers, (own) =>
      askHcl(evidence.hcl, parseReport(evidence.report).reportData, own),
    );
    return undefined;
  }
}

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

/** Answers the first question alone: whether the quote is genuine. Nothing is said about what runs in the TD. */
export async function verifyGenuine(
  evidence: AnyEvidence,
  judgement: Pick<Judgement, "now" | "trust" | "collateral" | "amdCollateral" | "amdRoots" | "nitroRoot">,
): Promise<Report> {
  const answers = new Answers();
  const { now, trust = intelRoot, amdCollateral, amdRoots: roots } = judgement;
  const asked = genuineIds(evidence);
  if (evidence.platform === "snp") {
    const found = await askSnp(evidence, amdCollateral, now, roots === undefined ? {} : { roots }, answers);
    return report(answers, asked, "genuine", now, found && snpSummary(found.snp));
  }
  if (evidence.platform === "nitro") {
    const found = await askNitro(evidence, now, judgement.nitroRoot, answers);
    return report(answers, asked, "genuine", now, found && nitroSummary(found));
  }
  const found = await askGenuine(evidence, judgement, trust, answers);
  return report(answers, asked, "genuine", now, found && summary(found.quote));
}
