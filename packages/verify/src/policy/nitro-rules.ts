// SPDX-License-Identifier: Apache-2.0
/** What a genuine Nitro document says, against a policy's `nitro` rules. */
import { equal, isZero, toHex } from "@caisson/vocabulary/bytes";
import type { NitroDocument } from "../aws/document.ts";
import type { Answers } from "../report.ts";
import { checkOneOf } from "./one-of.ts";
import type { Policy } from "./policy.ts";
import { type ExpectedReportData, noNonce } from "./report-data-rules.ts";

type Rules = NonNullable<Policy["nitro"]>;

/** Asks every question. */
export function checkNitro(
  document: NitroDocument,
  rules: Rules,
  fresh: boolean,
  expected: ExpectedReportData | undefined,
  answers: Answers,
): void {
  checkOneOf("nitro/kind", "nitro/kind", document.kind, rules.kinds ?? ["tpm"], answers);
  checkDebug(document, answers);
  checkPcrs(document, rules, answers);
  checkModule(document.moduleId, rules.modules, answers);
  checkBound("nitro/public-key", document.publicKey, rules.publicKeys, answers);
  checkBound("nitro/user-data", document.userData, rules.userData, answers);
  checkNonce(document, fresh, expected, answers);
}

/** PCR 0 of an enclave measures its image; it is zero where it runs in debug mode, whose console its host reads. */
function checkDebug({ kind, pcrs }: NitroDocument, answers: Answers): void {
  const first = pcrs.get(0);
  const facts = { expected: "PCR 0 not zero", actual: first === undefined ? "no PCR 0" : toHex(first) };
  if (kind === "enclave" && (first === undefined || isZero(first))) answers.fail("nitro/debug", facts);
  else answers.pass("nitro/debug", { actual: facts.actual });
}

function checkPcrs({ pcrs }: NitroDocument, { pcrs: wanted }: Rules, answers: Answers): void {
  const actual = `PCRs ${[...pcrs.keys()].join(" ")}`;
  if (wanted === "any")
    return answers.notChecked("nitro/pcrs", "the policy leaves nitro.pcrs open", { actual });
  const entries = Object.entries(wanted ?? {});
  if (entries.length === 0) {
    return answers.fail("nitro/pcrs-not-stated", {
      expected: 'nitro.pcrs: values by number, or "any"',
      actual,
    });
  }
  const valueOf = (index: string) => toHex(pcrs.get(Number(index)) ?? new Uint8Array());
  const wrong = entries.find(([index, accepted]) => !accepted.includes(valueOf(index)));
  if (wrong === undefined) {
    return answers.pass("nitro/pcrs", { actual: entries.map(([index]) => `PCR ${index}`).join(", ") });
  }
  const [index, accepted] = wrong;
  answers.fail("nitro/pcr", {
    expected: `PCR ${index} ${accepted.join(" or ")}`,
    actual: valueOf(index) || "not in the document",
  });
}

function checkModule(actual: string, accepted: readonly string[] | undefined, answers: Answers): void {
  if (accepted === undefined) answers.notChecked("nitro/module", "the policy names no machines", { actual });
  else checkOneOf("nitro/module", "nitro/module", actual, accepted, answers);
}

/** Bytes that the machine had bound. */
function checkBound(
  id: "nitro/public-key" | "nitro/user-data",
  bytes: Uint8Array | undefined,
  accepted: readonly string[] | undefined,
  answers: Answers,
): void {
  const actual = bytes === undefined ? "none" : toHex(bytes);
  if (accepted === undefined) answers.notChecked(id, "the policy says nothing of it", { actual });
  else checkOneOf(id, id, actual, accepted, answers);
}

function checkNonce(
  { nonce, timestamp }: NitroDocument,
  fresh: boolean,
  expected: ExpectedReportData | undefined,
  answers: Answers,
): void {
  const wanted = expected?.scheme === "raw" ? expected.fields.data : expected?.fields.nonce;
  const actual = nonce === undefined ? `no nonce, of ${new Date(timestamp).toISOString()}` : toHex(nonce);
  if (wanted === undefined || wanted.length === 0) {
    if (fresh) answers.fail("report-data/no-nonce", { reason: noNonce });
    else answers.notChecked("report-data/expected", "the policy leaves freshness open", { actual });
  } else if (nonce !== undefined && equal(nonce, wanted)) {
    answers.pass("report-data/expected", { actual: "the document carries the nonce" });
  } else answers.fail("report-data/nonce", { expected: toHex(wanted), actual });
}
