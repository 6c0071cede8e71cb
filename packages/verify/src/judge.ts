// SPDX-License-Identifier: Apache-2.0
/**
 * Judging quotes, and what is common to every kind of evidence: which questions are asked, and the report. Apart from
 * `verify.ts`, so that a client of our guests, whose evidence is a quote, carries nothing for reports of others.
 */

import type { AcceptedRelease } from "@caisson/releases";
import { provesHardware } from "@caisson/vocabulary/platforms";
import type { AmdCollateral } from "./amd/collateral.ts";
import type { SnpTrust } from "./amd/genuine.ts";
import type { NitroRoot } from "./aws/genuine.ts";
import { type CheckId, genuineChecks, nitroGenuineChecks, snpGenuineChecks, VerifyError } from "./errors.ts";
import type { AnyEvidence, Evidence } from "./evidence/evidence.ts";
import { type GenuineHcl, type Hcl, verifyHcl } from "./evidence/hcl.ts";
import type { Collateral, VerifiedCollateral } from "./intel/collateral.ts";
import { fresherThan } from "./intel/fresher.ts";
import { type Genuine, verifyQuote } from "./intel/genuine.ts";
import { parseQuote } from "./intel/quote.ts";
import { checkOwnSignatures, ownPck } from "./intel/quote-chain.ts";
import type { TrustAnchor } from "./pki/chain.ts";
import type { Signatures } from "./pki/remembered.ts";
import { trustAnchorFor } from "./platform.ts";
import { askedChecks, checkPolicyPlatform, evaluatePolicy, type ReleaseJudge } from "./policy/acceptable.ts";
import type { Policy } from "./policy/policy.ts";
import type { Reference } from "./policy/reference.ts";
import type { ExpectedReportData } from "./policy/report-data-rules.ts";
import { Answers, type Check, type IntelSummary, type PlatformSummary, type Report } from "./report.ts";

const hclIds: readonly CheckId[] = ["hcl/report", "hcl/tpm-quote"];
/** What is asked of evidence to be genuine: each vendor's own checks, and a virtual TPM's where there is one. */
export function genuineIds({ platform, hcl }: AnyEvidence): CheckId[] {
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
  /** Signatures that quotes of one platform have in common, for a verifier that sees the same platforms again and again. */
  platforms?: Signatures;
  /** Judges releases, for policies that name an identity (`@caisson/verify/releases`). */
  releases?: ReleaseJudge;
}

/**
 * Judges a quote under a policy (`verifyEvidence`); with the genuine quote and the release that was accepted, for
 * callers that go on to use them.
 */
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
    const found = await askGenuine(evidence, judgement, trust, answers);
    genuine = found?.quote;
    const circumstances = { ...judgement, references };
    if (found !== undefined) {
      release = await evaluatePolicy(found.quote, evidence, circumstances, answers, found.hcl);
    }
    await askWhatIsCertain(answers, async (own) => {
      const quote = parseQuote(evidence.quote);
      const hcl = await askHcl(evidence.hcl, quote.body.report.reportData, new Answers());
      await evaluatePolicy({ quote, ...ownPck(quote) }, evidence, circumstances, own, hcl);
    });
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

export const askHcl = async (hcl: Hcl | undefined, reportData: Uint8Array, answers: Answers) =>
  hcl === undefined ? undefined : verifyHcl(hcl, reportData, answers);

/**
 * Where nobody can tell whether evidence is genuine, it is refused all the same if something is wrong with it whatever
 * vouched for it. Of what is asked here the refusals alone are recorded: a pass would say something of a machine that
 * nobody knows.
 */
export async function askWhatIsCertain(
  answers: Answers,
  ask: (own: Answers) => Promise<unknown>,
): Promise<void> {
  if (!answers.undetermined) return;
  const own = new Answers();
  try {
    await ask(own);
  } catch (error) {
    own.failFrom(error);
  }
  answers.adoptRefusals(own);
}

export async function askGenuine(
  evidence: Evidence,
  { collateral: given, now, platforms }: Pick<Judgement, "collateral" | "now" | "platforms">,
  trust: TrustAnchor,
  answers: Answers,
): Promise<{ quote: Genuine; hcl: GenuineHcl | undefined } | undefined> {
  try {
    const { collateral: brought } = evidence;
    const fresher = given && brought && (await fresherThan(given, brought, now, trust));
    const collateral = fresher ?? given ?? brought;
    if (collateral === undefined) {
      const { version, body } = parseQuote(evidence.quote);
      answers.pass("quote/format", { actual: `version ${version}, ${body.tee.toUpperCase()}` });
      throw new VerifyError("collateral/missing", "there is no collateral to verify the quote with");
    }
    const quote = await verifyQuote(evidence.quote, collateral, now, trust, answers, platforms);
    if (fresher !== undefined) {
      answers.pass("collateral/format", { actual: "the evidence's, which is newer than the verifier's own" });
    }
    return { quote, hcl: await askHcl(evidence.hcl, quote.quote.body.report.reportData, answers) };
  } catch (error) {
    answers.failFrom(error);
    await askWhatIsCertain(answers, async (own) => {
      const quote = parseQuote(evidence.quote);
      await checkOwnSignatures(quote, trust);
      await askHcl(evidence.hcl, quote.body.report.reportData, own);
    });
    return undefined;
  }
}

export function report(
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
  return {
    version: "caisson/report/v1",
    verdict: accepted ? "accepted" : answers.undetermined ? "undetermined" : "rejected",
    scope,
    at: now.toISOString(),
    codes,
    ...(platform === undefined ? {} : { platform }),
    ...(reference === undefined ? {} : { reference }),
    ...(release === undefined ? {} : { release: releaseSummary(release) }),
    checks: list.map((check) => ofVendor(check, asked[0])),
  };
}

/** Of documents of several vendors those that are about this one's evidence, which its first check names. */
function ofVendor(check: Check, first: CheckId | undefined): Check {
  if (!check.source.includes("; ")) return check;
  const parts = check.source.split("; ");
  const own = first === "snp/format" ? "AMD" : first === "nitro/format" ? "AWS" : "Intel";
  const about = parts.filter((part) => !/^(?:Intel|AMD|AWS)\b/.test(part) || part.startsWith(own));
  return about.length === 0 ? check : { ...check, source: about.join("; ") };
}

function releaseSummary({ release: { hash, predicate } }: AcceptedRelease): NonNullable<Report["release"]> {
  const { app, release: number, expires } = predicate;
  return { app, number, hash, expires: new Date(expires).toISOString() };
}

export function summary({ quote, pck, tcb, trust, validUntil }: Genuine): IntelSummary {
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
