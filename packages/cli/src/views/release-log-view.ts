// SPDX-License-Identifier: Apache-2.0
/** Entries of a release log: each one line; where a terminal has no room for that, its parts below each other. */
import { fold } from "./fold.ts";
import { printable } from "./printable.ts";

/** An entry of the release log. `reason` is the reference that the registers matched, or the code of the denial. */
export interface ShownEntry {
  sequence: number;
  time: string;
  outcome: "released" | "denied" | "changed";
  app: string;
  instance: string;
  reason: string;
  /** SHA-256 of MRTD and RTMR0–3, and of the policy file. */
  registers: string;
  policy: string;
}

/** One entry, for a terminal of that many columns; without one it is a line, however long. */
export function renderEntry({ time, outcome, app, instance, reason }: ShownEntry, columns?: number): string {
  const begin = `${time}  ${outcome.padEnd(8)}`;
  const parts = [
    ["app", app],
    ["instance", instance],
  ].filter(([, value]) => value !== "") as [string, string][];
  const why = printable(reason);
  const line = [begin, ...parts.map((part) => part.join(" ")), why].join("  ");
  if (columns === undefined || line.length <= columns) return line;
  const fits = begin.length + 2 + why.length <= columns;
  const below = fits ? parts : [...parts, ["reason", why]];
  const rest = below.map(([name, value]) => fold(`  ${name!.padEnd(8)}  ${value}`, columns));
  return [fits ? `${begin}  ${why}` : begin.trimEnd(), ...rest].join("\n");
}
