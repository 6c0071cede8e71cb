// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { agree, NtsError, publicConfiguration, type SourceReport, type Synchronization } from "@caisson/nts";
import { describe, render } from "./time-report.ts";

const now = Date.UTC(2026, 5, 1);
const day = 24 * 3600 * 1000;
const configuration = publicConfiguration();

/** The built-in sources answer with these offsets to a clock that shows `now`; undefined does not answer. */
function found(offsets: (number | undefined)[], more: { validTo?: number } = {}): Synchronization {
  const sources = configuration.sources.slice(0, offsets.length).map((source, i): SourceReport => {
    const offset = offsets[i];
    if (offset === undefined) {
      const error = new NtsError("ke/connect", `cannot connect to ${source.name}, port 4460`);
      return { source, attempts: 3, verdict: "unreachable", error };
    }
    const chain = {
      subject: `CN=${source.name}`,
      issuer: "CN=issuer",
      fingerprint: "00",
      notBefore: now - day,
      notAfter: more.validTo ?? now + 90 * day,
    };
    const [earliest, latest] = [now + offset - 10 - i, now + offset + 10];
    const measurement = { at: 1000, earliest, latest, rtt: 20 + i, stratum: 1, leap: 0, chain };
    return { source, attempts: 1, verdict: "undecided", measurement };
  });
  const samples = sources.flatMap(({ source: { name, operator }, measurement }) =>
    measurement === undefined ? [] : [{ ...measurement, ...measurement.chain, source: name, operator }],
  );
  const operators = sources.map(({ source }) => source.operator);
  const rules = { operators, minOperators: 3, maxRtt: 1000, maxWidth: 250, floor: now - 30 * day };
  const agreement = agree(samples, rules);
  for (const report of sources) {
    report.verdict = agreement.verdicts.get(report.source.name) ?? report.verdict;
  }
  return { agreement, at: 1000, elapsed: 321.5, sources };
}
const lines = (result: Synchronization, columns: number, clock = now) =>
  stripVTControlCharacters(render(describe(result, clock), columns)).split("\n");

const hour = 3_600_000;
const cases: Record<string, Synchronization> = {
  "all agree": found([0, 1, -2, 3, 0, 1, 2]),
  "a liar and a dead one": found([0, 1, -2, hour, 0, 1, undefined]),
  "nobody answers": found([undefined, undefined, undefined]),
  "no two agree": found([0, hour, -hour]),
  "expired certificates": found([0, 1, 2, 3, 4, 5, 6], { validTo: now - 60_000 }),
};
for (const [name, result] of Object.entries(cases)) {
  test(`${name}: every line fits on a terminal of 80 and of 120 columns, but for the reasons`, () => {
    for (const columns of [80, 120]) {
      const long = lines(result, columns).filter((line) => line.length > columns && !line.includes("[ke/"));
      deepEqual(long, []);
    }
  });
}

test("the table names operator, round trip, offset, end of validity and verdict; the liar is out of view", () => {
  const text = lines(cases["a liar and a dead one"]!, 120).join("\n");
  match(text, /^time\.cloudflare\.com +cloudflare +20\.0 +0\.0 ± 10\.0 ms +2026-08-30 +agrees$/m);
  match(text, /^ntp3\.fau\.de +fau +23\.0 +\+3600\.0 s +2026-08-30 +falseticker$/m);
  match(text, /^virginia\.time\.system76\.com +system76 +unreachable$/m);
  match(text, /^cannot connect to virginia\.time\.system76\.com, port 4460 \[ke\/connect\]$/m);
  match(text, /^ntp3\.fau\.de +▶$/m);
  match(text, /^2026-06-01T00:00:00\.\d+Z {2}5 operators agree, in 322 ms$/m);
});

test("an expired certificate is said beside its date", () => {
  const text = lines(cases["expired certificates"]!, 80).join("\n");
  match(text, /^nts\.netnod\.se .* 2026-05-31 +expired$/m);
});

test("ahead and behind, in milliseconds or seconds", () => {
  const agreed = cases["all agree"]!;
  const last = (clock: number) => lines(agreed, 80, clock).at(-2);
  match(last(now - 500)!, /^this clock is 49\d\.\d ± \d+\.\d ms behind$/);
  match(last(now + 500)!, /^this clock is 50\d\.\d ± \d+\.\d ms ahead$/);
  equal(last(now - hour)!, "this clock is 3600.0 s behind");
});

test("when the clock is far off, the picture still shows milliseconds, from the agreed time", () => {
  const scale = lines(cases["all agree"]!, 100, now - hour).find((line) => line.includes("from the agreed"));
  match(scale!, /^ +-\d+(\.\d+)? ms +from the agreed time +\+\d+(\.\d+)? ms$/);
});

test("without answers there is no picture", () => {
  ok(!lines(cases["nobody answers"]!, 80).some((line) => line.includes("from ")));
});
