// SPDX-License-Identifier: Apache-2.0
/**
 * One release: use the nonce up, judge the evidence, derive, seal, log, sign. The first step that says no ends it.
 *
 * Invariants: whose keys these are is read from events that replay to RTMR3 of a genuine quote, never from the
 * request; what the quote must bind is computed from what this KMS issued and received; no answer with keys leaves
 * before its log entry is on disk; derived keys are overwritten once they are sealed. A denial has an entry where a
 * genuine machine answered this nonce with its log, and then not more often than the budget allows: what costs its
 * sender nothing leaves nothing that stays.
 */

import { createHash } from "node:crypto";
import { deriveReleasedKey } from "@caisson/protocol/derivation";
import type { IdentityKey } from "@caisson/protocol/ed25519";
import { seal } from "@caisson/protocol/hpke";
import { ID_SIZE } from "@caisson/protocol/identity";
import {
  type Answer,
  answerTranscript,
  type Denied,
  type Exchange,
  keyReleaseVersion,
  type Released,
  type ReleaseRequest,
  sealContext,
} from "@caisson/protocol/key-release";
import {
  type Check,
  type CheckId,
  type ErrorCode,
  type Evidence,
  type Report,
  type ReportDataClaim,
  readEvidenceDocument,
  trustAnchorFor,
  VerifyError,
  verifyEvidence,
} from "@caisson/verify";
import { parseQuote } from "@caisson/verify/quote";
import { messageOf } from "@caisson/vocabulary/failure";
import type { CollateralCache } from "./collateral-cache.ts";
import type { NonceCode, Nonces } from "./nonces.ts";
import type { AppPolicy, Policies } from "./policies.ts";
import type { Bucket } from "./rate-limit.ts";
import type { UsedNonce } from "./store/backend.ts";
import type { LogEntry } from "./store/entries.ts";
import type { Store } from "./store/store.ts";

/** Why keys are denied: what verification found, or what the KMS itself demands. Closed. */
export type DenialCode =
  | ErrorCode
  | NonceCode
  | "app/not-stated"
  | "app/mismatch"
  | "app/unknown"
  | "request/ephemeral-key"
  | "log/unavailable";

