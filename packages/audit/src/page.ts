// SPDX-License-Identifier: Apache-2.0
/** The audit as one HTML page that needs nothing else: no script, no font, no address. */
import type { Audit, Result, Row, Status } from "./audit.ts";
import { decisions, groups, sources } from "./control.ts";
import { type Provenance, provenanceRows, verdictLine } from "./provenance.ts";
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

/**
 * Colours have a contrast of at least 4.5:1 to their background (WCAG 2.2, 1.4.3), in light and in dark; a test
 * computes it.
 */
export const colours = {
  light: {
    page: "#ffffff",
    text: "#1f2328",
    quiet: "#59636e",
    pass: "#116329",
    fail: "#a40e26",
    excused: "#7d4e00",
  },
  dark: {
    page: "#121212",
    text: "#e6edf3",
    quiet: "#9198a1",
    pass: "#3fb950",
    fail: "#ff7b72",
    excused: "#d29922",
  },
} as const;

const variables = (scheme: keyof typeof colours): string =>
  Object.entries(colours[scheme])
    .map(([name, value]) => `--${name}: ${value};`)
    .join(" ");

/** On a narrow page each row of a table becomes a block: what it is, then a line for each kind of check. */
const style = `
:root { color-scheme: light dark; ${variables("light")} --line: #8886; }
@media (prefers-color-scheme: dark) { :root { ${variables("dark")} } }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; background: var(--page); color: var(--text); overflow-wrap: anywhere; }
h2::first-letter { text-transform: uppercase; } a { color: inherit; } :target { outline: 2px solid var(--excused); }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
.short { width: 4rem; } .decision { width: 7rem; } .count { width: 6rem; } .kind { width: var(--kind); }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
td.id { font-family: ui-monospace, monospace; white-space: nowrap; }
.pass { color: var(--pass); } .fail { color: var(--fail); font-weight: 600; } .advice { color: var(--excused); font-weight: 600; }
.deviation, .accepted { color: var(--excused); } .none, .not-applicable, .why, dt { color: var(--quiet); }
.verdict { font-size: 1.15rem; } details > summary { cursor: pointer; } ul { margin: .2rem 0; padding-left: 1.2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dd { margin: 0; font-family: ui-monospace, monospace; }
@media (max-width: 48rem) {
  table, tbody, tr, td { display: block; width: auto; } tr.head { display: none; }
  tr { padding: .5rem 0; border-bottom: 1px solid var(--line); } td { padding: .1rem 0; border: 0; }
  td[data-label]::before { content: attr(data-label) ": "; color: var(--quiet); }
  details { display: inline-block; vertical-align: top; }
}
`;

/** A recommended control that does not hold is advice: it does not decide the verdict, and does not look as if it did. */
function cell({ kind, status, details }: Result, { severity }: Row["control"]): string {
  const look = status === "fail" && severity === "recommended" ? "advice" : status;
  const label = `<span class="${look}">${labels[status]}</span>`;
  const start = `<td data-label="${kind}">`;
  if (details.length === 0 || status === "pass") return `${start}${label}</td>`;
  const items = details.map((detail) => `<li>${escapeHtml(detail)}</li>`).join("");
  const open = status === "fail" ? " open" : "";
  return `${start}<details${open}><summary>${label}</summary><ul>${items}</ul></details></td>`;
}

function row({ control, results }: Row): string {
  const recommended = control.severity === "recommended" ? " (recommended)" : "";
  const text = `${escapeHtml(control.title)}${recommended}<br><span class="why">${escapeHtml(control.why)}</span>`;
  const source = escapeHtml(sources[control.source]);
  return `<tr id="${control.id}"><td class="id" title="${source}">${control.id}</td><td>${text}</td><td data-label="decision">${control.decision}</td>${results.map((result) => cell(result, control)).join("")}</tr>`;
}

const count = (label: string, style: Status, number: number) =>
  `<td data-label="${label}" class="${number === 0 ? "none" : style}">${number}</td>`;

/** A whole document. */
export function page(audit: Audit, provenance: Provenance): string {
  const title = `Audit of ${Object.values(provenance.subjects)
    .map(({ name }) => name)
    .join(", ")}`;
  const kinds = audit.kinds.map((kind) => `<th class="kind">${kind}</th>`).join("");
  const head = `<tr class="head"><th class="short">Id</th><th>Control</th><th class="decision">Decision</th>${kinds}</tr>`;
  // One kind of check has room for its reasons beside the control, three share it.
  const kindWidth = `--kind: ${audit.kinds.length === 1 ? 30 : 27 / audit.kinds.length}rem`;
  const sections = groups.map((group) => {
    const rows = audit.rows.filter(({ control }) => control.group === group);
    return `<h2>${escapeHtml(group)}</h2><table>${head}${rows.map(row).join("")}</table>`;
  });
  const decisive = new Set(
    audit.rows.flatMap(({ control }) =>
      audit.failedRequired.includes(control.id) ? [control.decision] : [],
    ),
  );
  const scores = audit.scores.map(
    ({ decision, passed, failed, excused }) =>
      `<tr><td>${decision}</td><td>${escapeHtml(decisions[decision])}</td>${count("passed", "pass", passed)}${count("failed", decisive.has(decision) ? "fail" : "accepted", failed)}${count("excused", "accepted", excused)}</tr>`,
  );
  const linked = escapeHtml(verdictLine(audit)).replace(
    /\b[A-Z]\d{2}\b/g,
    (id) => `<a href="#${id}">${id}</a>`,
  );
  const verdict = `<p class="verdict ${audit.failedRequired.length === 0 ? "pass" : "fail"}">${linked}</p>`;
  const how = provenanceRows(provenance).map(
    ([label, text]) => `<dt>${escapeHtml(label)}</dt><dd>${escapeHtml(text)}</dd>`,
  );
  const there = inventoryRows(audit.inventory).map(
    ([label, value]) => `<tr><td>${escapeHtml(label)}</td><td>${escapeHtml(value)}</td></tr>`,
  );

  return [
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escapeHtml(title)}</title>`,
    `<meta http-equiv="content-security-policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
    `<meta name="viewport" content="width=device-width"><style>${style}</style></head><body style="${kindWidth}">`,
    `${verdict}<h1>${escapeHtml(title)}</h1><dl>${how.join("")}</dl>`,
    `<table><tr class="head"><th class="decision">Decision</th><th></th>${["Passed", "Failed", "Excused"].map((one) => `<th class="count">${one}</th>`).join("")}</tr>${scores.join("")}</table>`,
    there.length === 0
      ? ""
      : `<h2>what is there, beside the application</h2><table>${there.join("")}</table>`,
    ...sections,
    "</body></html>\n",
  ].join("\n");
}
