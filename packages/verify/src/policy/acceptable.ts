// SPDX-License-Identifier: Apache-2.0
/**
 * Is it what I want? What a genuine quote and its evidence say, against one policy.
 *
 * Every rule gives exactly one answer: pass, fail, or not checked because the policy says `any`. No rule is skipped
 * because another failed, so that a report shows everything that is wrong at once; only what rests on a log that
 * proves nothing stays unanswered.
 */
import type { AcceptedRelease } from "@caisson/releases";
import { fromHex, isZero, toHex } from "@caisson/vocabulary/bytes";
import type { Platform } from "@caisson/vocabulary/platforms";
import { acceptableChecks, type CheckId } from "../errors.ts";
import type { AnyEvidence, Evidence } from "../evidence/evidence.ts";
import type { GenuineHcl } from "../evidence/hcl.ts";
import type { Genuine } from "../intel/genuine.ts";
import type { PckExtension } from "../intel/pck.ts";
import type { TdReport } from "../intel/quote.ts";
import { type Advice, adviceLines } from "../intel/tcb-advice.ts";
import { trustAnchorFor } from "../platform.ts";
import type { Answers } from "../report.ts";
import { checkBootLog } from "./boot-log.ts";
import { checkEnclave } from "./enclave-rules.ts";
import {
  checkApplication,
  checkKeyProvider,
  checkRuntimeEvents,
  checkSecureTime,
  checkVolumes,
} from "./event-rules.ts";
import { checkOneOf } from "./one-of.ts";
import { checkPcrs } from "./pcr-rules.ts";
import { acceptedPlatforms, type Policy } from "./policy.ts";
import { imageRegisters, type Reference } from "./reference.ts";
import { checkRegisters } from "./registers.ts";
import { checkReportData, type ExpectedReportData } from "./report-data-rules.ts";

/** What is asked about the release of a measured image. */
export interface ReleaseQuestion {
  rules: NonNullable<NonNullable<Policy["app"]>["identity"]>;
  /** The bundle in the evidence, as parsed JSON. */
  bundle: unknown;
  platform: Platform;
  /** The quote's registers by name, and the measured compose hash; hex. */
  registers: Readonly<Record<string, string>>;
  description: string;
  /** Milliseconds since 1970. */
  now: number;
}

/** Judges it (`@caisson/verify/releases`). Throws a Failure with one of the codes of `app/…`. */
export type ReleaseJudge = (question: ReleaseQuestion) => Promise<AcceptedRelease>;

/** What a policy is evaluated with. */
export interface Circumstances {
  policy: Policy;
  /** Beside those that the policy itself lists. */
  references: readonly Reference[];
  now: Date;
  expectedReportData?: ExpectedReportData;
  /** Needed by policies that name an identity. */
  releases?: ReleaseJudge;
}

const enclaveChecks: readonly CheckId[] = ["sgx/debug", "sgx/enclave", "sgx/signer"];
const releaseChecks: readonly CheckId[] = ["app/identity", "app/release", "app/log", "app/rebuilds"];
/** What is asked of either kind of TEE. */
const commonPrefixes = ["policy/", "report-data/"];

/**
 * Those that a policy asks: a TD's, an enclave's, a SEV-SNP guest's or Nitro's; RTMR3 as a register only where it has
 * no events, PCRs only where the policy or the evidence has some.
 */
export function askedChecks(
  { sgx, snp, nitro, runtimeEvents, pcrs, app, volumes }: Policy,
  { hcl }: Pick<AnyEvidence, "hcl">,
): CheckId[] {
  const ofKind = (id: CheckId, kind: string) => id === "policy/platform" || id.startsWith(`${kind}/`);
  const common = (id: CheckId) => commonPrefixes.some((prefix) => id.startsWith(prefix));
  return (Object.keys(acceptableChecks) as CheckId[]).filter((id) => {
    if (releaseChecks.includes(id)) return app?.identity !== undefined;
    if (id === "app/provenance") return app?.identity?.provenance !== undefined;
    if (id === "app/volumes") return volumes !== undefined;
    if (id === "hcl/pcrs") return pcrs !== undefined || hcl !== undefined;
    if (nitro !== undefined) return ofKind(id, "nitro") || id === "report-data/expected";
    if (id.startsWith("nitro/")) return false;
    if (snp !== undefined) return ofKind(id, "snp") || id.startsWith("report-data/");
    if (sgx !== undefined) return common(id) || enclaveChecks.includes(id);
    if (enclaveChecks.includes(id) || id.startsWith("snp/")) return false;
    return id !== "registers/rtmr3" || runtimeEvents === "none";
  });
}

const kindsOfTee = {
  tdx: "a TDX quote",
  sgx: "an SGX quote",
  snp: "a SEV-SNP report",
  nitro: "a document of AWS Nitro",
};

