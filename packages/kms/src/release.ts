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

import { deriveReleasedKey } from "@caisson/protocol/derivation";
import type { IdentityKey } from "@caisson/protocol/ed25519";
import { type GuestConfig, secretNames } from "@caisson/protocol/guest-config";
import { seal } from "@caisson/protocol/hpke";
import { ID_SIZE, IDENTITY_SIZE } from "@caisson/protocol/identity";
import {
  type Answer,
  answerTranscript,
  type Denied,
  type Exchange,
  keyReleaseVersion,
  type Released,
  type ReleaseRequest,
  type Signed,
  sealContext,
} from "@caisson/protocol/key-release";
import { readVolumesPayload } from "@caisson/protocol/volumes";
import {
  type AcceptedRelease,
  type ReleaseCode,
  ReleaseError,
  readBundle,
  type Secrets,
} from "@caisson/releases";
import type { ProvenanceJudge } from "@caisson/releases/provenance";
import {
  type Check,
  type CheckId,
  type ErrorCode,
  type Evidence,
  type Genuine,
  judgeEvidence,
  type Report,
  type ReportDataClaim,
  readEvidenceDocument,
  type Signatures,
  trustAnchorFor,
  VerifyError,
} from "@caisson/verify";
import { releaseJudge } from "@caisson/verify/releases";
import { hash } from "@caisson/vocabulary/hash";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { type Applications, type KnownApplication, learn } from "./applications.ts";
import type { CollateralCache } from "./collateral-cache.ts";
import type { Newcomers } from "./newcomers.ts";
import type { NonceCode, Nonces } from "./nonces.ts";
import type { AppPolicy, Policies } from "./policy-set.ts";
import type { Bucket } from "./rate-limit.ts";
import { type RootCode, type Roots, rootFaults } from "./roots.ts";
import { acceptSecrets, resealSecrets } from "./secrets.ts";
import type { Signer } from "./signer.ts";
import type { UsedNonce } from "./store/backend.ts";
import type { LogEntry } from "./store/entries.ts";
import type { Committed, RowChange, Store } from "./store/store.ts";
import type { Opened, VolumeBook } from "./volumes/book.ts";
import type { VolumeDenialCode } from "./volumes/rules.ts";

/** Why keys are denied: what verification found, or what the KMS itself demands. Closed. */
export type DenialCode =
  | ErrorCode
  | ReleaseCode
  | NonceCode
  | "app/not-stated"
  | "app/mismatch"
  | "app/unknown"
  | VolumeDenialCode
  | "request/ephemeral-key"
  | RootCode
  | "policy/changed"
  | "log/unavailable";

/** Everything that one release needs, and nothing of HTTP. */
export interface ReleaseContext {
  roots: Pick<Roots, "at">;
  identity: IdentityKey;
  signer: Pick<Signer, "sign">;
  policies: Policies;
  /** The policies in force now, where they can be replaced while a release is judged. Default: the same. */
  current?: () => Policies;
  collateral: CollateralCache;
  platforms: Signatures;
  store: Pick<Store, "commit">;
  /** What must still be so when keys leave: the policies under which they were judged. */
  guard?: RowChange;
  /** How many denials the log takes. */
  denials: Bucket;
  nonces: Nonces;
  volumes: Pick<VolumeBook, "open">;
  applications: Applications;
  /** Whether an application without a policy has had one since (newcomers.ts). Default: none. */
  newcomers?: Pick<Newcomers, "has">;
  /** Judges who built an image, where policies ask for that. Default: nobody does, and they are refused. */
  provenance?: ProvenanceJudge;
  /** Milliseconds since 1970. */
  now: () => number;
  /** Milliseconds of a clock that nobody sets. */
  elapsed: () => number;
}

