// SPDX-License-Identifier: Apache-2.0
/** PCRs of a virtual TPM, against a policy. */
import type { GenuineHcl } from "../evidence/hcl.ts";
import type { Answers } from "../report.ts";
import type { Policy } from "./policy.ts";

/** Nothing is asked where neither side has a TPM. */
export function checkPcrs(hcl: GenuineHcl | undefined, { pcrs: wanted }: Policy, answers: Answers): void {
  if (hcl === undefined && wanted === undefined) return;
  if (wanted === "any") {
    answers.notChecked("hcl/pcrs", "the policy leaves pcrs open", { actual: pcrText(hcl) });
    return;
  }
  const entries = Object.entries(wanted ?? {});
  if (entries.length === 0 || hcl?.pcrs === undefined) {
    answers.fail("hcl/pcr-missing", {
      expected: entries.length === 0 ? 'pcrs in the policy, or pcrs: "any"' : "a quote of the virtual TPM",
      actual: pcrText(hcl),
    });
    return;
  }
  const wrong = entries.find(([index, accepted]) => !accepted.includes(hcl.pcrs!.get(Number(index)) ?? ""));
  if (wrong === undefined)
    answers.pass("hcl/pcrs", { actual: entries.map(([index]) => `PCR ${index}`).join(", ") });
  else {
    const [index, accepted] = wrong;
    answers.fail("hcl/pcr", {
      expected: `PCR ${index} ${accepted.join(" or ")}`,
      actual: hcl.pcrs.get(Number(index)) ?? "not quoted",
    });
  }
}

const pcrText = (hcl: GenuineHcl | undefined): string =>
  hcl === undefined
    ? "no virtual TPM in the evidence"
    : hcl.pcrs === undefined
      ? "no quote of the virtual TPM"
      : `PCRs ${[...hcl.pcrs.keys()].join(" ")}`;