/** Whether the policy is one for this kind of TEE. */
export function checkTee(actual: keyof typeof kindsOfTee, policy: Policy, answers: Answers): boolean {
  const wanted = (["snp", "nitro", "sgx"] as const).find((kind) => policy[kind] !== undefined) ?? "tdx";
  const facts = { expected: kindsOfTee[wanted], actual: kindsOfTee[actual] };
  if (actual !== wanted) answers.fail("policy/tee", facts);
  else if (actual === "snp" || actual === "nitro") answers.pass("policy/platform", facts);
  return actual === wanted;
}

/** A quote, and what vouches for it says of it; without collateral only what the quote itself says is asked about. */
export type Judged = Pick<Genuine, "quote"> & Partial<Genuine>;

/** Asks every question of the policy and records the answers; returns the release that one of them accepted. */
export async function evaluatePolicy(
  genuine: Judged,
  evidence: Evidence,
  circumstances: Circumstances,
  answers: Answers,
  hcl?: GenuineHcl,
): Promise<AcceptedRelease | undefined> {
  const { policy, references, now } = circumstances;
  checkPolicyPlatform(evidence, policy, answers);
  const { body } = genuine.quote;
  if (!checkTee(body.tee, policy, answers)) return undefined;
  if (genuine.tcb !== undefined) checkTcb(genuine as Genuine, policy, answers);
  if (genuine.pck !== undefined) checkPlatformIdentity(genuine.pck, policy, answers);
  if (body.tee === "sgx") {
    checkEnclave(body.report, policy, answers);
    await checkReportData(evidence, body.report.reportData, undefined, circumstances, answers);
    return undefined;
  }
  checkTdFields(body.report, policy, genuine.adviseTee, answers);
  const rtmr0Events = await checkBootLog(evidence, body.report, policy, answers);
  checkRegisters(body.report, rtmr0Events, evidence.platform, policy, references, answers);
  let accepted: AcceptedRelease | undefined;
  if (policy.runtimeEvents === "none") checkNoEvents(body.report, policy, now, answers);
  else {
    const payloads = await checkRuntimeEvents(evidence.runtimeEvents ?? [], body.report, policy, answers);
    if (payloads !== undefined) {
      checkPayloads(payloads, policy, now, answers);
      accepted = await checkRelease(evidence, body.report, payloads, circumstances, answers);
    }
  }
  checkPcrs(hcl, policy, answers);
  await checkReportData(evidence, body.report.reportData, hcl, circumstances, answers);
  return accepted;
}

/** The release of the measured image; it then stands for the references of the registers that the image determines. */
async function checkRelease(
  evidence: Evidence,
  td: TdReport,
  payloads: ReadonlyMap<string, Uint8Array>,
  { policy, releases, now }: Circumstances,
  answers: Answers,
): Promise<AcceptedRelease | undefined> {
  const rules = policy.app?.identity;
  if (rules === undefined) return undefined;
  if (evidence.release === undefined || releases === undefined) {
    const reason =
      releases === undefined ? "this verifier judges no releases" : "the evidence carries no release";
    answers.fail("release/missing", { expected: "a caisson/bundle/v1", reason });
    return undefined;
  }
  const registers = { mrtd: toHex(td.mrTd), rtmr1: toHex(td.rtmrs[1]), rtmr2: toHex(td.rtmrs[2]) };
  const description = toHex(payloads.get("compose-hash") ?? new Uint8Array());
  const question = { rules, bundle: evidence.release, platform: evidence.platform, registers, description };
  try {
    const accepted = await releases({ ...question, now: now.getTime() });
    const { release, generation, app } = accepted.release.predicate;
    answers.pass("app/identity", { actual: `${app}, generation ${generation}` });
    answers.pass("app/release", { actual: `release ${release}, ${accepted.release.hash}` });
    answers.pass("app/log");
    answers.pass("app/rebuilds");
    if (rules.provenance !== undefined) {
      answers.pass("app/provenance", { actual: rules.provenance.workflow });
    }
    answers.pass("app/compose-hash", { actual: description });
    for (const name of imageRegisters) answers.pass(`registers/${name}`, { actual: registers[name] });
    return accepted;
  } catch (error) {
    answers.failFrom(error);
    return undefined;
  }
}

function checkPayloads(
  payloads: ReadonlyMap<string, Uint8Array>,
  policy: Policy,
  now: Date,
  answers: Answers,
): void {
  checkApplication(payloads, policy, answers);
  checkVolumes(payloads, policy, answers);
  checkSecureTime(payloads, policy, now, answers);
  checkKeyProvider(payloads, policy, answers);
}

