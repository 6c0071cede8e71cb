// SPDX-License-Identifier: Apache-2.0
/** One value against those that a policy accepts. */
import type { CheckCode, CheckId } from "../errors.ts";
import type { Answers } from "../report.ts";

/** Answers `id`: open where the policy says `any`, else by whether `actual` is one of the accepted values. */
export function checkOneOf(
  id: CheckId,
  code: CheckCode,
  actual: string,
  accepted: readonly string[] | "any",
  answers: Answers,
): void {
  if (accepted === "any") answers.notChecked(id, "the policy leaves it open", { actual });
  else if (accepted.includes(actual)) answers.pass(id, { actual });
  else answers.fail(code, { expected: accepted.join(" or "), actual });
}