/** One request, and what came of it. */
export interface ReleaseOutcome {
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
export async function releaseKeys(context: ReleaseContext, request: ReleaseRequest): Promise<ReleaseOutcome> {
  const time = context.now();
  const exchange: Exchange = {
    nonce: Buffer.from(request.nonce, "hex"),
    identityKey: context.identity.publicKey,
    ephemeralKey: Buffer.from(request.ephemeralKey, "hex"),
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
      ? await decide(context, exchange, issued, request, entry)
      : { answer: denied(new Denial(issued, nonceFaults[issued]), time), attested: false };
  const { answer, logged } = await record(context, entry, decision, {
    nonce: exchange.nonce,
    issued: Number(issued),
  });
  const signed = await context.signer.sign(answerTranscript(exchange, answer));
  return { answer: { ...answer, ...signed }, entry, logged };
}

type Unsigned = Omit<Released, keyof Signed> | Omit<Denied, keyof Signed>;

interface Decision {
  answer: Unsigned;
  /** Whether a genuine machine answered this nonce, with the log that it measured. */
  attested: boolean;
  /** What is known of the application from now on; `again` judges by what another replica wrote meanwhile. */
  known?: { row: RowChange; again: () => Promise<RowChange> };
}

/** Evidence that was accepted: under which policy, and the release that its owners signed where that asks for one. */
interface Judged {
  policy: AppPolicy;
  release: AcceptedRelease | undefined;
  /** What is known of an application that has an identity. */
  application: KnownApplication | undefined;
  evidence: Evidence;
}

/** What the owners gave beside the release, and what is known once keys leave. Throws ReleaseError. */
async function judgeOwners(
  { identity }: ReleaseContext,
  { policy, release, evidence, application }: Judged,
  request: ReleaseRequest,
  entry: LogEntry,
): Promise<{ secrets?: Secrets; row: RowChange }> {
  const accepted = release!;
  const { release: number } = accepted.release.predicate;
  entry.reason = `release ${number} ${accepted.release.hash}`;
  const { known } = application!;
  const names = declaredSecrets(evidence);
  if (names.length === 0) return { row: learn(application!, { floor: accepted.floor }) };
  const secrets = await acceptSecrets(request.secrets, {
    accepted,
    known,
    names,
    kms: identity.publicKey.toHex(),
    keyVersion: policy.keyVersion,
    now: entry.time,
  });
  const given = `, secrets ${secrets.document.number} ${secrets.hash}: ${names.join(" ")}`;
  entry.reason = (entry.reason + given).slice(0, 1000);
  const newest = { number: secrets.document.number, hash: secrets.hash };
  return { secrets, row: learn(application!, { floor: accepted.floor, secrets: newest }) };
}

/** The secrets that the released description declares: its manifest is what owners signed and the quote measured. */
function declaredSecrets({ release }: Evidence): string[] {
  const { manifest } = readBundle(release);
  const { guest } = JSON.parse(new TextDecoder().decode(manifest)) as { guest: Pick<GuestConfig, "app"> };
  return secretNames(guest.app);
}

function denied(error: unknown, time: number): Omit<Denied, keyof Signed> {
  if (!(error instanceof Denial || error instanceof VerifyError || error instanceof ReleaseError))
    throw error;
  const message = error.message.slice(0, 1000);
  return { version: keyReleaseVersion, outcome: "denied", time, code: error.code, message };
}

/** Why an answer that was ready is not given. */
const lost = {
  "nonce/busy": "too many entries were written since this nonce was issued",
  "nonce/used": "the nonce was used before",
  "policy/changed": "the policies were changed while this was judged; ask again",
} as const;

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
  issued: number,
  request: ReleaseRequest,
  entry: LogEntry,
): Promise<Decision> {
  const decision = { attested: false };
  try {
    const judged = await judge(context, exchange, request.evidence, entry, decision);
    const owned = judged.release && (await judgeOwners(context, judged, request, entry));
    const root = rootOf(context, judged.policy, entry);
    const by = { nonce: exchange.nonce, issued };
    const opened = await openAll(context, judged, entry, request.tickets ?? [], by);
    const answer = sealKeys(root, exchange, judged.policy, entry, opened);
    if (owned === undefined) return { ...decision, answer };
    const { secrets, row } = owned;
    if (secrets !== undefined) {
      answer.secrets = resealSecrets(secrets, root, exchange, answer);
    }
    const again = async () => {
      const once = await judge(context, exchange, request.evidence, entry, decision);
      return (await judgeOwners(context, once, request, entry)).row;
    };
    return { ...decision, answer, known: { row, again } };
  } catch (error) {
    return { ...decision, answer: denied(error, entry.time) };
  }
}

/** How often a release is judged anew because another replica wrote what is known of its application. */
const mostTries = 5;

/** Whether keys that a policy gave would be given by the same one now. */
function isInForce(
  { policies, current = () => policies }: ReleaseContext,
  { app, policy }: LogEntry,
): boolean {
  const now = current();
  if (now === policies) return true;
  const other = now.get(app.toHex());
  return other !== undefined && Buffer.compare(other.digest, policy) === 0;
}

/** The answer, once it is in the log where it belongs there; a denial where it cannot be written. */
async function record(
  context: ReleaseContext,
  entry: LogEntry,
  { answer, attested, known }: Decision,
  nonce: UsedNonce,
): Promise<{ answer: Unsigned; logged: boolean }> {
  const { store, denials, guard, elapsed } = context;
  entry.outcome = answer.outcome;
  if (answer.outcome === "denied") {
    entry.reason = answer.code;
    // A copy of a request must not use up the nonce before the one that opened the volumes has its answer.
    const copied = answer.code === "nonce/used";
    if (!attested || copied || !denials.has(elapsed())) return { answer, logged: false };
    denials.take();
  }
  try {
    let row = known?.row;
    let committed: Committed;
    for (let tries = 0; ; tries++) {
      if (answer.outcome === "released" && !isInForce(context, entry)) {
        committed = "conflict";
        break;
      }
      const rows = [row, guard].filter((one) => one !== undefined);
      committed = await store.commit({ entry, nonce, ...(rows.length > 0 && { rows }) });
      if (committed !== "conflict" || known === undefined || tries === mostTries) break;
      row = await known.again();
    }
    if (committed === "done") return { answer, logged: true };
    // Another replica took it meanwhile, or operators changed what it was judged by.
    const code = committed === "conflict" ? "policy/changed" : committed;
    return { answer: denied(new Denial(code, lost[code]), entry.time), logged: false };
  } catch (error) {
    if (error instanceof ReleaseError || error instanceof VerifyError || error instanceof Denial) {
      return { answer: denied(error, entry.time), logged: false };
    }
    const message = `the release log cannot be written: ${reasonOf(error)}`;
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
): Promise<Judged> {
  // What the guest says its report data means is not asked: only one meaning counts here.
  const reportData: ReportDataClaim = {
    scheme: keyReleaseVersion,
    fields: { nonce, kmsIdentityKey: identityKey, ephemeralKey },
  };
  const evidence: Evidence = { ...readEvidenceDocument(document), reportData };
  entry.app = payloadOf(evidence, "app-id", ID_SIZE, IDENTITY_SIZE);
  entry.instance = payloadOf(evidence, "instance-id", ID_SIZE);
  const composeHash = payloadOf(evidence, "compose-hash", 32);
  // An application with an identity has its description from its release.
  if (entry.app.length === ID_SIZE && composeHash.subarray(0, ID_SIZE).toHex() !== entry.app.toHex()) {
    throw new Denial("app/mismatch", "the app id is not the beginning of the compose hash");
  }
  const policy = context.policies.get(entry.app.toHex());
  if (policy === undefined) {
    if (await context.newcomers?.has(entry.app.toHex())) {
      throw new Denial(
        "policy/changed",
        "this application's first policy was signed a moment ago; ask again",
      );
    }
    throw new Denial("app/unknown", `this KMS has no policy for app ${entry.app.toHex()}`);
  }
  entry.policy = policy.digest;

  const { identity: identified } = policy.policy.app ?? {};
  const application = identified && (await context.applications.known(identified.id));
  const now = new Date(entry.time);
  const trust = trustAnchorFor(evidence.platform, policy.policy);
  const collateral = trust && (await context.collateral.find(evidence, trust, now));
  const { report, genuine, release } = await judgeEvidence(evidence, {
    policy: policy.policy,
    references: policy.references,
    now,
    platforms: context.platforms,
    expectedReportData: reportData,
    ...(application !== undefined && {
      releases: releaseJudge(() => application.known, context.provenance),
    }),
    ...(collateral !== undefined && { collateral }),
  });
  if (genuine !== undefined) entry.registers = registersDigest(genuine);
  decision.attested = genuine !== undefined && attesting.every((id) => outcomeOf(report, id) === "pass");
  if (report.verdict !== "accepted") {
    const failed = report.checks.filter(({ outcome }) => outcome === "fail");
    const [first] = failed;
    throw new Denial(first!.code!, failed.map(denialText).join("; "));
  }
  entry.reason = report.reference ?? "";
  return { policy, release, application, evidence };
}

interface MeasuredVolumes {
  names: string[];
  seed: string;
}

/** The volumes that the machine measured, before it asks for anything. */
function measuredVolumes({ runtimeEvents = [] }: Evidence): MeasuredVolumes | undefined {
  const event = runtimeEvents.find(({ name }) => name === "volumes");
  if (event === undefined) return undefined;
  const read = readVolumesPayload(event.payload);
  if (read === undefined) throw new Denial("volume/event", "the event volumes does not say which");
  return read;
}

/** Opens every volume, which fences whoever had it open: once for the request with the nonce `by`. Throws Denial. */
async function openAll(
  { volumes }: ReleaseContext,
  { policy: { volumeOwner }, evidence }: Judged,
  { app }: LogEntry,
  tickets: NonNullable<ReleaseRequest["tickets"]>,
  by: UsedNonce,
): Promise<Opened[]> {
  const measured = measuredVolumes(evidence);
  const opened: Opened[] = [];
  for (const name of measured?.names ?? []) {
    const ticket = tickets.find((one) => one.disk === name)?.ticket;
    const key = { owner: volumeOwner ?? app.toHex(), seed: measured!.seed, name };
    const one = await volumes.open(key, ticket, by);
    if ("code" in one) throw new Denial(one.code, one.message);
    opened.push(one);
  }
  return opened;
}

/** The quote answers our nonce, and the log is the one that was measured. */
const attesting = ["report-data/preimage", "report-data/expected", "events/runtime-replay"] as const;

const outcomeOf = ({ checks }: Report, id: CheckId) => checks.find((check) => check.id === id)?.outcome;

/** One failed check in words. */
function denialText({ code, reason, expected, actual }: Check): string {
  return `${code}: ${reason ?? `expected ${expected ?? "otherwise"}, found ${actual ?? "nothing"}`}`;
}

/** Payload of the event of this name. That there is one, in its place and measured, is checked with the policy. */
function payloadOf({ runtimeEvents = [] }: Evidence, name: string, ...sizes: readonly number[]): Uint8Array {
  const payload = runtimeEvents.find((event) => event.name === name)?.payload;
  if (payload !== undefined && sizes.includes(payload.length)) return payload;
  throw new Denial(
    "app/not-stated",
    `the log has no event ${name} with a payload of ${sizes.join(" or ")} bytes`,
  );
}

/** SHA-256 of MRTD ‖ RTMR0–3 as the quote states them. */
function registersDigest({ quote: { body } }: Genuine): Uint8Array {
  if (body.tee !== "tdx") return new Uint8Array();
  return hash("sha256", Buffer.concat([body.report.mrTd, ...body.report.rtmrs]));
}

/** The root that the policy names. Throws Denial where it is not in force. */
function rootOf({ roots }: ReleaseContext, { root }: AppPolicy, { time }: LogEntry): Uint8Array {
  const found = roots.at(root, time);
  if (typeof found === "string") throw new Denial(found, rootFaults[found]);
  return found;
}

function sealKeys(
  secret: Uint8Array,
  exchange: Exchange,
  { keyVersion }: AppPolicy,
  { time, app, instance }: LogEntry,
  opened: readonly Opened[],
): Omit<Released, keyof Signed> {
  const version = keyVersion;
  const shared = deriveReleasedKey(secret, {
    app,
    instance: new Uint8Array(),
    purpose: "application",
    version,
  });
  const own = deriveReleasedKey(secret, { app, instance, purpose: "instance", version });
  const keys = Buffer.concat([
    shared,
    own,
    ...opened.flatMap(({ secret, anchorKey }) => [secret, anchorKey]),
  ]);
  const about = {
    time,
    app: app.toHex(),
    instance: instance.toHex(),
    keyVersion,
    ...(opened.length > 0 && { volumes: opened.map(({ grant }) => grant) }),
  };
  try {
    const { enc, ciphertext } = seal(exchange.ephemeralKey, keys, sealContext(exchange, about));
    const sealed = { enc: enc.toHex(), ciphertext: ciphertext.toHex() };
    return { version: keyReleaseVersion, outcome: "released", ...about, sealed };
  } catch {
    throw new Denial("request/ephemeral-key", "the ephemeral key is not a usable X25519 key");
  } finally {
    for (const key of [shared, own, keys]) key.fill(0);
    for (const { secret: one, anchorKey } of opened) for (const key of [one, anchorKey]) key.fill(0);
  }
}