/** RTMR3 as a register. What events would say is open, but a rule that names values cannot hold. */
function checkNoEvents(td: TdReport, policy: Policy, now: Date, answers: Answers): void {
  const rtmr3 = policy.registers?.rtmr3 ?? [zero48];
  checkOneOf("registers/rtmr3", "registers/rtmr3", toHex(td.rtmrs[3]), rtmr3, answers);
  for (const id of ["events/runtime-replay", "events/sequence", "events/boundary"] as const) {
    answers.notChecked(id, "the policy expects no runtime events");
  }
  const { app, secureTime = "any", keyProviders = "any" } = policy;
  const open = { id: "any", composeHash: "any", instanceId: "any" } as const;
  checkPayloads(new Map(), { ...policy, app: { ...open, ...app }, secureTime, keyProviders }, now, answers);
}

/** Whether the policy accepts this kind of platform at all; development evidence is refused by name. */
export function checkPolicyPlatform({ platform }: Evidence, policy: Policy, answers: Answers): void {
  const accepted = acceptedPlatforms(policy);
  const facts = { expected: accepted.join(" or "), actual: platform };
  if (!accepted.includes(platform)) answers.fail("policy/platform", facts);
  else if (trustAnchorFor(platform, policy) === undefined) answers.fail("policy/simulated-root");
  else answers.pass("policy/platform", facts);
}

/** What would help, for people. */
const helps = (advice: Advice): string =>
  adviceLines(advice).join("; ") ||
  "Intel lists nothing that this platform lacks: software has to mitigate it";

function checkTcb({ tcb, advise }: Genuine, policy: Policy, answers: Answers): void {
  const statuses = policy.tcb?.statuses ?? ["UpToDate"];
  const status = { expected: statuses.join(" or "), actual: tcb.status };
  if (statuses.includes(tcb.status)) answers.pass("policy/tcb-status", status);
  else answers.fail("policy/tcb-status", { ...status, reason: helps(advise(statuses)) });

  const accepted = policy.tcb?.advisories ?? [];
  const actual = tcb.advisories.join(", ") || "none";
  if (accepted === "any")
    answers.notChecked("policy/advisories", "the policy leaves tcb.advisories open", { actual });
  else if (tcb.advisories.every((id) => accepted.includes(id))) answers.pass("policy/advisories", { actual });
  else {
    const expected = `none but ${accepted.join(", ") || "none"}`;
    answers.fail("policy/advisories", { expected, actual, reason: helps(advise(["UpToDate"])) });
  }

  const minimum = policy.tcb?.minimumEvaluationNumber;
  const number = { expected: `at least ${minimum ?? "?"}`, actual: `${tcb.evaluationDataNumber}` };
  if (minimum === undefined) answers.fail("policy/tcb-evaluation-not-stated", number);
  else if (minimum === "any") {
    answers.notChecked("policy/tcb-evaluation", "the policy leaves tcb.minimumEvaluationNumber open", {
      actual: number.actual,
    });
  } else if (tcb.evaluationDataNumber >= minimum) answers.pass("policy/tcb-evaluation", number);
  else {
    const reason = "the collateral is of an older set: fetch it anew (a PCCS may keep an old one for weeks)";
    answers.fail("policy/tcb-evaluation", { ...number, reason });
  }
}

function checkPlatformIdentity(pck: PckExtension, policy: Policy, answers: Answers): void {
  const identities = policy.platformIdentities;
  if (identities === undefined) {
    answers.fail("policy/platform-identity-not-stated", {
      expected: 'platformIdentities: a list, or "any"',
      actual: pck.ppid,
    });
  } else {
    checkOneOf("policy/platform-identity", "policy/platform-identity", pck.ppid, identities, answers);
  }
  const { platformInstances: instances } = policy;
  const piid = pck.piid ?? "none in the certificate";
  if (instances === undefined) {
    answers.notChecked("policy/platform-instance", "the policy names no instances of platforms", {
      actual: piid,
    });
  } else checkOneOf("policy/platform-instance", "policy/platform-instance", piid, instances, answers);
  if (policy.fmspcs === undefined) {
    answers.notChecked("policy/fmspc", "the policy names no kinds of platform", { actual: pck.fmspc });
  } else checkOneOf("policy/fmspc", "policy/fmspc", pck.fmspc, policy.fmspcs, answers);
}

const zeroRegister = new Uint8Array(48);
const zero48 = "00".repeat(48);

/** TD attributes that the TDX module defines (TDX Module ABI 348551-008, table 3.23): 0–7 TUD, 16, 17, 27–31, 62, 63. */
const knownAttributes = 0xc0000000_f80300ffn;
/** Bits of XFAM that must be set, and that may be (x87 and SSE; all that a TD can be given). */
const xfamFixed = 0x3n;
const xfamKnown = 0x6dbe7n;

const littleEndian = (bytes: Uint8Array): bigint =>
  bytes.reduceRight((n, byte) => (n << 8n) | BigInt(byte), 0n);