/** Everything that one release needs, and nothing of HTTP. */
export interface ReleaseContext {
  secret: Uint8Array;
  identity: IdentityKey;
  policies: Policies;
  collateral: CollateralCache;
  store: Pick<Store, "commit">;
  /** How many denials the log takes. */
  denials: Bucket;
  nonces: Nonces;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** One request, and what came of it. */
export interface Outcome {
  answer: Answer;
  entry: LogEntry;
  /** Whether the entry is in the release log. */
  logged: boolean;
}

class Denial extends Error {
  readonly code: DenialCode;
  constructor(code: DenialCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** The signed answer to one request, and what there is to log about it. Never throws for what a guest can cause. */
export async function releaseKeys(context: ReleaseContext, request: ReleaseRequest): Promise<Outcome> {
  const time = context.now();
  const exchange: Exchange = {
    nonce: Uint8Array.fromHex(request.nonce),
    identityKey: context.identity.publicKey,
    ephemeralKey: Uint8Array.fromHex(request.ephemeralKey),
  };
  const none = new Uint8Array();
  const entry: LogEntry = {
    time,
    app: none,
    instance: none,
    registers: none,
    policy: none,
    outcome: "denied",
    reason: "",
  };
  const issued = context.nonces.use(exchange.nonce, time);
  const decision: Decision =
    typeof issued === "number"
      ? await decide(context, exchange, request.evidence, entry)
      : { answer: denied(new Denial(issued, nonceFaults[issued]), time), attested: false };
  const { answer, logged } = await record(context, entry, decision, {
    nonce: exchange.nonce,
    issued: Number(issued),
  });
  const signature = context.identity.sign(answerTranscript(exchange, answer)).toHex();
  return { answer: { ...answer, signature }, entry, logged };
}

type Unsigned = Omit<Released, "signature"> | Omit<Denied, "signature">;

interface Decision {
  answer: Unsigned;
  /** Whether a genuine machine answered this nonce, with the log that it measured. */
  attested: boolean;
}

function denied(error: unknown, time: number): Omit<Denied, "signature"> {
  if (!(error instanceof Denial || error instanceof VerifyError)) throw error;
  const message = error.message.slice(0, 1000);
  return { version: keyReleaseVersion, outcome: "denied", time, code: error.code, message };
}

const nonceFaults: Record<NonceCode, string> = {
  "nonce/unknown": "this KMS did not issue this nonce",
  "nonce/expired": "the nonce is older than 60 seconds",
  "nonce/used": "the nonce was used before",
  "nonce/busy": "too many nonces were issued since this one",
};

/** Sealed keys, or a denial; fills in what the entry says about the machine. */
async function decide(
  context: ReleaseContext,
  exchange: Exchange,
  evidence: unknown,
  entry: LogEntry,
): Promise<Decision> {
  const decision = { attested: false };
  try {
    const policy = await judge(context, exchange, evidence, entry, decision);
    return { ...decision, answer: sealKeys(context, exchange, policy, entry) };
  } catch (error) {
    return { ...decision, answer: denied(error, entry.time) };
  }
}

/** The answer, once it is in the log where it belongs there; a denial where it cannot be written. */
async function record(
  { store, denials }: ReleaseContext,
  entry: LogEntry,
  { answer, attested }: Decision,
  nonce: UsedNonce,
): Promise<{ answer: Unsigned; logged: boolean }> {
  entry.outcome = answer.outcome;
  if (answer.outcome === "denied") {
    entry.reason = answer.code;
    if (!attested || !denials.has(entry.time)) return { answer, logged: false };
    denials.take();
  }
  try {
    if ((await store.commit({ entry, nonce })) === "done") return { answer, logged: true };
    // Another replica took it meanwhile.
    return {
      answer: denied(new Denial("nonce/used", nonceFaults["nonce/used"]), entry.time),
      logged: false,
    };
  } catch (error) {
    const message = `the release log cannot be written: ${messageOf(error)}`;
    return { answer: denied(new Denial("log/unavailable", message), entry.time), logged: false };
  }
}

/**
 * Is it genuine, and acceptable under the policy of the application that it says it is? Returns that policy; fills in
 * what the entry says, and whether the machine is known to be one. Throws Denial or VerifyError.
 */
async function judge(
  context: ReleaseContext,
  { nonce, identityKey, ephemeralKey }: Exchange,
  document: unknown,
  entry: LogEntry,
  decision: { attested: boolean },
): Promise<AppPolicy> {
  // What the guest says its report data means is not asked: only one meaning counts here.
  const reportData: ReportDataClaim = {
    scheme: keyReleaseVersion,
    fields: { nonce, kmsIdentityKey: identityKey, ephemeralKey },
  };
  const evidence: Evidence = { ...readEvidenceDocument(document), reportData };
  entry.registers = registersDigest(evidence);
  entry.app = payloadOf(evidence, "app-id", ID_SIZE);
  entry.instance = payloadOf(evidence, "instance-id", ID_SIZE);
  if (payloadOf(evidence, "compose-hash", 32).subarray(0, ID_SIZE).toHex() !== entry.app.toHex()) {
    throw new Denial("app/mismatch", "the app id is not the beginning of the compose hash");
  }
  const policy = context.policies.get(entry.app.toHex());
  if (policy === undefined) {
    throw new Denial("app/unknown", `this KMS has no policy for app ${entry.app.toHex()}`);
  }
  entry.policy = policy.digest;

  const now = new Date(entry.time);
  const trust = trustAnchorFor(evidence.platform, policy.policy);
  const collateral = trust && (await context.collateral.find(evidence, trust, now));
  const report = await verifyEvidence(evidence, {
    policy: policy.policy,
    references: policy.references,
    now,
    expectedReportData: reportData,
    ...(collateral !== undefined && { collateral }),
  });
  decision.attested =
    report.platform !== undefined && attesting.every((id) => outcomeOf(report, id) === "pass");
  if (report.verdict !== "accepted") {
    const failed = report.checks.filter(({ outcome }) => outcome === "fail");
    const [first] = failed;
    throw new Denial(first!.code!, failed.map(explain).join("; "));
  }
  entry.reason = report.reference ?? "";
  return policy;
}

/** The quote answers our nonce, and the log is the one that was measured. */
const attesting = ["report-data/preimage", "report-data/expected", "events/runtime-replay"] as const;

const outcomeOf = ({ checks }: Report, id: CheckId) => checks.find((check) => check.id === id)?.outcome;

/** One failed check in words. */
function explain({ code, reason, expected, actual }: Check): string {
  return `${code}: ${reason ?? `expected ${expected ?? "otherwise"}, found ${actual ?? "nothing"}`}`;
}

/** Payload of the event of this name. That there is one, in its place and measured, is checked with the policy. */
function payloadOf({ runtimeEvents = [] }: Evidence, name: string, size: number): Uint8Array {
  const payload = runtimeEvents.find((event) => event.name === name)?.payload;
  if (payload?.length === size) return payload;
  throw new Denial("app/not-stated", `the log has no event ${name} with a payload of ${size} bytes`);
}

/** SHA-256 of MRTD ‖ RTMR0–3 as the quote states them. */
function registersDigest({ quote }: Evidence): Uint8Array {
  const { body } = parseQuote(quote);
  if (body.tee !== "tdx") return new Uint8Array();
  const hash = createHash("sha256").update(body.report.mrTd);
  for (const rtmr of body.report.rtmrs) hash.update(rtmr);
  return hash.digest();
}

function sealKeys(
  { secret }: ReleaseContext,
  exchange: Exchange,
  { keyVersion }: AppPolicy,
  { time, app, instance }: LogEntry,
): Omit<Released, "signature"> {
  const version = keyVersion;
  const shared = deriveReleasedKey(secret, {
    app,
    instance: new Uint8Array(),
    purpose: "application",
    version,
  });
  const own = deriveReleasedKey(secret, { app, instance, purpose: "instance", version });
  const keys = Buffer.concat([shared, own]);
  const about = { time, app: app.toHex(), instance: instance.toHex(), keyVersion };
  try {
    const { enc, ciphertext } = seal(exchange.ephemeralKey, keys, sealContext(exchange, about));
    const sealed = { enc: enc.toHex(), ciphertext: ciphertext.toHex() };
    return { version: keyReleaseVersion, outcome: "released", ...about, sealed };
  } catch {
    throw new Denial("request/ephemeral-key", "the ephemeral key is not a usable X25519 key");
  } finally {
    for (const key of [shared, own, keys]) key.fill(0);
  }
}
