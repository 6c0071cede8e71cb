// SPDX-License-Identifier: Apache-2.0
/**
 * A running guest as a picture: processes with their powers on the left, what they can write to, wait on and read on
 * the right, and lines between. A line follows the mount namespace for paths, and the owner for sockets and files.
 */

import type { LiveReport } from "@caisson/protocol/live-report";
import { capabilities, ownNamespaces } from "./graph.ts";
import { escapeHtml } from "./page.ts";

type Process = LiveReport["processes"][number];

interface Item {
  text: string;
  note: string;
  /** Who gets a line to it. */
  owner: (process: Process) => boolean;
}

const [width, margin, line] = [1000, 20, 18];
const [cardWidth, indent, listLeft] = [400, 24, 560];
/** With every power, with some, with none. */
const colours = { all: "#cf222e", some: "#9a6700", none: "#1a7f37" } as const;

function powers(process: Process): keyof typeof colours {
  const held = capabilities(process.capabilities.effective);
  if (held === "all") return "all";
  return held !== "none" || process.uid === 0 || process.seccomp === 0 ? "some" : "none";
}

/** Long lists of names would leave the card. */
const shortened = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, most - 1)}…`;

function facts(process: Process, first: Process | undefined): string[] {
  const own = ownNamespaces(process, first);
  return [
    `user ${process.uid}, group ${process.gid}`,
    `capabilities: ${capabilities(process.capabilities.effective)}; at most ${capabilities(process.capabilities.bounding)}`,
    `system calls ${process.seccomp === 0 ? "unfiltered" : "filtered"}; new privileges ${process.noNewPrivileges ? "impossible" : "possible"}`,
    process === first ? "the guest's own namespaces" : `namespaces of its own: ${own.join(", ") || "none"}`,
  ];
}

/** What can be written, waited on and read, in three lists. */
function lists(
  { mounts, sockets, files }: LiveReport,
  users: readonly Process[],
): [title: string, items: Item[]][] {
  const writable = (list: LiveReport["mounts"], owner: Item["owner"], where: string): Item[] =>
    list
      .filter(({ options }) => options.includes("rw"))
      .map(({ target, type, options }) => ({
        text: target,
        note: [type, ...options.filter((one) => /^no(suid|dev|exec)$/.test(one)), where].join(" ").trim(),
        owner,
      }));
  const apart = users.filter((process) => process.mounts !== null);
  return [
    [
      "Writable",
      [
        ...writable(mounts, (process) => process.mounts === null, ""),
        ...apart.flatMap((own) => writable(own.mounts ?? [], ({ pid }) => pid === own.pid, `for ${own.pid}`)),
      ],
    ],
    [
      "Sockets that wait",
      sockets
        .filter(({ listening }) => listening)
        .map(({ protocol, local, uid }) => ({
          text: local,
          note: `${protocol}, user ${uid}`,
          owner: (process) => process.uid === uid,
        })),
    ],
    [
      "Keys and records",
      files.map(({ path, mode, uid }) => ({
        text: path,
        note: `${mode.toString(8).padStart(4, "0")}, user ${uid}`,
        owner: (process) => process.uid === uid,
      })),
    ],
  ];
}

interface Card {
  process: Process;
  depth: number;
  y: number;
  height: number;
  parent?: Card;
}

/** Cards from parent to child; what has no parent among them stands alone. */
function cards(users: readonly Process[], first: Process | undefined): Card[] {
  const placed: Card[] = [];
  let y = 90;
  const place = (process: Process, parent?: Card): void => {
    if (placed.some((one) => one.process === process)) return;
    const height = (facts(process, first).length + 1) * line + 16;
    const depth = parent === undefined ? 0 : parent.depth + 1;
    const card: Card = { process, depth, y, height, ...(parent !== undefined && { parent }) };
    placed.push(card);
    y += height + 16;
    for (const child of users) if (child.parent === process.pid) place(child, card);
  };
  const alone = ({ parent }: Process) => !users.some(({ pid }) => pid === parent);
  for (const process of users.filter(alone)) place(process);
  // Reports may hold circles; nothing is left out.
  for (const process of users) place(process);
  return placed;
}

const text = (x: number, y: number, content: string, more = ""): string =>
  `<text x="${x}" y="${y}"${more}>${escapeHtml(content)}</text>`;

/** A process with what is known of it, below its parent. `first` is PID 1. */
function drawCard({ process, depth, y, height }: Card, first: Process | undefined): string {
  const x = margin + depth * indent;
  const lines = facts(process, first);
  const name = `${process.name} (${process.pid})  ${process.executable}`;
  return [
    `<g><title>${escapeHtml(lines.join("\n"))}</title>`,
    `<rect x="${x}" y="${y}" width="${cardWidth - depth * indent}" height="${height}" rx="6" fill="#ffffff" stroke="${colours[powers(process)]}" stroke-width="2"/>`,
    text(x + 12, y + 22, name, ' font-weight="600"'),
    ...lines.map((fact, i) => text(x + 12, y + 22 + (i + 1) * line, shortened(fact, 62))),
    "</g>",
  ].join("");
}

/** From a parent to this child. */
function descent({ depth, y, height }: Card, parent: Card): string {
  const from = margin + parent.depth * indent + indent / 2;
  return `<path d="M${from} ${parent.y + parent.height}V${y + height / 2}H${margin + depth * indent}" stroke="#57606a" fill="none"/>`;
}

/** From a process to what it owns, whose row is at `y`. */
function ownership(card: Card, y: number): string {
  const [x1, y1, y2] = [margin + cardWidth, card.y + card.height / 2, y + (line + 4) / 2];
  return `<path d="M${x1} ${y1}C${x1 + 70} ${y1} ${listLeft - 70} ${y2} ${listLeft} ${y2}" stroke="${colours[powers(card.process)]}" fill="none" opacity="0.45"/>`;
}

function drawItem(name: string, note: string, y: number): string[] {
  return [
    `<rect x="${listLeft}" y="${y}" width="${width - listLeft - margin}" height="${line + 4}" rx="4" fill="#f6f8fa"/>`,
    text(listLeft + 8, y + 15, shortened(name, 34)),
    text(width - margin - 8, y + 15, shortened(note, 40), ' text-anchor="end" fill="#57606a"'),
  ];
}

/** What the colours mean; `bottom` is the picture's height. */
const legend = (bottom: number): string[] =>
  (["all", "some", "none"] as const).map((one, i) => {
    const label = { all: "every capability", some: "some power", none: "no power" }[one];
    const x = margin + i * 150;
    return `<rect x="${x}" y="${bottom - 36}" width="12" height="12" rx="2" fill="${colours[one]}"/>${text(x + 18, bottom - 25, label)}`;
  });

/** A self-contained SVG document. Kernel threads are counted, not drawn. Pure. */
export function graphSvg(report: LiveReport): string {
  const users = report.processes.filter(({ kernelThread }) => !kernelThread);
  const first = users.find(({ pid }) => pid === 1);
  const left = cards(users, first);
  const edges = left.flatMap((card) => (card.parent === undefined ? [] : [descent(card, card.parent)]));
  const shapes = left.map((card) => drawCard(card, first));

  let y = 90;
  for (const [title, items] of lists(report, users)) {
    shapes.push(text(listLeft, y + 14, title, ' font-weight="600"'));
    y += line + 8;
    if (items.length === 0) shapes.push(text(listLeft, y + 12, "nothing", ' fill="#57606a"'));
    for (const { text: name, note, owner } of items) {
      shapes.push(...drawItem(name, note, y));
      for (const card of left.filter(({ process }) => owner(process))) edges.push(ownership(card, y));
      y += line + 8;
    }
    y += 14;
  }

  const bottom = Math.max(y, ...left.map((card) => card.y + card.height)) + 60;
  const guest = `${report.flavour} guest, platform ${report.platform}, kernel ${report.release}`;
  const threads = report.processes.length - users.length;
  const counted = `lockdown ${report.lockdown}; processes: ${users.length}, kernel threads: ${threads}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${bottom}" font-family="system-ui, sans-serif" font-size="12" fill="#1f2328">`,
    `<rect width="${width}" height="${bottom}" fill="#ffffff"/>`,
    text(margin, 32, guest, ' font-size="16" font-weight="600"'),
    text(margin, 54, counted, ' fill="#57606a"'),
    text(margin, 78, "Processes", ' font-weight="600"'),
    ...edges,
    ...shapes,
    ...legend(bottom),
    "</svg>\n",
  ].join("\n");
}
