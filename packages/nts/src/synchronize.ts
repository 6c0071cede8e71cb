// SPDX-License-Identifier: Apache-2.0
/** All sources at once, until enough operators agree or time is up. */
import { setMaxListeners } from "node:events";
import { type Agreement, agree, type Sample, type Verdict } from "./agreement.ts";
import type { TimeConfiguration, TimeSource } from "./configuration.ts";
import { type Environment, systemEnvironment } from "./environment.ts";
import { NtsError } from "./errors.ts";
import type { Association } from "./ntske-client.ts";
import { type Measurement, measure } from "./source.ts";

/** What became of one source. */
export interface SourceReport {
  source: TimeSource;
  attempts: number;
  /** Verdict of the agreement; `unreachable` when there was nothing to judge, and then `error` says why. */
  verdict: Verdict | "unreachable";
  measurement?: Measurement;
  error?: NtsError;
}

export interface Synchronization {
  agreement: Agreement;
  /** Monotonic milliseconds to which the agreement's interval refers. */
  at: number;
  /** How long it took, in milliseconds. */
  elapsed: number;
  sources: SourceReport[];
}

export interface SynchronizeOptions {
  /** The build epoch, Unix milliseconds: no earlier time is believed. */
  floor: number;
  environment?: Environment;
  /** Keys and cookies from an earlier call, and for a later one. */
  associations?: Map<string, Association>;
}

/**
 * After the quorum is reached, how long the others may take to join: a quarter of the time that it took, and at
 * least this. It costs little, and a liar that is not in the record cannot be named.
 */
const settleMs = 50;
const firstRetryMs = 200;
const longestRetryMs = 2000;
/**
 * How often all are measured again when they agree, but too vaguely: on a slow machine, the first replies wait while
 * the processor does the other sources' handshakes, and that waiting counts as round trip.
 */
const refinements = 4;
/** How wrong the local oscillator may be, as a part of the time that has passed (RFC 5905: 15; chrony: 100). */
const driftPpm = 500;

/**
 * Asks every source in parallel. A source that fails is asked again, with growing pauses, until `limits.timeoutMs`;
 * when the operators agree but too vaguely, all are asked again, and each source's narrowest interval counts.
 * Never throws for what a server or the network does: the report says what each source did.
 */
export async function synchronize(
  configuration: TimeConfiguration,
  { floor, environment = systemEnvironment, associations = new Map() }: SynchronizeOptions,
): Promise<Synchronization> {
  const started = environment.monotonic();
  const { sources, minOperators, limits } = configuration;
  const rules = {
    operators: sources.map((source) => source.operator),
    minOperators,
    maxRtt: limits.maxRttMs,
    maxWidth: limits.maxWidthMs,
    floor,
  };
  const reports = sources.map((source): SourceReport => ({ source, attempts: 0, verdict: "unreachable" }));
  const stop = new AbortController();
  setMaxListeners(0, stop.signal); // every source listens, and that is not a leak
  const conclude = (): Synchronization => {
    const at = environment.monotonic();
    const agreement = agree(
      reports.flatMap((report) => sampleAt(report, at)),
      rules,
    );
    for (const report of reports) {
      report.verdict = agreement.verdicts.get(report.source.name) ?? "unreachable";
    }
    return { agreement, at, elapsed: at - started, sources: reports };
  };

  await new Promise<void>((resolve, reject) => {
    const limit = setTimeout(resolve, limits.timeoutMs);
    let settle: NodeJS.Timeout | undefined;
    let refining: Promise<void> | undefined;
    stop.signal.addEventListener("abort", () => {
      clearTimeout(limit);
      clearTimeout(settle);
    });

    /** After an answer: ends soon if there is agreement, and asks again if it is too vague. */
    const consider = (): void => {
      const { agreement } = conclude();
      if (agreement.agreed) {
        settle ??= setTimeout(settled, Math.max(settleMs, (environment.monotonic() - started) / 4));
      } else if (agreement.reason === "too-wide") refining ??= refine().catch(reject);
    };
    /** A late answer may have made the agreement too vague again; then it goes on. */
    const settled = (): void => {
      settle = undefined;
      if (conclude().agreement.agreed) resolve();
      else consider();
    };
    /** One attempt. A source's narrowest measurement is kept. */
    const ask = async (report: SourceReport): Promise<void> => {
      report.attempts++;
      try {
        const measurement = await measure(report.source, associations, environment, floor, stop.signal);
        const kept = report.measurement;
        if (kept === undefined || width(measurement) < width(kept)) {
          report.measurement = measurement;
        }
        delete report.error;
      } catch (error) {
        if (!(error instanceof NtsError)) throw error;
        if (report.measurement === undefined && !stop.signal.aborted) report.error = error;
        return;
      }
      consider();
    };
    const untilMeasured = async (report: SourceReport): Promise<void> => {
      for (let pause = firstRetryMs; !stop.signal.aborted; pause = Math.min(pause * 2, longestRetryMs)) {
        await ask(report);
        if (report.measurement !== undefined && report.measurement.rtt <= limits.maxRttMs) return;
        if (report.error?.code === "ntp/kiss") return; // it wants to be left alone (RFC 5905, section 7.4)
        await delay(pause, stop.signal);
      }
    };
    const refine = async (): Promise<void> => {
      for (let round = 0; round < refinements && !stop.signal.aborted; round++) {
        await delay(firstRetryMs, stop.signal);
        const { agreement } = conclude();
        if (agreement.agreed || agreement.reason !== "too-wide") return;
        await Promise.all(reports.filter(({ measurement }) => measurement !== undefined).map(ask));
      }
    };
    Promise.all(reports.map(untilMeasured))
      .then(() => refining)
      .then(resolve, reject);
  }).finally(() => stop.abort());
  const result = conclude();
  for (const report of reports) {
    if (report.measurement !== undefined) continue;
    const waited = `${report.source.name} had not answered when the others were done, after ${Math.round(result.elapsed)} ms`;
    report.error ??= new NtsError("time/late", waited);
  }
  return result;
}

const width = ({ earliest, latest }: Measurement) => latest - earliest;

/** The measurement brought to the instant `at`, wider by what the oscillator may have drifted since it was asked. */
function sampleAt(report: SourceReport, at: number): Sample[] {
  const { source, measurement } = report;
  if (measurement === undefined) return [];
  const passed = at - measurement.at;
  const drift = ((passed + measurement.rtt) * driftPpm) / 1e6;
  return [
    {
      source: source.name,
      operator: source.operator,
      earliest: measurement.earliest + passed - drift,
      latest: measurement.latest + passed + drift,
      rtt: measurement.rtt,
      notBefore: measurement.chain.notBefore,
      notAfter: measurement.chain.notAfter,
    },
  ];
}

function delay(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done, { once: true });
    if (signal.aborted) done();
  });
}
