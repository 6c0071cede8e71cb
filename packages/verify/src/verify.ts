// SPDX-License-Identifier: Apache-2.0
/** Evidence in, a report out: genuine, then acceptable, every check listed. */

import { provesHardware } from "@caisson/vocabulary/platforms";
import { cannotTell } from "./certainty.ts";
import { type CheckId, genuineChecks, VerifyError } from "./errors.ts";
import type { Evidence } from "./evidence/evidence.ts";
import type { Collateral, VerifiedCollateral } from "./intel/collateral.ts";
import { type Genuine, verifyQuote } from "./intel/genuine.ts";
import { parseQuote } from "./intel/quote.ts";
import { intelRoot } from "./intel/roots.ts";
import type { TrustAnchor } from "./pki/x509.ts";
import { trustAnchorFor } from "./platform.ts";
import {
  askedChecks,
  checkPolicyPlatform,
  type ExpectedReportData,
  evaluatePolicy,
} from "./policy/acceptable.ts";
import type { Policy } from "./policy/policy.ts";
import type { Reference } from "./policy/reference.ts";
import { Answers, type Report } from "./report.ts";

const genuineIds = Object.keys(genuineChecks) as CheckId[];

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
  /** The verifier's nonce, and other report-data fields that it knows. */
  expectedReportData?: ExpectedReportData;
}

/**
 * Judges evidence under a policy. Refusals are answers, not errors: they are in the report. Throws only what is no
 * VerifyError, that is, bugs.
 */
export async function verifyEvidence(evidence: Evidence, judgement: Judgement): Promise<Report> {
  return (await judgeEvidence(evidence, judgement)).report;
}

/** The same with the parsed, genuine quote (when it is genuine), for callers that go on to use its fields. */
export async function judgeEvidence(
  evidence: Evidence,
  judgement: Judgement,
): Promise<{ report: Report; genuine?: Genuine }> {
  const { policy, references = [], now } = judgement;
  const answers = new Answers();
  const trust = trustFor(evidence, judgement);
  let genuine: Genuine | undefined;
  if (trust === undefined) checkPolicyPlatform(evidence, policy, answers);
  else {
    genuine = await askGenuine(evidence, judgement.collateral, now, trust, answers);
    if (genuine !== undefined) {
      await evaluatePolicy(genuine, evidence, { ...judgement, references }, answers);
    }
  }
  return {
    report: report(answers, [...genuineIds, ...askedChecks(policy)], "genuine-and-acceptable", now, genuine),
    ...(genuine === undefined ? {} : { genuine }),
  };
}

/** The root for the evidence's platform: what the caller gives takes the place of the vendor's, never of a policy's. */
function trustFor({ platform }: Evidence, { policy, trust }: Judgement): TrustAnchor | undefined {
  const anchor = trustAnchorFor(platform, policy);
  return anchor !== undefined && provesHardware[platform] ? (trust ?? anchor) : anchor;
}

/** Answers the first question alone: whether the quote is genuine. Nothing is said about what runs in the TD. */
export async function verifyGenuine(
  evidence: Evidence,
  judgement: Pick<Judgement, "now" | "trust" | "collateral">,
): Promise<Report> {
  const answers = new Answers();
  const { now, trust = intelRoot, collateral } = judgement;
  const genuine = await askGenuine(evidence, collateral, now, trust, answers);
  return report(answers, genuineIds, "genuine", now, genuine);
}

async function askGenuine(
  evidence: Evidence,
  given: Judgement["collateral"],
  now: Date,
  trust: TrustAnchor,
  answers: Answers,
): Promise<Genuine | undefined> {
  try {
    const collateral = given ?? evidence.collateral;
    if (collateral === undefined) {
      const { version, body } = parseQuote(evidence.quote);
      answers.pass("quote/format", { actual: `version ${version}, ${body.tee.toUpperCase()}` });
      throw new VerifyError("collateral/missing", "there is no collateral to verify the quote with");
    }
    return await verifyQuote(evidence.quote, collateral, now, trust, answers);
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
  genuine: Genuine | undefined,
): Report {
  const list = answers.list(asked);
  const codes = list.flatMap(({ code }) => code ?? []);
  const reference = list.find(
    ({ id, outcome }) => id === "registers/reference" && outcome === "pass",
  )?.actual;
  const accepted = genuine !== undefined && answers.allow(asked);
  const undetermined = genuine === undefined && cannotTell(list, answers.judging);
  return {
    version: "caisson/report/v1",
    verdict: accepted ? "accepted" : undetermined ? "undetermined" : "rejected",
    scope,
    at: now.toISOString(),
    codes,
    ...(genuine === undefined ? {} : { platform: summary(genuine) }),
    ...(reference === undefined ? {} : { reference }),
    checks: list,
  };
}

function summary({ quote, pck, tcb, trust, validUntil }: Genuine): NonNullable<Report["platform"]> {
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
    validUntil: new Date(validUntil).toISOString(),
  };
}
