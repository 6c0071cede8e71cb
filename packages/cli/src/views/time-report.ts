// SPDX-License-Identifier: Apache-2.0
/** What `caisson time` found: as a document for programs, as a table and a picture for people. */
import { styleText } from "node:util";
import type { Synchronization } from "@caisson/nts";
import { drawIntervals, type Interval } from "./intervals.ts";

/** Milliseconds to be added to this machine's clock. */
interface Offset {
  earliest: number;
  latest: number;
}

export type TimeReport = ReturnType<typeof describe>;
type SourceReport = TimeReport["sources"][number];

/** What `--json` prints. `clock` is what this machine's clock showed, Unix milliseconds, at the instant `result.at`. */
export function describe({ agreement, at, elapsed, sources }: Synchronization, clock: number) {
  const round = (milliseconds: number) => Number(milliseconds.toFixed(3));
  const offset = (earliest: number, latest: number): Offset => ({
    earliest: round(earliest - clock),
    latest: round(latest - clock),
  });
  const date = (milliseconds: number) => new Date(milliseconds).toISOString();
  return {
    agreed: agreement.agreed,
    elapsedMs: round(elapsed),
    ...(agreement.agreed
      ? {
          time: date((agreement.earliest + agreement.latest) / 2),
          widthMs: round(agreement.latest - agreement.earliest),
          offsetMs: offset(agreement.earliest, agreement.latest),
          operators: agreement.operators,
        }
      : { reason: agreement.reason, votes: agreement.votes, quorum: agreement.quorum }),
    sources: sources.map(({ source, attempts, verdict, measurement, error }) => ({
      name: source.name,
      operator: source.operator,
      verdict,
      attempts,
      ...(measurement && {
        rttMs: round(measurement.rtt),
        stratum: measurement.stratum,
        offsetMs: offset(
          measurement.earliest + (at - measurement.at),
          measurement.latest + (at - measurement.at),
        ),
        certificate: {
          subject: measurement.chain.subject,
          issuer: measurement.chain.issuer,
          sha256: measurement.chain.fingerprint,
          chainValidFrom: date(measurement.chain.notBefore),
          chainValidTo: date(measurement.chain.notAfter),
        },
      }),
      ...(error && {
        error: { code: error.code, message: error.message, ...Object.fromEntries(error.facts) },
      }),
    })),
  };
}

/** Lines of at most `columns` characters, but for long reasons; at least 60 are needed. */
export function render(report: TimeReport, columns: number): string {
  const blocks = [table(report.sources, columns), reasons(report.sources), picture(report, columns)];
  if ("time" in report) {
    const { earliest, latest } = report.offsetMs;
    const behind = earliest + latest >= 0;
    const distance = signed(behind ? report.offsetMs : { earliest: -latest, latest: -earliest });
    const clock = `this clock is ${distance.replace("+", "")} ${behind ? "behind" : "ahead"}`;
    const operators = `${report.operators.length} operators agree, in ${Math.round(report.elapsedMs)} ms`;
    blocks.push([`${report.time}  ${operators}`, clock]);
  }
  const lines = blocks.filter((block) => block.length > 0).map((block) => `${block.join("\n")}\n`);
  return lines.join("\n");
}

function table(sources: readonly SourceReport[], columns: number): string[] {
  const head = ["source", "operator", "RTT ms", "offset", "valid until", "verdict"];
  const rows = sources.map((source) => [
    source.name,
    source.operator,
    source.rttMs?.toFixed(1) ?? "",
    source.offsetMs === undefined ? "" : signed(source.offsetMs),
    source.certificate?.chainValidTo.slice(0, 10) ?? "",
    source.verdict.replace("certificate-", ""), // it stands beside the certificate's date
  ]);
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length)));
  const surplus = widths.reduce((sum, width) => sum + width + 2, -2) - columns;
  widths[0] = Math.min(widths[0]!, Math.max(12, widths[0]! - surplus));
  return [head, ...rows].map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column]!;
        if (column === row.length - 1) return paint(cell);
        if (cell.length > width) return `${cell.slice(0, width - 1)}…`;
        return column === 2 ? cell.padStart(width) : cell.padEnd(width);
      })
      .join("  "),
  );
}

const paint = (verdict: string) =>
  verdict === "verdict" ? verdict : styleText(verdict === "agrees" ? "green" : "yellow", verdict);

/** Why there is no answer from those that gave none. */
function reasons(sources: readonly SourceReport[]): string[] {
  return sources.flatMap(({ name, error }) => {
    if (error === undefined) return [];
    const subject = error.message.includes(name) ? "" : `${name}: `;
    return [`${subject}${error.message} [${error.code}]`];
  });
}

/** The answers as intervals around the agreed time; without one, around most of those that have a time in common. */
function picture(report: TimeReport, columns: number): string[] {
  const answers = report.sources.flatMap(({ name, verdict, offsetMs }) =>
    offsetMs === undefined ? [] : [{ label: name, verdict, from: offsetMs.earliest, to: offsetMs.latest }],
  );
  if (answers.length === 0) return [];
  const agreed = "time" in report ? report.offsetMs : undefined;
  const shown = agreed ? answers.filter(({ verdict }) => verdict === "agrees") : largestGroup(answers);
  const view = { from: Math.min(...shown.map((i) => i.from)), to: Math.max(...shown.map((i) => i.to)) };
  const zero = agreed ? (agreed.earliest + agreed.latest) / 2 : 0;
  const lines: Interval[] = answers.map(({ label, from, to }) => ({ label, from, to }));
  if (agreed) lines.push({ label: "agreement", from: agreed.earliest, to: agreed.latest });
  return drawIntervals(
    lines.map(({ label, from, to }) => ({ label, from: from - zero, to: to - zero })),
    {
      from: view.from - zero,
      to: view.to - zero,
      unit: "ms",
      caption: agreed ? "from the agreed time" : "from this clock",
      columns: Math.min(columns, 120),
    },
  );
}

/** The interval that overlaps with most others, and those. */
function largestGroup<T extends Interval>(intervals: readonly T[]): T[] {
  const groups = intervals.map((one) =>
    intervals.filter((other) => one.from <= other.to && other.from <= one.to),
  );
  return groups.reduce((largest, group) => (group.length > largest.length ? group : largest));
}

/** Middle and half width, in milliseconds; without the latter and in seconds where it does not matter any more. */
function signed({ earliest, latest }: Offset): string {
  const middle = (earliest + latest) / 2;
  const sign = middle > 0 ? "+" : "";
  if (Math.abs(middle) >= 100_000) return `${sign}${(middle / 1000).toFixed(1)} s`;
  return `${sign}${middle.toFixed(1)} ± ${((latest - earliest) / 2).toFixed(1)} ms`;
}
