// SPDX-License-Identifier: Apache-2.0
/**
 * Does this connection end in a guest that I accept? What the front of a guest serves at `/.well-known/caisson/evidence`
 * is evidence of scheme `caisson/channel/v1` and the way from the client's nonce to the root that the quote binds, since
 * one quote answers every client that asked while the last one was made.
 *
 * Invariants: keys count only when the evidence is accepted and this nonce is in it; the key of a TLS connection is the
 * one that the caller saw, never one that the evidence names.
 */
import { equal, fromHex, toHex } from "@caisson/vocabulary/bytes";
import { channelNonceLimit, hpkeKeyOf, sessionEntry } from "@caisson/vocabulary/channel";
import { parseJson } from "@caisson/vocabulary/json";
import { limits } from "@caisson/vocabulary/limits";
import { leafHash, verifyInclusion } from "@caisson/vocabulary/merkle";
import { hex, integer, list, object, oneOf, type Schema } from "@caisson/vocabulary/schema";
import { type CheckId, channelChecks, VerifyError } from "./errors.ts";
import type { Evidence } from "./evidence/evidence.ts";
import { readEvidenceDocument } from "./evidence/formats/caisson.ts";
import { readPart } from "./evidence/formats/fields.ts";
import { type Judgement, judgeEvidence } from "./judge.ts";
import { Answers, type Report } from "./report.ts";

const anything: Schema<unknown> = (value) => value;

/** Hashes between a nonce and the root. */
const pathLimit = Math.log2(channelNonceLimit);

export const channelVersion = "caisson/channel-evidence/v1";

const documentSchema = object({
  version: oneOf(channelVersion),
  evidence: anything,
  nonce: object({
    index: integer(0, channelNonceLimit - 1),
    count: integer(1, channelNonceLimit),
    path: list(hex(32), 0, pathLimit),
  }),
});

/** The guest's ends of a channel, proven. */
export interface ChannelKeys {
  /** SHA-256 of the TLS key's SubjectPublicKeyInfo. */
  tlsKey: Uint8Array;
  /** Key configuration of RFC 9458, section 3.1: key id, KEM, X25519 key, KDF and AEAD. */
  hpkeConfig: Uint8Array;
}

/** What the caller knows by itself. */
export interface ChannelExpectation {
  /** 32 bytes of its own, never used before. */
  nonce: Uint8Array;
  /** SHA-256 of the SubjectPublicKeyInfo that the connection ended with; left out: nothing but sealed requests is sent. */
  tlsKey?: Uint8Array;
  /** The exporter of the caller's own TLS session (`sessionExporter`), where the evidence was asked for over it. */
  exporter?: Uint8Array;
}

export interface ChannelJudgement {
  report: Report;
  /** Set when the guest is accepted: also when only the TLS key is another one, so that sealed requests still reach it. */
  keys?: ChannelKeys;
}

/**
 * Judges what a front answered. Refusals are in the report. Throws VerifyError "evidence/size", "evidence/malformed" for
 * what is not such a document.
 */
export async function verifyChannel(
  bytes: Uint8Array,
  expected: ChannelExpectation,
  judgement: Omit<Judgement, "expectedReportData">,
): Promise<ChannelJudgement> {
  const { evidence, nonce } = readChannelEvidence(bytes);
  const answers = new Answers();
  const asked = askedOf(expected);
  const { scheme, fields = {} } = evidence.reportData ?? {};
  const { nonceRoot, tlsKey, hpkeConfig } = fields;
  if (scheme !== "caisson/channel/v1" || !nonceRoot || !tlsKey || !hpkeConfig) {
    answers.fail("channel/not-stated", { expected: "caisson/channel/v1", actual: scheme ?? "nothing" });
    return { report: combined((await judgeEvidence(evidence, judgement)).report, answers, asked) };
  }
  answers.pass("channel/stated", { actual: scheme });

  await checkNonce(expected, nonce, nonceRoot, answers);
  if (hpkeKeyOf(hpkeConfig) === undefined) {
    answers.fail("channel/hpke-key", {
      expected: "X25519, HKDF-SHA256, AES-256-GCM",
      actual: toHex(hpkeConfig),
    });
  } else answers.pass("channel/hpke", { actual: toHex(hpkeConfig) });
  const expectedReportData = { scheme, fields: { nonceRoot } } as const;
  const { report } = await judgeEvidence(evidence, { ...judgement, expectedReportData });
  const ofNonce = asked.filter((id) => id !== "channel/tls");
  const reached = report.verdict === "accepted" && answers.allow(ofNonce);
  checkTls(expected.tlsKey, tlsKey, answers);
  return { report: combined(report, answers, asked), ...(reached && { keys: { tlsKey, hpkeConfig } }) };
}

