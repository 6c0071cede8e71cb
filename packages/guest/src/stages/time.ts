// SPDX-License-Identifier: Apache-2.0
/**
 * What time it is, from authenticated sources of several operators, before any key is asked for.
 *
 * Invariants: the clock is never below the build epoch; the RTC, which is the host's word, is a hint that counts
 * only within `hintYears` of it; the clock is stepped once, here, and only slewed afterwards; the RTC is never
 * written; without agreement the boot stops (or, with `secure_time: false`, the measured event says "none"). Who
 * was asked comes from the measured image; a development image lets the instance document say it, and the event
 * then says so.
 */
import {
  type Association,
  NtsError,
  parseTimeConfiguration,
  publicConfiguration,
  type Synchronization,
  synchronize,
  type TimeConfiguration,
  whyNot,
} from "@caisson/nts";
import { canonicalJson } from "@caisson/vocabulary/canonical-json";
import { withLimit } from "../limit.ts";
import { type Context, type Stage, StageFailure } from "../stage.ts";

const hintYears = 10;
const year = 365.25 * 24 * 3600 * 1000;

/** Pauses between later checks, milliseconds: NTP's usual poll intervals from 2^6 to 2^10 s. */
const firstPause = 64_000;
const longestPause = 1_024_000;
/** A check ends by itself within the configuration's limit, two minutes at most; this is for one that does not. */
const checkLimit = 300_000;
/** Without a successful check for this long, the clock is not vouched for any more. */
const longestSilence = 24 * 3600 * 1000;
/** A later check may correct at most this much; more is not drift. The rate is what an honest TSC stays within. */
const slack = 100;
const driftPpm = 500;

/** The clock before anybody was asked: the RTC's time if it is credible, else the build epoch. Unix milliseconds. */
export function credible(rtc: number, epoch: number): number {
  return rtc >= epoch && rtc <= epoch + hintYears * year ? rtc : epoch;
}

export type ClockVerdict =
  | { verdict: "slew"; by: number }
  | { verdict: "alarm"; message: string }
  | { verdict: "unknown"; message: string };

/**
 * What to do about a later check. `clock` is the guest's clock (Unix milliseconds) at the instant of the
 * agreement, `since` the milliseconds since the last check that found it right.
 */
export function judge(
  { agreement }: Pick<Synchronization, "agreement">,
  clock: number,
  since: number,
): ClockVerdict {
  if (!agreement.agreed) return silence(since, "no agreement on the time");
  const { earliest, latest } = agreement;
  const by = (earliest + latest) / 2 - clock;
  const allowed = slack + (since * driftPpm) / 1e6 + (latest - earliest) / 2;
  return Math.abs(by) > allowed
    ? {
        verdict: "alarm",
        message: `the clock is off by ${Math.round(by)} ms; at most ${Math.round(allowed)} ms would be drift`,
      }
    : { verdict: "slew", by };
}

/** What to do after a check that found nothing out, for whatever reason. */
function silence(since: number, message: string): Exclude<ClockVerdict, { verdict: "slew" }> {
  const verdict = since > longestSilence ? "alarm" : "unknown";
  return { verdict, message: `${message}; the clock was found right ${Math.round(since / 1000)} s ago` };
}

function sources({ config, instance }: Context): {
  origin: "image" | "instance";
  configuration: TimeConfiguration;
} {
  const named = instance?.time;
  if (named !== undefined && config.flavour !== "development") {
    throw new StageFailure(
      "time/instance-sources",
      "the host names time sources; only a development image lets it",
    );
  }
  try {
    if (named !== undefined) return { origin: "instance", configuration: parseTimeConfiguration(named) };
    const own = config.time.configuration;
    const configuration = own === undefined ? publicConfiguration() : parseTimeConfiguration(own);
    return { origin: "image", configuration };
  } catch (error) {
    if (!(error instanceof NtsError)) throw error;
    throw new StageFailure("time/configuration", error.message);
  }
}

