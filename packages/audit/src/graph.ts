// SPDX-License-Identifier: Apache-2.0
/**
 * Least privilege made visible: what runs in a guest, as whom, with which powers, and what it can write to and reach.
 * Drawn from a live report as text.
 */
import type { LiveReport } from "@caisson/protocol/live-report";
import { capabilitiesOf, linuxCapabilities } from "@caisson/vocabulary/capabilities";

type Process = LiveReport["processes"][number];

/** "none", "all", or the names of a mask in hex. */
export function capabilities(mask: string): string {
  const bits = BigInt(`0x${/^[0-9a-f]+$/i.test(mask) ? mask : "0"}`);
  const names = capabilitiesOf(bits).map((name) => name.toLowerCase());
  if (names.length === 0) return "none";
  return names.length === linuxCapabilities.length ? "all" : names.join(" ");
}

const seccomp = (mode: number): string => (mode === 2 ? "filtered" : mode === 1 ? "strict" : "unfiltered");

const writable = (mounts: LiveReport["mounts"]): string[] =>
  mounts.filter(({ options }) => options.includes("rw")).map(({ target }) => target);

/** Kinds of namespaces that a process does not share with PID 1; what its children would get is not a kind. */
export function ownNamespaces({ namespaces }: Process, first: Process | undefined): string[] {
  return Object.keys(namespaces).filter(
    (kind) => !kind.endsWith("_for_children") && namespaces[kind] !== first?.namespaces[kind],
  );
}

function describe(process: Process, first: Process | undefined): string[] {
  const own = ownNamespaces(process, first);
  return [
    `uid ${process.uid}, gid ${process.gid}`,
    `capabilities ${capabilities(process.capabilities.effective)}, bounded by ${capabilities(process.capabilities.bounding)}`,
    `system calls ${seccomp(process.seccomp)}, new privileges ${process.noNewPrivileges ? "impossible" : "possible"}`,
    ...(process === first ? [] : [`namespaces of its own: ${own.join(", ") || "none"}`]),
    ...(process.mounts === null ? [] : [`writable: ${writable(process.mounts).join(", ") || "nothing"}`]),
  ];
}

/** The picture. Kernel threads are counted, not drawn. */
export function graph(report: LiveReport): string {
  const users = report.processes.filter(({ kernelThread }) => !kernelThread);
  const first = users.find(({ pid }) => pid === 1);
  const lines: string[] = [
    `${report.flavour} guest on ${report.platform}, kernel ${report.release}, lockdown ${report.lockdown}`,
  ];
  const draw = (process: Process, indent: string, seen: ReadonlySet<number>): void => {
    lines.push(`${indent}● ${process.name} (${process.pid})  ${process.executable}`);
    for (const line of describe(process, first)) lines.push(`${indent}│   ${line}`);
    if (seen.has(process.pid)) return;
    const children = users.filter(({ parent, pid }) => parent === process.pid && pid !== process.pid);
    for (const child of children) draw(child, `${indent}│ `, new Set([...seen, process.pid]));
  };
  const roots = users.filter(({ parent, pid }) => pid === 1 || !users.some((other) => other.pid === parent));
  lines.push("", "PROCESSES");
  for (const root of roots) draw(root, "  ", new Set());
  lines.push(`  and ${report.processes.length - users.length} kernel threads`);

  lines.push("", "WRITABLE");
  for (const { target, type, options } of report.mounts.filter(({ options: list }) => list.includes("rw"))) {
    const quiet = options.filter((option) => ["nosuid", "nodev", "noexec"].includes(option));
    lines.push(`  ${target.padEnd(24)} ${type.padEnd(12)} ${quiet.join(" ")}`);
  }
  lines.push("", "LISTENING");
  const listening = report.sockets.filter((socket) => socket.listening);
  for (const { protocol, local, uid } of listening)
    lines.push(`  ${protocol.padEnd(6)} ${local.padEnd(40)} uid ${uid}`);
  if (listening.length === 0) lines.push("  nothing");
  lines.push("", "KEYS AND RECORDS");
  for (const { path, mode, uid } of report.files)
    lines.push(`  ${path.padEnd(40)} ${mode.toString(8).padStart(4, "0")} uid ${uid}`);
  return `${lines.join("\n")}\n`;
}