/** Whether one's own session is bound is asked by who bound it. */
const askedOf = ({ exporter }: ChannelExpectation): CheckId[] =>
  (Object.keys(channelChecks) as CheckId[]).filter(
    (id) => id !== "channel/session-binding" || exporter !== undefined,
  );

/** Whether the quote answers this nonce, and this session where the caller says which. */
async function checkNonce(
  { nonce, exporter }: ChannelExpectation,
  place: { index: number; count: number; path: readonly string[] },
  nonceRoot: Uint8Array,
  answers: Answers,
): Promise<void> {
  const path = place.path.map((hash) => fromHex(hash)!);
  const entry = exporter === undefined ? nonce : sessionEntry(nonce, exporter);
  const leaf = { index: place.index, leaf: await leafHash(entry) };
  if (await verifyInclusion(leaf, { size: place.count, root: nonceRoot }, path)) {
    answers.pass("channel/nonce", { actual: `${place.index + 1} of ${place.count}` });
    if (exporter !== undefined) answers.pass("channel/session-binding", { actual: toHex(exporter) });
    return;
  }
  const actual = `root ${toHex(nonceRoot)}`;
  if (exporter === undefined) {
    answers.fail("channel/nonce-path", { expected: `a path from nonce ${toHex(nonce)}`, actual });
  } else {
    answers.fail("channel/session", {
      expected: `a path from nonce ${toHex(nonce)} in the session with exporter ${toHex(exporter)}`,
      actual,
    });
  }
}

function checkTls(seen: Uint8Array | undefined, stated: Uint8Array, answers: Answers): void {
  if (seen === undefined) {
    const reason = "only sealed requests are sent, wherever TLS ends";
    answers.notChecked("channel/tls", reason, { actual: toHex(stated) });
  } else if (equal(seen, stated)) answers.pass("channel/tls", { actual: toHex(seen) });
  else answers.fail("channel/tls-key", { expected: `${toHex(stated)} (guest)`, actual: toHex(seen) });
}

/** What a front answered, as evidence and the place of a nonce. Throws VerifyError "evidence/size", "evidence/malformed". */
export function readChannelEvidence(bytes: Uint8Array) {
  if (bytes.length > limits.document) {
    throw new VerifyError("evidence/size", `this is ${bytes.length} bytes, and at most ${limits.document}`);
  }
  let document: unknown;
  try {
    document = parseJson(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new VerifyError(
      "evidence/malformed",
      "this is not evidence of a channel: it is not JSON, or has a member twice",
    );
  }
  return readChannelDocument(document);
}

/** The same of parsed JSON. */
export function readChannelDocument(document: unknown) {
  const { evidence, nonce } = readPart(documentSchema, document, "evidence of a channel");
  return { evidence: readEvidenceDocument(evidence) satisfies Evidence, nonce };
}

/** The report with the answers about the channel behind it. */
function combined(report: Report, answers: Answers, asked: readonly CheckId[]): Report {
  const list = answers.list(asked);
  const codes = list.flatMap(({ code }) => code ?? []);
  const verdict = answers.allow(asked) ? report.verdict : "rejected";
  return { ...report, verdict, codes: [...report.codes, ...codes], checks: [...report.checks, ...list] };
}
