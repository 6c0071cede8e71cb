// SPDX-License-Identifier: Apache-2.0
/** A prediction, and its comparison with a log, as text for a person. */

import type { Files } from "@caisson/machine/prediction";
import { type Comparison, eventTypeName, type Prediction } from "@caisson/measure";

/** Profile, files, and each register with its events and where each digest comes from. */
export function renderPrediction(
  { platform, profile, mrtd: td, registers, events }: Prediction,
  files: Files,
  assumed: readonly string[],
): string {
  const lines = [`platform   ${platform}`, `profile    ${profile.firmware}, QEMU ${profile.qemu}`];
  lines.push(
    `           ${profile.evidence === undefined ? "UNVERIFIED: no real log stands behind this layout" : `confirmed by: ${profile.evidence}`}`,
  );
  for (const [source, file] of Object.entries(files)) lines.push(`${source.padEnd(14)} ${file}`);
  for (const text of assumed) lines.push(`assumed        ${text}`);
  if (td !== undefined)
    lines.push("", `mrtd   single-pass  ${td.singlePass}`, `       two-pass     ${td.twoPass}`);
  for (const [name, { value, open }] of Object.entries(registers)) {
    lines.push("", `${name}  ${value ?? `not determined: ${open.join(", ")}`}`);
    for (const event of events.filter(({ register }) => register === name)) {
      const digest = event.digest === undefined ? "-".repeat(16) : event.digest.slice(0, 16);
      const source = event.digest === undefined ? `not verified: ${event.reason}` : event.source;
      lines.push(`  ${digest}  ${event.what.padEnd(42)} ${source}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

/** The first event that differs and why; what was taken from the log. */
export function renderComparison({ agrees, first, notVerified }: Comparison): string {
  const lines = [agrees ? "the log agrees with the prediction" : "the log differs from the prediction"];
  if (first !== undefined) {
    const { register, position, expected, found, cause } = first;
    lines.push(`  where     ${register}, event ${position + 1}`);
    lines.push(`  expected  ${expected?.digest ?? "any digest"}  ${expected?.what ?? "no further event"}`);
    lines.push(
      `  found     ${found === undefined ? "nothing" : `${found.digest}  ${eventTypeName(found.type)}`}`,
    );
    lines.push(`  cause     ${cause}`);
  }
  for (const { register, what, digest } of notVerified) {
    lines.push(`  not verified: ${register} ${what} ${digest.slice(0, 16)}… is the log's own word`);
  }
  return `${lines.join("\n")}\n`;
}
