// SPDX-License-Identifier: Apache-2.0
/** The audit as SARIF 2.1.0 (OASIS), for tools that collect findings. */
import { pathToFileURL } from "node:url";
import type { Audit, Result, Row } from "./audit.ts";
import { sources } from "./control.ts";
import { type Place, placeOf } from "./finding-place.ts";
import { type Provenance, type Subject, verdictLine } from "./provenance.ts";

const schema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/** A plain object, ready for JSON. */
export function sarif(audit: Audit, { at, version, command, subjects }: Provenance): object {
  const rows = audit.rows.map((row, ruleIndex) => ({ row, ruleIndex }));
  return {
    $schema: schema,
    version: "2.1.0",
    runs: [
      {
        tool: {
          driver: {
            name: "caisson audit",
            version,
            rules: audit.rows.map(({ control }) => ({
              id: control.id,
              name: control.title,
              shortDescription: { text: control.title },
              fullDescription: { text: control.why },
              help: { text: `${control.why} Source: ${sources[control.source]}.` },
              defaultConfiguration: { level: level(control.severity) },
              properties: { group: control.group, decision: control.decision },
            })),
          },
        },
        properties: { verdict: verdictLine(audit) },
        invocations: [
          {
            commandLine: command,
            startTimeUtc: at,
            executionSuccessful: true,
            exitCode: audit.failedRequired.length === 0 ? 0 : 10,
          },
        ],
        artifacts: Object.values(subjects).map(({ name, hashes }) => ({
          location: { uri: subjectUri(name) },
          properties: Object.fromEntries(hashes),
        })),
        results: rows.flatMap(({ row, ruleIndex }) =>
          row.results
            .filter(({ status }) => status === "fail" || status === "deviation" || status === "accepted")
            .map((result) => finding(row, ruleIndex, result, subjects[result.kind])),
        ),
      },
    ],
  };
}

const level = (severity: Row["control"]["severity"]) => (severity === "required" ? "error" : "warning");

/**
 * A subject as a URI reference (RFC 3986): an address as it is, an absolute path as a file, any other path relative to
 * where the tool ran.
 */
export function subjectUri(subject: string): string {
  if (/^https?:\/\//.test(subject)) return encodeURI(subject);
  if (subject.startsWith("/")) return pathToFileURL(subject).href;
  const path = encodeURI(subject).replaceAll("#", "%23").replaceAll("?", "%3F");
  return /^[^/]*:/.test(path) ? `./${path}` : path;
}

function finding(
  { control }: Row,
  ruleIndex: number,
  { kind, status, details }: Result,
  subject: Subject | undefined,
): object {
  const { path, line }: Place = subject === undefined ? { path: kind } : placeOf(control, details, subject);
  return {
    ruleId: control.id,
    ruleIndex,
    level: level(control.severity),
    kind: "fail",
    message: { text: `${control.title} (${kind}): ${details.join("; ")}` },
    locations: [
      {
        physicalLocation: {
          artifactLocation: { uri: subjectUri(path) },
          ...(line !== undefined && { region: { startLine: line } }),
        },
      },
    ],
    partialFingerprints: { control: `${control.id}/${kind}` },
    ...(status !== "fail" && {
      suppressions: [{ kind: "external", status: "accepted", justification: details[0] }],
    }),
  };
}
