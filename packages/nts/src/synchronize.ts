// SPDX-License-Identifier: Apache-2.0
/** All sources at once, until enough operators agree or time is up. */
import { setMaxListeners } from "node:events";
import { type Agreement, agree, type Rules, type Sample, type Verdict } from "./agreement.ts";
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
  options: SynchronizeOptions,
): Promise<Synchronization> {
  const round = new Round(configuration, options);
  await round.run();
  const result = round.conclude();
  for (const report of result.sources) {
    if (report.measurement !== undefined) continue;
    const waited = `${report.source.name} had not answered when the others were done, after ${Math.round(result.elapsed)} ms`;
    report.error ??= new NtsError("time/late", waited);
  }
  return result;
}

/** One synchronization: what the sources said so far, and what is still waited for. */
class Round {
  readonly #limits: TimeConfiguration["limits"];
  readonly #rules: Rules;
  readonly #floor: number;
  readonly #environment: Environment;
  readonly #associations: Map<string, Association>;
  readonly #started: number;
  readonly #reports: SourceReport[];
  readonly #stop = new AbortController();
  readonly #done = Promise.withResolvers<void>();
  #settle: NodeJS.Timeout | undefined;
  #refining: Promise<void> | undefined;

  constructor(
    { sources, minOperators, limits }: TimeConfiguration,
    { floor, environment = systemEnvironment, associations = new Map() }: SynchronizeOptions,
  ) {
    this.#limits = limits;
    this.#rules = {
      operators: sources.map((source) => source.operator),
      minOperators,
      maxRtt: limits.maxRttMs,
      maxWidth: limits.maxWidthMs,
      floor,
    };
    this.#floor = floor;
    this.#environment = environment;
    this.#associations = associations;
    this.#started = environment.monotonic();
    this.#reports = sources.map((source) => ({ source, attempts: 0, verdict: "unreachable" }));
    setMaxListeners(0, this.#stop.signal); // every source listens, and that is not a leak
  }

  /** Until there is agreement, nothing is left to ask, or time is up. */
  async run(): Promise<void> {
    const { promise, resolve, reject } = this.#done;
    const limit = setTimeout(resolve, this.#limits.timeoutMs);
    try {
      Promise.all(this.#reports.map((report) => this.#untilMeasured(report)))
        .then(() => this.#refining)
        .then(resolve, reject);
      await promise;
    } finally {
      clearTimeout(limit);
      clearTimeout(this.#settle);
      this.#stop.abort();
    }
  }

  /** What follows from the answers by now. */
  conclude(): Synchronization {
    const at = this.#environment.monotonic();
    const agreement = agree(
      this.#reports.flatMap((report) => sampleAt(report, at)),
      this.#rules,
    );
    for (const report of this.#reports) {
      report.verdict = agreement.verdicts.get(report.source.name) ?? "unreachable";
    }
    return { agreement, at, elapsed: at - this.#started, sources: this.#reports };
  }

  async #untilMeasured(report: SourceReport): Promise<void> {
    const { signal } = this.#stop;
    for (let pause = firstRetryMs; !signal.aborted; pause = Math.min(pause * 2, longestRetryMs)) {
      await this.#ask(report);
      if (report.measurement !== undefined && report.measurement.rtt <= this.#limits.maxRttMs) return;
      if (report.error?.code === "ntp/kiss") return; // it wants to be left alone (RFC 5905, section 7.4)
      await delay(pause, signal);
    }
  }

  /** One attempt. A source's narrowest measurement is kept. */
  async #ask(report: SourceReport): Promise<void> {
    const { signal } = this.#stop;
    report.attempts++;
    try {
      const measurement = await measure(
        report.source,
        this.#associations,
        this.#environment,
        this.#floor,
        signal,
      );
      const kept = report.measurement;
      if (kept === undefined || width(measurement) < width(kept)) {
        report.measurement = measurement;
      }
      delete report.error;
    } catch (error) {
      if (!(error instanceof NtsError)) throw error;
      if (report.measurement === undefined && !signal.aborted) report.error = error;
      return;
    }
    this.#consider();
  }

  /** After an answer: ends soon if there is agreement, and asks again if it is too vague. */
  #consider(): void {
    const { agreement, elapsed } = this.conclude();
    if (agreement.agreed) {
      this.#settle ??= setTimeout(() => this.#settled(), Math.max(settleMs, elapsed / 4));
    } else if (agreement.reason === "too-wide") {
      this.#refining ??= this.#refine().catch(this.#done.reject);
    }
  }

  /** A late answer may have made the agreement too vague again; then it goes on. */
  #settled(): void {
    this.#settle = undefined;
    if (this.conclude().agreement.agreed) this.#done.resolve();
    else this.#consider();
  }

  async #refine(): Promise<void> {
    const { signal } = this.#stop;
    for (let round = 0; round < refinements && !signal.aborted; round++) {
      await delay(firstRetryMs, signal);
      const { agreement } = this.conclude();
      if (agreement.agreed || agreement.reason !== "too-wide") return;
      const answered = this.#reports.filter(({ measurement }) => measurement !== undefined);
      await Promise.all(answered.map((report) => this.#ask(report)));
    }
  }
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
