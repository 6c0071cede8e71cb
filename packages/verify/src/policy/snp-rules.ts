// SPDX-License-Identifier: Apache-2.0
/** What a genuine SEV-SNP report says, against a policy's `snp` rules. */
import { toHex } from "@caisson/vocabulary/bytes";
import type { Endorsement } from "../amd/endorsement.ts";
import type { GenuineSnp } from "../amd/genuine.ts";
import { minimumAt } from "../amd/minimums.ts";
import { behind, chipIdText, componentNames, type Product, type Tcb, tcbText } from "../amd/products.ts";
import { hasBit, platformBits, policyBits, type SnpReport } from "../amd/report.ts";
import { explainTcb } from "../amd/tcb-advice.ts";
import type { CheckCode } from "../errors.ts";
import type { Answers } from "../report.ts";
import { checkOneOf } from "./one-of.ts";
import type { Policy } from "./policy.ts";
import type { Reference } from "./reference.ts";

type Rules = NonNullable<Policy["snp"]>;

/** A report, and what is known of its platform. */
export type SeenSnp = Pick<GenuineSnp, "report"> & Partial<GenuineSnp>;

/** Asks every question that what is known answers; `now` decides which listed minimum holds. */
export function checkSnp(
  genuine: SeenSnp,
  rules: Rules,
  references: readonly Reference[],
  now: Date,
  answers: Answers,
): void {
  const { report, product, tcb, endorsement } = genuine;
  checkGuestPolicy(report, rules, answers);
  const levels = rules.privilegeLevels ?? [0];
  const accepted = levels === "any" ? levels : levels.map(String);
  checkOneOf("snp/privilege-level", "snp/privilege-level", `${report.vmpl}`, accepted, answers);
  checkMeasurement(report, rules, references, answers);
  const hostData = rules.hostData ?? ["00".repeat(32)];
  checkOneOf("snp/host-data", "snp/host-data", toHex(report.hostData), hostData, answers);
  checkIdBlock(report, rules, answers);
  checkPlatformInfo(report, rules, answers);
  if (product !== undefined) {
    const products = rules.products ?? ["Genoa", "Turin"];
    checkOneOf("snp/processor", "snp/processor", product, products, answers);
    if (tcb !== undefined) checkTcb(product, tcb, rules, now, answers);
    checkChip(report, product, rules, answers);
  }
  if (endorsement !== undefined) checkProvider(endorsement, rules, answers);
}

function checkGuestPolicy(
  { policy }: SnpReport,
  { permits = ["smt"], demands = [] }: Rules,
  answers: Answers,
): void {
  const actual = `0x${policy.toString(16)}`;
  const debug = { expected: "the debug bit zero", actual };
  if (hasBit(policy, policyBits.permits.debug)) answers.fail("snp/debug", debug);
  else answers.pass("snp/debug", debug);

  const { debug: _, ...others } = policyBits.permits;
  const permitted = (Object.keys(others) as (keyof typeof others)[]).filter((name) =>
    hasBit(policy, others[name]),
  );
  const tooMuch = permitted.filter((name) => !permits.includes(name));
  const missing = demands.filter((name) => !hasBit(policy, policyBits.demands[name]));
  if (tooMuch.length > 0) {
    answers.fail("snp/policy-permits", {
      expected: `nothing but ${permits.join(", ") || "none"}`,
      actual: `${actual} permits ${tooMuch.join(", ")}`,
    });
  } else if (missing.length > 0) {
    answers.fail("snp/policy-demands", {
      expected: demands.join(", "),
      actual: `${actual} lacks ${missing.join(", ")}`,
    });
  } else answers.pass("snp/guest-policy", { actual });
}

/** What was launched: by digest, from the policy or a prediction, or by whoever signed the ID block. */
function checkMeasurement(
  { measurement }: SnpReport,
  { measurements, idKeys }: Rules,
  references: readonly Reference[],
  answers: Answers,
): void {
  const actual = toHex(measurement);
  const predicted = references.flatMap(({ launchDigest }) => launchDigest ?? []);
  if (measurements === "any") checkOneOf("snp/measurement", "snp/measurement", actual, "any", answers);
  else if (measurements !== undefined || predicted.length > 0) {
    checkOneOf(
      "snp/measurement",
      "snp/measurement",
      actual,
      [...(measurements ?? []), ...predicted],
      answers,
    );
  } else if (idKeys !== undefined) {
    answers.notChecked("snp/measurement", "the policy names who signed the ID block instead", { actual });
  } else {
    answers.fail("snp/measurement-not-stated", {
      expected: "snp.measurements, a file of caisson measure --json, or snp.idKeys",
      actual,
    });
  }
}

