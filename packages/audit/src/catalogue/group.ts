// SPDX-License-Identifier: Apache-2.0
import type { Control, ControlGroup, Decision, Source } from "../control.ts";

type Row = Omit<Control, "group" | "decision" | "source" | "severity"> &
  Partial<Pick<Control, "decision" | "source" | "severity">>;

/** Controls of one group; what a row does not say, the group does. Rows are required unless they say otherwise. */
export function group(
  name: ControlGroup,
  defaults: { decision: Decision; source: Source },
  rows: readonly Row[],
): readonly Control[] {
  return rows.map((row) => ({ group: name, severity: "required", ...defaults, ...row }));
}
