import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { suite, test } from "node:test";
import type { Agreement, Synchronization, SynchronizeOptions, TimeConfiguration } from "@caisson/nts";
import { publicConfiguration } from "@caisson/nts";
import type { Context } from "../stage.ts";
import { credible, judge, timeStage } from "./time.ts";

const epoch = Date.UTC(2026, 0, 1);
const now = Date.UTC(2026, 5, 1);
const own = publicConfiguration();

const agreed = (earliest: number, latest: number): Agreement => ({
  agreed: true,
  earliest,
  latest,
  operators: ["a", "b", "c"],
  verdicts: new Map(),
});
const refused: Agreement = { agreed: false, reason: "no-quorum", quorum: 4, votes: 2, verdicts: new Map() };

interface Given {
  flavour?: "production" | "development";
  time?: { secure_time: boolean; sources?: unknown };
  instanceTime?: unknown;
  agreement?: Agreement;
}

/** Runs the stage on a machine that only remembers what was asked of it. */
async function run({ flavour = "production", time = { secure_time: true }, instanceTime, agreement }: Given) {
  const seen = {
    asked: [] as { configuration: TimeConfiguration; options: SynchronizeOptions }[],
    clock: [] as number[],
    events: [] as string[],
    log: [] as string[],
    note: undefined as string | undefined,
  };
  const ask = async (
    configuration: TimeConfiguration,
    options: SynchronizeOptions,
  ): Promise<Synchronization> => {
    seen.asked.push({ configuration, options });
    const sources = configuration.sources.map((source) => ({
      source,
      attempts: 1,
      verdict: "unreachable" as const,
    }));
    return { agreement: agreement ?? agreed(now - 5, now + 6), at: performance.now(), elapsed: 300, sources };
  };
  const context = {
    config: { flavour, epoch: epoch / 1000, time },
    instance: { version: "caisson/instance/v1", seed: "00".repeat(20), time: instanceTime },
    syscalls: { clockSettime: (ms: number) => seen.clock.push(ms), adjtime: () => {} },
    log: (line: string) => seen.log.push(line),
    measure: async (name: string, payload: Uint8Array) => {
      seen.events.push(`${name} ${new TextDecoder().decode(payload)}`);
    },
  } as unknown as Context;
  try {
    seen.note = await timeStage(ask).run(context);
  } catch (error) {
    throw Object.assign(error as Error, { seen });
  }
  return seen;
}

suite("the time stage", () => {
  test("steps the clock once, to the middle, and measures who agreed on what", async () => {
    const { clock, events, asked, note } = await run({});
    equal(clock.length, 1);
    ok(clock[0]! >= now + 0.5 && clock[0]! < now + 1000);
    const payload = `{"method":"nts","midpoint":${now + 1},"operators":["a","b","c"],"origin":"image","width":11}`;
    deepEqual(events, [`secure-time ${payload}`]);
    equal(asked[0]!.options.floor, epoch);
    match(note!, /3 operators agree on 2026-06-01T00:00:00/);
  });
  test("without sources in the image, the built-in list is asked", async () => {
    deepEqual((await run({})).asked[0]!.configuration, own);
  });
  test("no agreement: no event, no step, and a reason for each source", async () => {
    await rejects(
      run({ agreement: refused }),
      (error: Error & { reason: string; seen: { [key: string]: string[] } }) => {
        equal(error.reason, "time/no-quorum");
        deepEqual([error.seen.events, error.seen.clock], [[], []]);
        equal(error.seen.log!.length, own.sources.length);
        return true;
      },
    );
  });
  test("secure_time off: nobody is asked, and the event says so", async () => {
    const { asked, events } = await run({ time: { secure_time: false } });
    deepEqual([asked, events], [[], ['secure-time {"method":"none"}']]);
  });
  test("a development image takes the instance's sources, and the event says so", async () => {
    const instanceTime = { sources: own.sources.slice(0, 3) };
    const { asked, events } = await run({ flavour: "development", instanceTime });
    equal(asked[0]!.configuration.sources.length, 3);
    match(events[0]!, /"origin":"instance"/);
  });
  test("a production image refuses them", async () => {
    await rejects(run({ instanceTime: { sources: own.sources } }), { reason: "time/instance-sources" });
  });
  test("broken sources stop the boot with the field", async () => {
    await rejects(run({ time: { secure_time: true, sources: { sources: [] } } }), {
      reason: "time/configuration",
      message: /^sources/,
    });
  });
});

suite("the clock before anybody was asked", () => {
  for (const [name, rtc, expected] of [
    ["credible", now, now],
    ["1970", 0, epoch],
    ["2001", Date.UTC(2001, 0, 1), epoch],
    ["2099", Date.UTC(2099, 0, 1), epoch],
    ["a second before the build", epoch - 1000, epoch],
    ["at the build", epoch, epoch],
  ] as const) {
    test(name, () => equal(credible(rtc, epoch), expected));
  }
});

suite("later checks", () => {
  const hour = 3600 * 1000;
  const check = (agreement: Agreement, off: number, since: number) => judge({ agreement }, now - off, since);
  test("drift is slewed", () => {
    deepEqual(check(agreed(now - 10, now + 10), 50, hour), { verdict: "slew", by: 50 });
    deepEqual(check(agreed(now - 10, now + 10), -50, hour), { verdict: "slew", by: -50 });
  });
  test("what drift allows grows with the time since the last good check, and not beyond", () => {
    equal(check(agreed(now, now), 1899, hour).verdict, "slew");
    equal(check(agreed(now, now), 1901, hour).verdict, "alarm");
  });
  test("an hour of pause raises the alarm", () => {
    equal(check(agreed(now - 10, now + 10), hour, 64_000).verdict, "alarm");
  });
  test("no agreement is no alarm at first, and one after a day", () => {
    equal(check(refused, 0, hour).verdict, "unknown");
    equal(check(refused, 0, 25 * hour).verdict, "alarm");
  });
});