function checkIdBlock(report: SnpReport, rules: Rules, answers: Answers): void {
  const { idKeys, authorKeys, familyIds, imageIds, minimumGuestSvn } = rules;
  const lists: [CheckCode, Uint8Array, readonly string[] | undefined][] = [
    ["snp/id-key", report.idKeyDigest, idKeys],
    ["snp/author-key", report.authorKeyDigest, authorKeys],
    ["snp/family-id", report.familyId, familyIds],
    ["snp/image-id", report.imageId, imageIds],
  ];
  for (const [code, bytes, accepted] of lists) {
    const actual = toHex(bytes);
    if (accepted !== undefined && !accepted.includes(actual)) {
      answers.fail(code, { expected: accepted.join(" or "), actual });
      return;
    }
  }
  const actual = `ID key ${toHex(report.idKeyDigest)}, guest SVN ${report.guestSvn}`;
  if (minimumGuestSvn !== undefined && report.guestSvn < minimumGuestSvn) {
    answers.fail("snp/guest-svn", { expected: `at least ${minimumGuestSvn}`, actual: `${report.guestSvn}` });
  } else if (minimumGuestSvn === undefined && lists.every(([, , accepted]) => accepted === undefined)) {
    answers.notChecked("snp/id-block", "the policy names no ID block", { actual });
  } else answers.pass("snp/id-block", { actual });
}

/** Reported, committed and launch: what the key speaks for, what cannot be undone, what the guest was launched under. */
function checkTcb(
  product: Product,
  tcb: GenuineSnp["tcb"],
  { minimumTcb }: Rules,
  now: Date,
  answers: Answers,
): void {
  const actual = `reported ${tcbText(tcb.reported)}`;
  if (minimumTcb === "any") {
    answers.notChecked("snp/tcb-minimum", "the policy leaves snp.minimumTcb open", { actual });
    return;
  }
  const listed =
    minimumTcb === "listed" ? minimumAt(product, now.toISOString().slice(0, 10))?.tcb : undefined;
  const least: Partial<Tcb> | undefined =
    minimumTcb === "listed" ? listed : (minimumTcb?.[product] as Partial<Tcb> | undefined);
  if (least === undefined) {
    answers.fail("snp/tcb-minimum-not-stated", {
      expected:
        minimumTcb === "listed"
          ? `a minimum for ${product}, of which none is known here: state snp.minimumTcb.${product}`
          : `snp.minimumTcb.${product}, "listed" or "any"`,
      actual,
    });
    return;
  }
  const short = (["reported", "committed", "launch"] as const).flatMap((kind) =>
    behind(tcb[kind], least).map((name) => `${kind} ${componentNames[name]} ${tcb[kind][name]}`),
  );
  const expected = `at least ${tcbText(least)}`;
  if (short.length === 0) answers.pass("snp/tcb-minimum", { expected, actual });
  else {
    answers.fail("snp/tcb-minimum", {
      expected,
      actual: short.join(", "),
      reason: explainTcb(tcb, least).join("; "),
    });
  }
}

function checkPlatformInfo(
  { platformInfo }: SnpReport,
  { platformInfo: wanted = [] }: Rules,
  answers: Answers,
): void {
  const actual = `0x${platformInfo.toString(16)}`;
  const missing = wanted.filter((name) => !hasBit(platformInfo, platformBits[name]));
  if (wanted.length === 0) {
    answers.notChecked("snp/platform-info", "the policy demands nothing of the platform", { actual });
  } else if (missing.length === 0) answers.pass("snp/platform-info", { actual });
  else
    answers.fail("snp/platform-info", {
      expected: wanted.join(", "),
      actual: `${actual} lacks ${missing.join(", ")}`,
    });
}

function checkChip({ chipId }: SnpReport, product: Product, { chipIds }: Rules, answers: Answers): void {
  const chip = chipIdText(chipId, product);
  const whole = toHex(chipId);
  if (chipIds === undefined) {
    answers.fail("snp/chip-not-stated", { expected: 'snp.chipIds: a list, or "any"', actual: chip });
  } else if (chipIds === "any" || chipIds.includes(whole) || chipIds.includes(chip)) {
    checkOneOf("snp/chip", "snp/chip", chip, chipIds === "any" ? "any" : [chip], answers);
  } else answers.fail("snp/chip", { expected: chipIds.join(" or "), actual: chip });
}

function checkProvider({ provider: own }: Endorsement, { providers }: Rules, answers: Answers): void {
  const provider = own ?? "none: the chip's own key signs";
  if (providers === undefined) {
    answers.notChecked("snp/provider", "the policy names no providers", { actual: provider });
  } else checkOneOf("snp/provider", "snp/provider", provider, providers, answers);
}
