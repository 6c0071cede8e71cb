/** `caisson time [--servers FILE] [--json] [--set]`: asks NTS servers for the time and shows who agrees. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import {
  NtsError,
  parseTimeConfiguration,
  publicConfiguration,
  type Synchronization,
  synchronize,
} from "@caisson/nts";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { drawIntervals } from "../intervals.ts";

/** No earlier time is believed: this program did not exist then. */
const floor = Date.UTC(2026, 0, 1);

export const command = new Command("caisson time")
  .option(
    "--servers <file>",
    "time sources as JSON (docs/secure-time.md); the built-in public ones when left out",
  )
  .option("--json", "one JSON document")
  .option("--set", "set this machine's clock to the agreed time (needs the right to)")
  .action(async (options: { servers?: string; json?: boolean; set?: boolean }) => {
    const configuration =
      options.servers === undefined
        ? publicConfiguration()
        : parseTimeConfiguration(readJson(options.servers));
    const result = await synchronize(configuration, { floor });
    const clock = Date.now() - (performance.now() - result.at);
    const report = describe(result, clock);
    process.stdout.write(options.json === true ? `${JSON.stringify(report, null, 2)}\n` : render(report));
    const { agreement } = result;
    if (!agreement.agreed) {
      const seconds = (result.elapsed / 1000).toFixed(1);
      const found = `${agreement.votes} operators agree at most, ${agreement.quorum} are needed`;
      const wide = `the interval on which they agree is wider than ${configuration.limits.maxWidthMs} ms`;
      throw new NtsError(
        "time/no-agreement",
        `no agreement on the time after ${seconds} s: ${agreement.reason === "too-wide" ? wide : found}`,
      );
    }
    if (options.set === true) {
      setClock((agreement.earliest + agreement.latest) / 2 + (performance.now() - result.at));
      process.stderr.write("the clock was set\n");
    }
  });

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new NtsError("nts/configuration", `cannot read ${file}: ${(error as Error).message}`, {
      fix: "docs/secure-time.md shows the format",
    });
  }
}

type Report = ReturnType<typeof describe>;

/** What `--json` prints. Offsets are to this machine's clock; `clock` is what it showed at the instant `result.at`. */
function describe({ agreement, at, elapsed, sources }: Synchronization, clock: number) {
  const round = (milliseconds: number) => Number(milliseconds.toFixed(3));
  const offset = (earliest: number, latest: number) => ({
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
    sources: sources.map(({ source, attempts, verdict, measurement, chain, error }) => ({
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
      }),
      ...(chain && {
        certificate: {
          subject: chain.subject,
          issuer: chain.issuer,
          sha256: chain.fingerprint,
          chainValidFrom: date(chain.notBefore),
          chainValidTo: date(chain.notAfter),
        },
      }),
      ...(error && {
        error: { code: error.code, message: error.message, ...Object.fromEntries(error.facts) },
      }),
    })),
  };
}

function render(report: Report): string {
  const head = ["source", "operator", "RTT ms", "offset ms", "certificate until", "verdict"];
  const rows = report.sources.map((source) => [
    source.name,
    source.operator,
    source.rttMs?.toFixed(1) ?? "",
    source.offsetMs === undefined ? "" : plusMinus(source.offsetMs),
    source.certificate?.chainValidTo.slice(0, 10) ?? "",
    source.error === undefined
      ? source.verdict
      : `${source.verdict}: ${source.error.message} [${source.error.code}]`,
  ]);
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length)));
  const lines = [head, ...rows].map((row) =>
    row
      .map((cell, column) => (column === 2 ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join("  "),
  );
  const drawn = (sources: Report["sources"]) =>
    sources.flatMap(({ name, offsetMs }) =>
      offsetMs === undefined ? [] : [{ label: name, from: offsetMs.earliest, to: offsetMs.latest }],
    );
  const intervals = drawn(report.sources);
  if (intervals.length > 0) {
    // In view: those that agree, so that a liar an hour away is an arrow and not the scale.
    const agreeing = drawn(report.sources.filter(({ verdict }) => verdict === "agrees"));
    const shown = agreeing.length > 0 ? agreeing : intervals;
    const view = { from: Math.min(...shown.map((i) => i.from)), to: Math.max(...shown.map((i) => i.to)) };
    if ("time" in report) {
      intervals.push({ label: "agreement", from: report.offsetMs.earliest, to: report.offsetMs.latest });
    }
    lines.push("", ...drawIntervals(intervals, view, "ms"));
  }
  if ("time" in report) {
    const operators = `${report.operators.length} operators agree`;
    lines.push(
      "",
      `${report.time}  ${operators}, this clock is off by ${plusMinus(report.offsetMs)} ms; ` +
        `it took ${Math.round(report.elapsedMs)} ms`,
    );
  }
  return `${lines.map((line) => line.trimEnd()).join("\n")}\n`;
}

function plusMinus({ earliest, latest }: { earliest: number; latest: number }): string {
  const middle = (earliest + latest) / 2;
  return `${middle > 0 ? "+" : ""}${middle.toFixed(1)} ± ${((latest - earliest) / 2).toFixed(1)}`;
}

/** Node cannot set the clock; coreutils can, to the nanosecond. */
function setClock(milliseconds: number): void {
  try {
    execFileSync("date", ["--utc", `--set=@${(milliseconds / 1000).toFixed(6)}`], { stdio: "pipe" });
  } catch {
    throw new UsageError(
      "the system refused to set the clock",
      "run it as root, on a machine whose clock is its own",
    );
  }
}
