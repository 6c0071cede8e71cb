// SPDX-License-Identifier: Apache-2.0
/** The audit and its controls as text for a terminal. */
import type { Audit, Score, Status } from "./audit.ts";
import {
  type CheckKind,
  type Control,
  checkKinds,
  decisions,
  groups,
  sources,
  type Test,
} from "./control.ts";
import type { Inventory } from "./inventory.ts";
import { type Provenance, provenanceRows, verdictLine } from "./provenance.ts";

const marks: Record<Status, string> = {
  pass: "ok",
  fail: "FAIL",
  deviation: "dev",
  accepted: "accepted",
  "not-applicable": "-",
};
const width = Math.max(...Object.values(marks).map((mark) => mark.length));

/**
 * The verdict, what was audited how, and the table by group. With `all` every reason is shown, otherwise those of
 * failures and excuses.
 */
export function table(audit: Audit, provenance: Provenance, all = false): string {
  const lines = [
    verdictLine(audit),
    ...provenanceRows(provenance).map(([label, text]) => `  ${label.padEnd(9)}  ${text}`),
  ];
  const head = audit.kinds.map((kind) => kind.padEnd(width)).join(" ");
  for (const group of groups) {
    lines.push("", group.toUpperCase());
    lines.push(`  id    ${head}  control`);
    for (const { control, results } of audit.rows) {
      if (control.group !== group) continue;
      const cells = results.map(({ status }) => marks[status].padEnd(width)).join(" ");
      const note = control.severity === "recommended" ? " (recommended)" : "";
      lines.push(`  ${control.id.padEnd(4)}  ${cells}  ${control.title}${note}`);
      for (const { kind, status, details } of results) {
        const shown = all
          ? status !== "pass"
          : status === "fail" || status === "deviation" || status === "accepted";
        if (shown) for (const detail of details) lines.push(`        ${kind}: ${detail}`);
      }
    }
  }
  lines.push("", "SCORE BY DECISION", "  passed failed excused");
  for (const { decision, title, passed, failed, excused } of audit.scores) {
    lines.push(
      `  ${String(passed).padStart(6)} ${String(failed).padStart(6)} ${String(excused).padStart(7)}  ${decision}: ${title}`,
    );
  }
  const sum = (count: (score: Score) => number) =>
    audit.scores.reduce((total, score) => total + count(score), 0);
  const totals = [sum(({ passed }) => passed), sum(({ failed }) => failed), sum(({ excused }) => excused)];
  lines.push(`  ${totals.map((total, i) => String(total).padStart([6, 6, 7][i]!)).join(" ")}  together`);
  lines.push(...inventoryLines(audit.inventory));
  for (const remark of audit.remarks) lines.push("", remark);
  return `${lines.join("\n")}\n`;
}

/** Labels and figures of an inventory, for people. */
export function inventoryRows({ static: image, live }: Inventory): [label: string, value: string][] {
  const rows: [string, number | string][] = [];
  if (image !== undefined) {
    rows.push(
      ["kernel symbols =y / =m", `${image.builtIn} / ${image.modules}`],
      ["packages", image.packages],
      ["files", image.files],
      ["executables", image.executables],
      ["setuid or setgid files", image.setuid],
      ["bytes, kernel included", `${(image.bytes / 1024 / 1024).toFixed(1)} MiB`],
    );
  }
  if (live !== undefined) rows.push(["processes", live.processes], ["listening sockets", live.listening]);
  return rows.map(([label, value]) => [label, String(value)]);
}

function inventoryLines(inventory: Inventory): string[] {
  const rows = inventoryRows(inventory);
  if (rows.length === 0) return [];
  return [
    "",
    "WHAT IS THERE, BESIDE THE APPLICATION",
    ...rows.map(([label, value]) => `  ${label.padEnd(24)}  ${value}`),
  ];
}

/** One control, whole: what is expected where, and what would break it. */
export function explainControl(control: Control): string {
  const lines = [
    `${control.id}  ${control.title}`,
    `  ${control.why}`,
    "",
    `  group      ${control.group}`,
    `  decision   ${control.decision}: ${decisions[control.decision]}`,
    `  severity   ${control.severity}`,
    `  source     ${sources[control.source]}`,
  ];
  if (control.development !== undefined)
    lines.push(
      `  deviation  development may fail it (${control.development.kinds.join(", ")}): ${control.development.reason}`,
    );
  for (const path of control.tests ?? []) lines.push(`  test       ${path}`);
  for (const kind of checkKinds) {
    const check = control[kind] as readonly Test<never>[] | string;
    if (typeof check === "string") lines.push(`  ${label(kind)}none: ${check}`);
    else for (const { expects } of check) lines.push(`  ${label(kind)}${expects}`);
  }
  return `${lines.join("\n")}\n`;
}

const label = (kind: CheckKind): string => kind.padEnd(11);

/** Ids and titles, by group. */
export function list(controls: readonly Control[]): string {
  return controls.map(({ id, group, title }) => `${id.padEnd(4)}  ${group.padEnd(22)}  ${title}\n`).join("");
}
