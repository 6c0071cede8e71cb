// SPDX-License-Identifier: Apache-2.0
/** What a verification found: every check, its outcome, what was expected and what was there, and the verdict. */

import { Failure } from "@caisson/vocabulary/failure";
import type { Product, Tcb } from "./amd/products.ts";
import type { TcbKind } from "./amd/report.ts";
import { type Judging, saysNothing } from "./certainty.ts";
import { type CheckCode, type CheckId, checkOf, checks } from "./errors.ts";
import type { TcbStatus } from "./intel/tcb.ts";

export type Outcome = "pass" | "fail" | "not-checked";

/** Reason of a check that was not asked; every other one that is not checked was left open by the policy. */
export const notReached = "an earlier check failed";

/** One question and its answer. `source` names the document that demands it; `code` is set on failure. */
export interface Check {
  id: CheckId;
  outcome: Outcome;
  source: string;
  code?: CheckCode;
  /** What would have been accepted, and what was found; or why it was not checked. For people. */
  expected?: string;
  actual?: string;
  reason?: string;
}

/** What evidence says about its platform, once it is known to be genuine. Hexadecimal values in lower case. */
export type PlatformSummary = IntelSummary | SnpSummary | NitroSummary;

/** Of an attestation document of AWS Nitro. */
export interface NitroSummary {
  tee: "nitro";
  root: string;
  kind: "enclave" | "tpm";
  module: string;
  /** When it was made, ISO 8601. */
  time: string;
  /** Its certificates are valid until then at the latest, ISO 8601. */
  validUntil: string;
}

/** Of a SEV-SNP report. */
export interface SnpSummary {
  tee: "snp";
  root: string;
  reportVersion: number;
  product: Product;
  signedBy: "vcek" | "vlek";
  /** Whose VLEK signs. */
  provider?: string;
  chipId: string;
  tcb: Readonly<Record<TcbKind, Tcb>>;
  /** Certificates and the list of revocations are valid until then at the latest, ISO 8601. */
  validUntil: string;
}

/** Of a quote. */
export interface IntelSummary {
  tee: "tdx" | "sgx";
  /** Name of the root under which it is genuine. */
  root: string;
  quoteVersion: number;
  tcbStatus: TcbStatus;
  advisories: string[];
  /** Date of the TCB level, ISO 8601. */
  tcbDate: string;
  tcbEvaluationDataNumber: number;
  fmspc: string;
  /** Platform provisioning id from the PCK certificate. */
  ppid: string;
  /** Platform instance id, where it has one. */
  piid?: string;
  /** Collateral and certificates are valid until then at the latest, ISO 8601. */
  validUntil: string;
}

/**
 * `scope` says which questions were asked: "genuine" alone says nothing about what runs in the TD. "undetermined": nothing
 * was found wrong with the evidence, but the collateral at hand cannot vouch for it (`saysNothing`).
 */
export interface Report {
  version: "caisson/report/v1";
  verdict: "accepted" | "rejected" | "undetermined";
  scope: "genuine" | "genuine-and-acceptable";
  /** The time at which the evidence was judged, ISO 8601. */
  at: string;
  /** Codes of all failed checks, in the order of the checks. */
  codes: CheckCode[];
  platform?: PlatformSummary;
  /** Name of the reference tuple that the registers matched. */
  reference?: string;
  /** The release that the application's owners signed for what was measured, where the policy asks for one. */
  release?: { app: string; number: number; hash: string; expires: string };
  checks: Check[];
}

/** Answers while they are collected; a check is answered once, and one that is never answered was not checked. */
export class Answers {
  /**
   * What is being judged: a refusal of the collateral says nothing about the quote; of certificates at their own time a
   * day does.
   */
  judging: Judging = "quote";
  readonly #answers = new Map<CheckId, Check>();
  /** Failed checks that say nothing of the evidence. */
  readonly #vague = new Set<CheckId>();

  pass(id: CheckId, details: { expected?: string; actual?: string } = {}): void {
    this.#set({ id, outcome: "pass", source: checks[id].source, ...details });
  }
  notChecked(id: CheckId, reason: string, details: { actual?: string } = {}): void {
    this.#set({ id, outcome: "not-checked", source: checks[id].source, reason, ...details });
  }
  /** `source`: where the expected value came from, when that is not the document that demands the check. */
  fail(
    code: CheckCode,
    details: { expected?: string; actual?: string; reason?: string; source?: string } = {},
  ): void {
    const id = checkOf(code)!;
    const check: Check = { id, outcome: "fail", code, source: checks[id].source, ...details };
    this.#refuse(check, saysNothing(code, this.judging));
  }
  /** Takes over what others refused, and nothing that they passed. */
  adoptRefusals(others: Answers): void {
    for (const check of others.#answers.values()) {
      if (check.outcome === "fail") this.#refuse(check, others.#vague.has(check.id));
    }
  }
  /** Whether there are refusals, and none of them says anything of the evidence. */
  get undetermined(): boolean {
    const failed = [...this.#answers.values()].filter(({ outcome }) => outcome === "fail");
    return failed.length > 0 && failed.every(({ id }) => this.#vague.has(id));
  }
  /** Records a refusal that was thrown; other errors are thrown on. */
  failFrom(error: unknown): void {
    if (!(error instanceof Failure) || checkOf(error.code as CheckCode) === undefined) throw error;
    const facts = new Map(error.facts);
    const expected = facts.get("expected");
    const actual = facts.get("found");
    this.fail(error.code as CheckCode, {
      reason: error.fix === undefined ? error.message : `${error.message}; ${error.fix}`,
      ...(expected === undefined ? {} : { expected }),
      ...(actual === undefined ? {} : { actual }),
    });
  }
  /** Whether every one of these was answered without a refusal. A check that nobody answered is not a pass. */
  allow(asked: readonly CheckId[]): boolean {
    return asked.every((id) => (this.#answers.get(id)?.outcome ?? "fail") !== "fail");
  }
  /** The first refusal of a check stands, unless it said nothing and this one does. */
  #refuse(check: Check, vague: boolean): void {
    const { id } = check;
    if (this.#answers.get(id)?.outcome === "fail" && (vague || !this.#vague.has(id))) return;
    this.#answers.set(id, check);
    if (vague) this.#vague.add(id);
    else this.#vague.delete(id);
  }
  #set(check: Check): void {
    // The first failure of a check stands: a later pass must never hide it.
    if (this.#answers.get(check.id)?.outcome !== "fail") this.#answers.set(check.id, check);
  }
  /** Answers in the order of the table of checks; `asked` that have no answer are "not-checked". */
  list(asked: readonly CheckId[]): Check[] {
    return asked.map(
      (id) =>
        this.#answers.get(id) ?? {
          id,
          outcome: "not-checked",
          source: checks[id].source,
          reason: notReached,
        },
    );
  }
}
