// SPDX-License-Identifier: Apache-2.0
/** What makes an audit usable as evidence: its verdict, what exactly was audited, when, by what, and how to do it again. */
import type { Audit } from "./audit.ts";
import type { CheckKind } from "./control.ts";

export interface Subject {
  /** A path or an address. */
  name: string;
  /** What it is known by: labels, such as "manifest", and SHA-256, hex. */
  hashes: readonly (readonly [label: string, sha256: string])[];
  /** Files in which findings can be seen: an image's manifest, and the configuration of its kernel. */
  manifest?: SubjectFile;
  kernelConfig?: SubjectFile;
}

export interface SubjectFile {
  path: string;
  text: string;
}

export interface Provenance {
  /** ISO 8601. */
  at: string;
  /** Caisson's. */
  version: string;
  /** As it was called. */
  command: string;
  subjects: Partial<Record<CheckKind, Subject>>;
}

/** Recommended controls that do not hold somewhere. */
const failedRecommended = ({ rows }: Audit): string[] =>
  rows
    .filter(
      ({ control, results }) =>
        control.severity === "recommended" && results.some(({ status }) => status === "fail"),
    )
    .map(({ control }) => control.id);

/** The verdict in one line: it is that of the required controls. */
export function verdictLine(audit: Audit): string {
  const { failedRequired: failed } = audit;
  const recommended = failedRecommended(audit);
  const aside =
    recommended.length === 0
      ? ""
      : `; of those that are only recommended, ${recommended.length} ${recommended.length === 1 ? "does" : "do"} not: ${recommended.join(", ")}`;
  return failed.length === 0
    ? `HOLDS   every required control holds${aside}`
    : `FAILS   ${failed.length} required ${failed.length === 1 ? "control does" : "controls do"} not hold: ${failed.join(", ")}${aside}`;
}

/** Labels and texts, for a person. */
export function provenanceRows({
  at,
  version,
  command,
  subjects,
}: Provenance): [label: string, text: string][] {
  return [
    ["at", at],
    ["by", `caisson ${version}`],
    ["command", command],
    ...Object.values(subjects).flatMap(({ name, hashes }): [string, string][] => [
      ["subject", name],
      ...hashes.map(([label, sha256]): [string, string] => [label, sha256]),
    ]),
  ];
}