function checkTdFields(td: TdReport, policy: Policy, adviseTee: Judged["adviseTee"], answers: Answers): void {
  const rules = policy.td ?? {};
  const attributes = { expected: "the debug byte zero", actual: toHex(td.tdAttributes) };
  if (td.tdAttributes[0] === 0) answers.pass("td/debug", attributes);
  else answers.fail("td/debug", attributes);
  if ((littleEndian(td.tdAttributes) & ~knownAttributes) !== 0n) {
    answers.fail("td/attributes", { expected: "no reserved bits", actual: toHex(td.tdAttributes) });
  } else {
    const accepted = rules.attributes ?? ["0000001000000000"];
    checkOneOf("td/attributes", "td/attributes", toHex(td.tdAttributes), accepted, answers);
    // No policy can name values for these yet, so there may be none.
    const { vmId = 0, deviceInfo = zeroRegister } = td.extended ?? {};
    if (vmId !== 0 || !isZero(deviceInfo)) {
      answers.fail("td/attributes", {
        expected: "a report of the TD itself, without devices of its own",
        actual: `VM ${vmId}, device information ${toHex(deviceInfo)}`,
      });
    }
  }

  const xfam = littleEndian(td.xfam);
  if ((xfam & xfamFixed) !== xfamFixed || (xfam & ~xfamKnown) !== 0n) {
    answers.fail("td/xfam", { expected: "bits 0 and 1 set, none reserved", actual: toHex(td.xfam) });
  } else if (rules.xfam === undefined) answers.pass("td/xfam", { actual: toHex(td.xfam) });
  else checkOneOf("td/xfam", "td/xfam", toHex(td.xfam), rules.xfam, answers);

  checkModule(td, rules, adviseTee, answers);

  const serviceTd = rules.mrServiceTd ?? [zero48];
  if (td.mrServiceTd !== undefined) {
    checkOneOf("td/mr-service-td", "td/mr-service-td", toHex(td.mrServiceTd), serviceTd, answers);
    // MRSERVICETD is of the TD's creation; what is bound since counts as much.
    const current = td.extended && toHex(td.extended.currentServiceTd);
    if (current !== undefined && current !== zero48) {
      checkOneOf("td/mr-service-td", "td/mr-service-td", current, serviceTd, answers);
    }
  } else if (serviceTd === "any") {
    answers.notChecked(
      "td/mr-service-td",
      "a TD 1.0 report does not carry it, and the policy leaves it open",
    );
  } else {
    answers.fail("td/mr-service-td-unknown", {
      expected: serviceTd.join(" or "),
      reason: 'a TD 1.0 report does not carry it; td.mrServiceTd: "any" accepts that',
    });
  }
  checkOneOf(
    "td/mr-config-id",
    "td/mr-config-id",
    toHex(td.mrConfigId),
    rules.mrConfigId ?? [zero48],
    answers,
  );
  checkOneOf("td/mr-owner", "td/mr-owner", toHex(td.mrOwner), rules.mrOwner ?? [zero48], answers);
  const ownerConfig = rules.mrOwnerConfig ?? [zero48];
  checkOneOf("td/mr-owner-config", "td/mr-owner-config", toHex(td.mrOwnerConfig), ownerConfig, answers);
}

function checkModule(
  td: TdReport,
  rules: NonNullable<Policy["td"]>,
  adviseTee: Judged["adviseTee"],
  answers: Answers,
): void {
  const { mrSeam, mrSignerSeam, minimumTeeTcbSvn } = rules;
  const signer = toHex(td.mrSignerSeam);
  const least = fromHex(minimumTeeTcbSvn ?? "")!;
  if (mrSignerSeam !== undefined && !mrSignerSeam.includes(signer)) {
    answers.fail("td/mr-signer-seam", { expected: mrSignerSeam.join(" or "), actual: signer });
  } else if (least.some((svn, i) => td.teeTcbSvn[i]! < svn)) {
    answers.fail("td/tee-tcb-svn", {
      expected: `each component at least ${minimumTeeTcbSvn}`,
      actual: toHex(td.teeTcbSvn),
      ...(adviseTee && { reason: adviseTee(least).join("; ") }),
    });
  } else if (mrSeam !== undefined) {
    checkOneOf("td/mr-seam", "td/mr-seam", toHex(td.mrSeam), mrSeam, answers);
  } else if (mrSignerSeam !== undefined || minimumTeeTcbSvn !== undefined) {
    answers.pass("td/mr-seam", { actual: `signer ${signer}, TEE_TCB_SVN ${toHex(td.teeTcbSvn)}` });
  } else {
    answers.notChecked("td/mr-seam", "the TCB info judges the TDX module", { actual: toHex(td.mrSeam) });
  }
}