/** What each source did, a line each. */
function sourceLines({ sources }: Synchronization): string[] {
  return sources.map(({ source, verdict, measurement, error }) => {
    const detail = error === undefined ? "" : `: ${error.message} [${error.code}]`;
    const rtt = measurement === undefined ? "" : `, ${measurement.rtt.toFixed(1)} ms`;
    return `time: ${source.name} (${source.operator}) ${verdict}${rtt}${detail}`;
  });
}

/** `ask` is `synchronize`, or a test's. */
export function timeStage(ask: typeof synchronize): Stage {
  return {
    name: "time",
    limitMs: checkLimit + 60_000,
    async run(context) {
      const { config, syscalls, log, measure } = context;
      const epoch = config.epoch * 1000;
      const rtc = Date.now();
      const start = credible(rtc, epoch);
      if (start !== rtc) {
        log(
          `time: the RTC says ${new Date(rtc).toISOString()}, which is not believed: the build epoch is taken`,
        );
        syscalls.clockSettime(start);
      }
      const event = (value: object) => measure("secure-time", new TextEncoder().encode(canonicalJson(value)));
      if (!config.time.secure_time) {
        await event({ method: "none" });
        return "secure_time is off: the clock is the host's, above the build epoch";
      }

      const { origin, configuration } = sources(context);
      const associations = new Map<string, Association>();
      const question = () =>
        withLimit(
          ask(configuration, { floor: epoch, associations }),
          checkLimit,
          () => new StageFailure("time/no-end", `asking did not end within ${checkLimit / 1000} s`),
        );
      const result = await question();
      const { agreement, at, elapsed } = result;
      if (!agreement.agreed) {
        for (const line of sourceLines(result)) log(line);
        throw new StageFailure(
          `time/${agreement.reason}`,
          `no agreement on the time within ${Math.round(elapsed)} ms: ${whyNot(agreement)}`,
        );
      }
      const { earliest, latest, operators } = agreement;
      const midpoint = (earliest + latest) / 2;
      syscalls.clockSettime(midpoint + (performance.now() - at));
      await event({
        method: "nts",
        midpoint: Math.round(midpoint),
        operators,
        origin,
        width: Math.ceil(latest - earliest),
      });
      if (agreement.verdicts.values().some((verdict) => verdict !== "agrees")) {
        for (const line of sourceLines(result)) log(line);
      }
      keepWatch(context, question);
      return (
        `${operators.length} operators agree on ${new Date(midpoint).toISOString()} ` +
        `± ${((latest - earliest) / 2).toFixed(1)} ms, after ${Math.round(elapsed)} ms`
      );
    },
  };
}

/**
 * Asks again and again: slews what is drift, and raises the alarm, which freezes the keys, at what is not. A check
 * that throws or does not end is silence like any other.
 */
function keepWatch(context: Context, ask: () => Promise<Synchronization>): void {
  let good = performance.now();
  // After an alarm no drift is granted: what was a jump does not become drift by waiting.
  const since = () => (context.clockAlarm === true ? 0 : performance.now() - good);
  const alarm = (raised: boolean): void => {
    context.clockAlarm = raised;
    context.keyFiles.freeze(raised);
  };
  const check = async (): Promise<void> => {
    const result = await ask();
    const now = performance.now();
    const decision = judge(result, Date.now() - (now - result.at), since());
    if (decision.verdict !== "slew") {
      heed(decision);
      return;
    }
    context.log(`time: the clock was off by ${decision.by.toFixed(1)} ms and is slewed`);
    // One call of adjtime(2) takes at most half a second; the rest waits for the next check.
    context.syscalls.adjtime(Math.max(-500, Math.min(500, decision.by)));
    good = now;
    if (context.clockAlarm === true) context.log("time: the clock agrees with its sources again");
    alarm(false);
  };
  const heed = ({ verdict, message }: Exclude<ClockVerdict, { verdict: "slew" }>): void => {
    if (verdict === "alarm") alarm(true);
    context.log(`time: ${message}`);
  };
  const next = (pause: number) => {
    setTimeout(() => {
      check()
        .catch((error: unknown) => heed(silence(since(), `check failed: ${String(error)}`)))
        .finally(() => next(Math.min(pause * 2, longestPause)));
    }, pause).unref();
  };
  next(firstPause);
}

export const time: Stage = timeStage(synchronize);
