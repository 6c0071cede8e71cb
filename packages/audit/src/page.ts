// SPDX-License-Identifier: Apache-2.0
/** The audit as one HTML page that needs nothing else: no script, no font, no address. */
import type { Audit, Result, Row, Status } from "./audit.ts";
import { decisions, groups, sources } from "./control.ts";
import { inventoryRows } from "./table.ts";

/** Text as HTML text or attribute value. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (character) => entities[character]!);
}

const labels: Record<Status, string> = {
  pass: "pass",
  fail: "fail",
  deviation: "development",
  accepted: "accepted",
  "not-applicable": "n/a",
};

const style = `
:root { color-scheme: light dark; --pass: #1a7f37; --fail: #cf222e; --excused: #9a6700; --line: #8886; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h2::first-letter { text-transform: uppercase; } a { color: inherit; } :target { outline: 2px solid var(--excused); }
table { border-collapse: collapse; width: 100%; table-layout: fixed; overflow-wrap: anywhere; }
.short { width: 4rem; } .decision { width: 7rem; } .count { width: 6rem; } .kind { width: var(--kind); }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
.none, .not-applicable { opacity: .5; } td.id { font-family: ui-monospace, monospace; white-space: nowrap; }
.pass { color: var(--pass); } .fail { color: var(--fail); font-weight: 600; } .deviation, .accepted { color: var(--excused); }
.why { opacity: .75; } details > summary { cursor: pointer; } ul { margin: .2rem 0; padding-left: 1.2rem; }
`;

function cell({ status, details }: Result): string {
  const label = `<span class="${status}">${labels[status]}</span>`;
  if (details.length === 0 || status === "pass") return `<td>${label}</td>`;
  const items = details.map((detail) => `<li>${escapeHtml(detail)}</li>`).join("");
  const open = status === "fail" ? " open" : "";
  return `<td><details${open}><summary>${label}</summary><ul>${items}</ul></details></td>`;
}

function row({ control, results }: Row): string {
  const recommended = control.severity === "recommended" ? " (recommended)" : "";
  const text = `${escapeHtml(control.title)}${recommended}<br><span class="why">${escapeHtml(control.why)}</span>`;
  const source = escapeHtml(sources[control.source]);
  return `<tr id="${control.id}"><td class="id" title="${source}">${control.id}</td><td>${text}</td><td>${control.decision}</td>${results.map(cell).join("")}</tr>`;
}

const count = (style: Status, number: number) =>
  `<td class="${number === 0 ? "none" : style}">${number}</td>`;

/** A whole document. `title` is shown as it is, escaped. */
export function page(audit: Audit, title: string): string {
  const kinds = audit.kinds.map((kind) => `<th class="kind">${kind}</th>`).join("");
  const head = `<tr><th class="short">Id</th><th>Control</th><th class="decision">Decision</th>${kinds}</tr>`;
  // One kind of check has room for its reasons beside the control, three share it.
  const kindWidth = `--kind: ${audit.kinds.length === 1 ? 30 : 27 / audit.kinds.length}rem`;
  const sections = groups.map((group) => {
    const rows = audit.rows.filter(({ control }) => control.group === group);
    return `<h2>${escapeHtml(group)}</h2><table>${head}${rows.map(row).join("")}</table>`;
  });
  const scores = audit.scores.map(
    ({ decision, passed, failed, excused }) =>
      `<tr><td>${decision}</td><td>${escapeHtml(decisions[decision])}</td>${count("pass", passed)}${count("fail", failed)}${count("accepted", excused)}</tr>`,
  );
  const verdict =
    audit.failedRequired.length === 0
      ? `<p class="pass">Every required control holds.</p>`
      : `<p class="fail">Required controls that do not hold: ${audit.failedRequired.map((id) => `<a href="#${id}">${id}</a>`).join(", ")}</p>`;
  const there = inventoryRows(audit.inventory).map(
    ([label, value]) => `<tr><td>${escapeHtml(label)}</td><td>${escapeHtml(value)}</td></tr>`,
  );

  return [
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escapeHtml(title)}</title>`,
    `<meta http-equiv="content-security-policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
    `<meta name="viewport" content="width=device-width"><style>${style}</style></head><body style="${kindWidth}">`,
    `<h1>${escapeHtml(title)}</h1>${verdict}`,
    `<table><tr><th class="decision">Decision</th><th></th>${["Passed", "Failed", "Excused"].map((one) => `<th class="count">${one}</th>`).join("")}</tr>${scores.join("")}</table>`,
    there.length === 0
      ? ""
      : `<h2>what is there, beside the application</h2><table>${there.join("")}</table>`,
    ...sections,
    "</body></html>\n",
  ].join("\n");
}
