// SPDX-License-Identifier: Apache-2.0

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import type { Agreement, Synchronization, SynchronizeOptions, TimeConfiguration } from "@caisson/nts";
import { publicConfiguration } from "@caisson/nts";
import type { Flavour } from "@caisson/vocabulary/flavours";
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
  flavour?: Flavour;
  time?: { secure_time: boolean; configuration?: unknown };
  instanceTime?: unknown;
  agreement?: Agreement;
  /** What later checks find, one after the other; some never end. */
  later?: (() => Agreement | Promise<Agreement>)[];
}

/** Runs the stage on a machine that only remembers what was asked of it. */
async function run({
  flavour = "production",
  time = { secure_time: true },
  instanceTime,
  agreement,
  later = [],
}: Given) {
  const seen = {
    asked: [] as { configuration: TimeConfiguration; options: SynchronizeOptions }[],
    clock: [] as number[],
    events: [] as string[],
    log: [] as string[],
    slewed: [] as number[],
    frozen: [] as boolean[],
    note: undefined as string | undefined,
    context: undefined as unknown as Context,
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
    const first = seen.asked.length === 1;
    const found = (await (first ? agreement : later.shift()?.())) ?? agreed(now - 5, now + 6);
    return { agreement: found, at: performance.now(), elapsed: 300, sources };
  };
  seen.context = {
    config: { flavour, epoch: epoch / 1000, time },
    instance: { version: "caisson/instance/v1", seed: "00".repeat(20), time: instanceTime },
    keyFiles: { freeze: (frozen: boolean) => seen.frozen.push(frozen) },
    syscalls: {
      clockSettime: (ms: number) => seen.clock.push(ms),
      adjtime: (ms: number) => seen.slewed.push(ms),
    },
    log: (line: string) => seen.log.push(line),
    measure: async (name: string, payload: Uint8Array) => {
      seen.events.push(`${name} ${new TextDecoder().decode(payload)}`);
    },
  } as unknown as Context;
  try {
    seen.note = await timeStage(ask).run(seen.context);
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
    await rejects(run({ time: { secure_time: true, configuration: { sources: [] } } }), {
      reason: "time/configuration",
      message: /^sources/,
    });
  });
});

test("an RTC that is not believed: the build epoch until there is agreement, and the console says so", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: 0 });
  const { clock, log } = await run({});
  deepEqual([clock.length, clock[0]], [2, epoch]);
  match(log[0]!, /the RTC says 1970-01-01T00:00:00\.000Z, which is not believed/);
});
test("agreement on too wide an interval is told as that", async () => {
  const wide: Agreement = { agreed: false, reason: "too-wide", quorum: 3, votes: 5, verdicts: new Map() };
  await rejects(run({ agreement: wide }), { reason: "time/too-wide", message: /interval .* is too wide$/ });
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
  test("an hour of pause raises the alarm, and so does a clock that is an hour ahead", () => {
    equal(check(agreed(now - 10, now + 10), hour, 64_000).verdict, "alarm");
    equal(check(agreed(now - 10, now + 10), -hour, 64_000).verdict, "alarm");
  });
  test("a clock ahead is granted as little as one behind", () => {
    equal(check(agreed(now, now), -1899, hour).verdict, "slew");
    equal(check(agreed(now, now), -1901, hour).verdict, "alarm");
  });
  test("no agreement is not an alarm at first, and one after a day", () => {
    equal(check(refused, 0, hour).verdict, "unknown");
    equal(check(refused, 0, 25 * hour).verdict, "alarm");
  });
});

suite("the watch over the clock", () => {
  /** What a check finds when the sources say that this clock is behind by `from` to `to` milliseconds. */
  const behind =
    (from: number, to = from) =>
    () =>
      agreed(Date.now() + from, Date.now() + to);

  /** Runs the stage and then a check after each pause; returns what there was after each, and the pauses. */
  async function watch(t: TestContext, later: (() => Agreement | Promise<Agreement>)[]) {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now });
    t.mock.method(performance, "now", () => Date.now() - now);
    const checks = later.length;
    const seen = await run({ later });
    const states: { alarm: boolean; slewed: number[] }[] = [];
    const pauses: number[] = [];
    for (let i = 0; i < checks; i++) {
      let pause = 0;
      while (seen.asked.length < i + 2 && pause < 4000) {
        t.mock.timers.tick(1000);
        pause++;
        // A check that gives up goes on from its promise.
        await new Promise((resolve) => setImmediate(resolve));
      }
      pauses.push(pause);
      await new Promise((resolve) => setImmediate(resolve));
      const slewed = seen.slewed.splice(0).map(Math.round);
      states.push({ alarm: seen.context.clockAlarm === true, slewed });
    }
    return { ...seen, states, pauses };
  }

  test("drift is slewed, at most half a second at once; the clock is never stepped again", async (t) => {
    const { states, clock } = await watch(t, [behind(50), behind(-50), behind(0, 1400)]);
    deepEqual(states, [
      { alarm: false, slewed: [50] },
      { alarm: false, slewed: [-50] },
      { alarm: false, slewed: [500] },
    ]);
    equal(clock.length, 1);
  });
  test("a jump freezes the keys and is not slewed, until clock and sources agree again", async (t) => {
    const { states, clock, log, frozen } = await watch(t, [
      behind(10_000),
      behind(10_000),
      () => refused,
      behind(3),
    ]);
    deepEqual(frozen, [true, true, false]);
    deepEqual(states, [
      { alarm: true, slewed: [] },
      { alarm: true, slewed: [] },
      { alarm: true, slewed: [] },
      { alarm: false, slewed: [3] },
    ]);
    equal(clock.length, 1);
    match(log.join("\n"), /the clock is off by 10000 ms/);
  });
  test("a clock ahead of its sources freezes the keys and is not slewed", async (t) => {
    const { states, log } = await watch(t, [behind(-10_000), behind(-10_000), behind(-3)]);
    deepEqual(states, [
      { alarm: true, slewed: [] },
      { alarm: true, slewed: [] },
      { alarm: false, slewed: [-3] },
    ]);
    match(log.join("\n"), /the clock is off by -10000 ms/);
  });
  test("drift counts from the last check that found the clock right", async (t) => {
    // 128 s after the first check 164 ms are drift; 192 s after the start it would have been 196 ms.
    for (const [off, alarm] of [
      [160, false],
      [180, true],
    ] as const) {
      t.mock.reset();
      const { states } = await watch(t, [behind(0), behind(off)]);
      equal(states[1]!.alarm, alarm);
    }
  });
  test("what was a jump does not become drift by waiting", async (t) => {
    const { states } = await watch(t, [behind(10_000), behind(150), behind(150)]);
    deepEqual(
      states.map(({ alarm }) => alarm),
      [true, true, true],
    );
  });
  test("silence is not an alarm, and one after a day", async (t) => {
    const { states } = await watch(
      t,
      Array.from({ length: 90 }, () => () => refused),
    );
    const first = states.findIndex(({ alarm }) => alarm);
    // 64 + 128 + 256 + 512 s, then 1024 s each.
    equal(first, 4 + Math.floor((24 * 3600 - 960) / 1024));
  });
  test("pauses double from 64 s to 1024 s", async (t) => {
    const { pauses } = await watch(
      t,
      Array.from({ length: 6 }, () => behind(0)),
    );
    deepEqual(pauses, [64, 128, 256, 512, 1024, 1024]);
  });
  test("checks that throw, and checks that never end, are silence: an alarm after a day", async (t) => {
    const broken = () => {
      throw new Error("no memory");
    };
    const endless = () => new Promise<Agreement>(() => {});
    for (const [later, pause] of [
      [broken, 1024],
      [endless, 1024 + 300],
    ] as const) {
      t.mock.reset();
      const { states, log } = await watch(
        t,
        Array.from({ length: 90 }, () => later),
      );
      const first = states.findIndex(({ alarm }) => alarm);
      ok(Math.abs(first * pause - 24 * 3600) < 4 * pause, `after ${first} checks`);
      match(
        log[0]!,
        /check failed: .*(no memory|did not end within 300 s); the clock was found right (64|364) s ago/,
      );
    }
  });
  test("a check that fails is told, and the next one comes all the same", async (t) => {
    const broken = () => {
      throw new Error("no memory");
    };
    const { states, log } = await watch(t, [broken, behind(10_000)]);
    deepEqual(
      states.map(({ alarm }) => alarm),
      [false, true],
    );
    match(log[0]!, /check failed: Error: no memory/);
  });
});
