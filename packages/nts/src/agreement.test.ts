// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { agree, quorum, type Rules, type Sample } from "./agreement.ts";

const now = Date.UTC(2026, 5, 1);
const day = 24 * 3600 * 1000;
const rules = (operators: string, more: Partial<Rules> = {}): Rules => ({
  operators: operators.split(""),
  minOperators: 3,
  maxRtt: 1000,
  maxWidth: 250,
  floor: now - 30 * day,
  ...more,
});
/** A sample around `now`; the source is named after its operator and its place in the list. */
const sample = (operator: string, from: number, to: number, more: Partial<Sample> = {}): Sample => ({
  source: `${operator}.test`,
  operator,
  earliest: now + from,
  latest: now + to,
  rtt: to - from,
  notBefore: now - day,
  notAfter: now + day,
  ...more,
});
const verdicts = (samples: Sample[], given: Rules) => Object.fromEntries(agree(samples, given).verdicts);

suite("quorum", () => {
  for (const [operators, minOperators, expected] of [
    [3, 3, 3],
    [4, 3, 3],
    [5, 3, 3],
    [6, 3, 4],
    [7, 3, 4],
    [5, 5, 5],
    [2, 1, 2],
    [1, 1, 1],
  ] as const) {
    test(`${operators} operators, at least ${minOperators}: ${expected}`, () => {
      equal(quorum({ operators: "abcdefg".split("").slice(0, operators), minOperators }), expected);
    });
  }
  test("an operator with many servers counts once", () => {
    equal(quorum({ operators: "aaaaaabc".split(""), minOperators: 1 }), 2);
  });
});

suite("agreement, case by case", () => {
  test("three that agree", () => {
    const result = agree([sample("a", -10, 10), sample("b", -5, 15), sample("c", -8, 4)], rules("abc"));
    ok(result.agreed);
    deepEqual([result.earliest - now, result.latest - now, result.operators], [-5, 4, ["a", "b", "c"]]);
  });
  test("one liar of five is named", () => {
    const samples = "abcd".split("").map((operator) => sample(operator, -10, 10));
    equal(verdicts([...samples, sample("e", 3_600_000, 3_600_010)], rules("abcde"))["e.test"], "falseticker");
  });
  test("two colluding liars of five lose", () => {
    const honest = "abc".split("").map((operator) => sample(operator, -10, 10));
    const result = agree([...honest, sample("d", 1000, 1001), sample("e", 1000, 1001)], rules("abcde"));
    ok(result.agreed);
    deepEqual([result.earliest - now, result.latest - now, result.operators], [-10, 10, ["a", "b", "c"]]);
  });
  test("two that remain of five are not enough, whatever they say", () => {
    const result = agree([sample("a", -1, 1), sample("b", -1, 1)], rules("abcde"));
    deepEqual(
      [result.agreed, !result.agreed && result.reason, !result.agreed && result.votes],
      [false, "no-quorum", 2],
    );
  });
  test("three servers of one operator are one vote", () => {
    const samples = [1, 2, 3].map((n) => sample("a", -1, 1, { source: `a${n}.test` }));
    const result = agree([...samples, sample("b", -1, 1)], rules("aaabc"));
    equal(!result.agreed && result.votes, 2);
  });
  test("an operator that is not configured has no vote", () => {
    equal(agree([sample("a", -1, 1), sample("b", -1, 1), sample("x", -1, 1)], rules("abc")).agreed, false);
  });
  test("slow answers do not count", () => {
    const samples = [sample("a", -1, 1), sample("b", -1, 1), sample("c", -1, 1, { rtt: 1001 })];
    equal(verdicts(samples, rules("abc"))["c.test"], "too-slow");
    equal(agree(samples, rules("abc")).agreed, false);
  });
  test("a time before the build epoch does not count", () => {
    const samples = "abc".split("").map((operator) => sample(operator, -40 * day, -40 * day + 5, { rtt: 5 }));
    equal(agree(samples, rules("abc")).agreed, false);
    equal(verdicts(samples, rules("abc"))["a.test"], "before-floor");
  });
  test("a result that is too wide is refused", () => {
    const result = agree(
      "abc".split("").map((operator) => sample(operator, -150, 150)),
      rules("abc"),
    );
    equal(!result.agreed && result.reason, "too-wide");
  });
  test("intervals that only touch agree", () => {
    const result = agree([sample("a", -5, 0), sample("b", 0, 5), sample("c", -5, 5)], rules("abc"));
    ok(result.agreed);
    deepEqual([result.earliest, result.latest], [now, now]);
  });
  test("a certificate that has expired at the agreed time costs its source the vote", () => {
    const expired = { notBefore: now - 3 * day, notAfter: now - day };
    const samples = [
      ..."abcd".split("").map((operator) => sample(operator, -10, 10)),
      sample("e", -10, 10, expired),
    ];
    equal(verdicts(samples, rules("abcde"))["e.test"], "certificate-expired");
    equal(agree(samples, rules("abcde")).agreed, true);
    equal(agree(samples.slice(2), rules("abcde")).agreed, false);
  });
  test("so does one that is not valid yet", () => {
    const samples = "abcd"
      .split("")
      .map((operator) =>
        sample(operator, -10, 10, operator === "d" ? { notBefore: now + day, notAfter: now + 2 * day } : {}),
      );
    equal(verdicts(samples, rules("abcd"))["d.test"], "certificate-not-yet-valid");
  });
  test("certificates that are never valid at once, or have no date, cost the vote", () => {
    for (const dates of [{ notBefore: now + 1, notAfter: now - 1 }, { notAfter: Number.NaN }]) {
      const samples = [sample("a", -9, 9), sample("b", -9, 9), sample("c", -9, 9, dates)];
      equal(agree(samples, rules("abc")).agreed, false);
      equal(verdicts(samples, rules("abc"))["c.test"], "certificate-expired");
    }
  });
  test("an expired certificate is named without agreement, too", () => {
    equal(
      verdicts([sample("a", -9, 9, { notAfter: now - day })], rules("abc"))["a.test"],
      "certificate-expired",
    );
  });
  test("a certificate that expires within the interval counts until it does", () => {
    const samples = [sample("a", -9, 9), sample("b", -9, 9), sample("c", -9, 9, { notAfter: now + 2 })];
    const result = agree(samples, rules("abc"));
    ok(result.agreed);
    deepEqual([result.earliest - now, result.latest - now], [-9, 2]);
  });
  test("sources with expired certificates do not make the result too wide", () => {
    const honest = "abc".split("").map((operator) => sample(operator, -10, 10));
    const past = "de"
      .split("")
      .map((operator) => sample(operator, -900, 900, { rtt: 10, notAfter: now - 100 }));
    const result = agree([...honest, ...past], rules("abcde"));
    ok(result.agreed);
    deepEqual([result.earliest - now, result.latest - now], [-10, 10]);
    equal(result.verdicts.get("d.test"), "certificate-expired");
  });
  test("the result does not begin before the build epoch", () => {
    const samples = "abc".split("").map((operator) => sample(operator, -10, 10));
    const result = agree(samples, rules("abc", { floor: now - 3 }));
    ok(result.agreed);
    deepEqual([result.earliest - now, result.latest - now], [-3, 10]);
  });
  test("liars that swallow everything do not decide: the honest interval does, or its width refuses", () => {
    const whole = { earliest: Number.NEGATIVE_INFINITY, latest: Number.POSITIVE_INFINITY, rtt: 0 };
    const liars = "de".split("").map((operator) => sample(operator, 0, 0, whole));
    const narrow = "abc".split("").map((operator) => sample(operator, -10, 10));
    const result = agree([...narrow, ...liars], rules("abcde"));
    ok(result.agreed);
    deepEqual([result.earliest - now, result.latest - now], [-10, 10]);
    const alone = "abc".split("").map((operator) => sample(operator, 0, 0, whole));
    const refused = agree(alone, rules("abc", { floor: Number.NEGATIVE_INFINITY }));
    equal(!refused.agreed && refused.reason, "too-wide");
  });
  for (const [name, broken] of [
    ["no number as its end", { latest: Number.NaN }],
    ["no number as its beginning", { earliest: Number.NaN }],
    ["no number as round trip", { rtt: Number.NaN }],
    ["an end before its beginning", { earliest: now + 5, latest: now - 5 }],
  ] as const) {
    test(`a sample with ${name} has no vote and disturbs nobody's`, () => {
      const samples = [sample("x", -9, 9, broken), ..."abc".split("").map((name) => sample(name, -9, 9))];
      equal(agree(samples.slice(0, 3), rules("abx")).agreed, false);
      const result = agree(samples, rules("abcx"));
      deepEqual(result.agreed && result.operators, ["a", "b", "c"]);
    });
  }
  test("two servers of one operator that contradict each other: one vote at each of both times", () => {
    const torn = [sample("c", -5, 5, { source: "c1.test" }), sample("c", 995, 1005, { source: "c2.test" })];
    const samples = [sample("a", -9, 9), sample("b", -9, 9), ...torn];
    deepEqual(verdicts(samples, rules("abc")), {
      "a.test": "agrees",
      "b.test": "agrees",
      "c1.test": "agrees",
      "c2.test": "falseticker",
    });
  });
  test("nothing at all is not an agreement", () => {
    deepEqual(agree([], rules("abc")), {
      agreed: false,
      reason: "no-quorum",
      quorum: 3,
      votes: 0,
      verdicts: new Map(),
    });
  });
});

/**
 * Honest operators' servers give intervals that contain the true time `now`, wherever in their round trip it lies.
 * Liars have servers, too, which say anything, together or each for itself: intervals that touch the honest ones,
 * swallow all, contain nothing or are not numbers, with certificates of any time. Some operators are silent. Those
 * that are honest form a quorum.
 */
const operator = <T>(servers: fc.Arbitrary<T>) => fc.array(servers, { minLength: 1, maxLength: 3 });
const honestServer = fc.record({ before: fc.nat(60), after: fc.nat(60) });
const anyOffset = fc.oneof(
  fc.integer({ min: -130, max: 130 }),
  fc.constantFrom(-1e15, -60, 0, 60, 1e15, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NaN),
);
const lyingServer = fc.record({
  from: anyOffset,
  to: anyOffset,
  rtt: fc.constantFrom(0, 10, 1000, 1001, Number.NaN),
  certificate: fc.oneof(
    fc.constant({}),
    fc.record({ notBefore: anyOffset.map((offset) => now + offset) }),
    fc.record({ notAfter: anyOffset.map((offset) => now + offset) }),
  ),
});
const scene = fc
  .record({
    honest: fc.array(operator(honestServer), { minLength: 3, maxLength: 6 }),
    lies: fc.array(operator(lyingServer), { maxLength: 5 }),
    silent: fc.nat(2),
  })
  .filter(({ honest, lies, silent }) => honest.length > (honest.length + lies.length + silent) / 2)
  .map(({ honest, lies, silent }) => {
    const name = (kind: string, who: number, server: number) => ({ source: `${kind}${who}-${server}.test` });
    const good = honest.flatMap((servers, who) =>
      servers.map(({ before, after }, i) => sample(`honest${who}`, -before, after, name("honest", who, i))),
    );
    const bad = lies.flatMap((servers, who) =>
      servers.map(({ from, to, rtt, certificate }, i) =>
        sample(`liar${who}`, from, to, { ...name("liar", who, i), rtt, ...certificate }),
      ),
    );
    const mute = Array.from({ length: silent }, (_, who) => `silent${who}`);
    const operators = [...new Set([...good, ...bad].map((one) => one.operator)), ...mute];
    return { good, bad, given: { ...rules(""), operators } };
  });

/** What the documentation says, word for word: an instant at a time, and no sorting. */
function slowly(samples: readonly Sample[], given: Rules) {
  const votesFor = (sample: Sample, at: number) =>
    [sample.earliest, sample.latest, sample.rtt, sample.notBefore, sample.notAfter].every(
      (n) => !Number.isNaN(n),
    ) &&
    sample.rtt <= given.maxRtt &&
    at >= given.floor &&
    sample.earliest <= at &&
    at <= sample.latest &&
    sample.notBefore <= at &&
    at <= sample.notAfter;
  const votes = (at: number) =>
    new Set(samples.filter((sample) => votesFor(sample, at)).map((sample) => sample.operator)).size;
  const instants = samples
    .flatMap((sample) => [sample.earliest, sample.latest, sample.notBefore, sample.notAfter])
    .concat(given.floor)
    .filter((at) => votes(at) >= quorum(given))
    .sort((a, b) => a - b);
  return { earliest: instants[0], latest: instants.at(-1) };
}

suite("agreement, properties", () => {
  test("with an honest quorum, the true time is in the result", () => {
    fc.assert(
      fc.property(scene, ({ good, bad, given }) => {
        const result = agree([...bad, ...good], given);
        ok(result.agreed && result.earliest <= now && now <= result.latest);
      }),
    );
  });
  test("colluding liars never move the result outside the honest intervals", () => {
    fc.assert(
      fc.property(scene, ({ good, bad, given }) => {
        const result = agree([...bad, ...good], given);
        ok(result.agreed);
        ok(result.earliest >= Math.min(...good.map((one) => one.earliest)));
        ok(result.latest <= Math.max(...good.map((one) => one.latest)));
      }),
    );
  });
  test("the middle is wrong by at most half of the width", () => {
    fc.assert(
      fc.property(scene, ({ good, bad, given }) => {
        const result = agree([...bad, ...good], given);
        ok(result.agreed);
        const { earliest, latest } = result;
        ok(Math.abs((earliest + latest) / 2 - now) <= (latest - earliest) / 2);
      }),
    );
  });
  test("those that agree are a quorum, whatever their certificates", () => {
    fc.assert(
      fc.property(scene, ({ good, bad, given }) => {
        const result = agree([...bad, ...good], given);
        ok(result.agreed && result.operators.length >= quorum(given));
      }),
    );
  });
  test("counting the votes an instant at a time gives the same, also when the liars are many", () => {
    fc.assert(
      fc.property(scene, fc.nat(6), ({ good, bad, given }, honest) => {
        const samples = [...bad, ...good.slice(0, honest)];
        const result = agree(samples, { ...given, maxWidth: Number.POSITIVE_INFINITY });
        const { earliest, latest } = slowly(samples, given);
        if (result.agreed) deepEqual([result.earliest, result.latest], [earliest, latest]);
        else equal(earliest, undefined);
      }),
      { numRuns: 1000 },
    );
  });
  test("without liars, delays move it by at most half of a round trip", () => {
    fc.assert(
      fc.property(scene, ({ good, given }) => {
        const result = agree(good, given);
        ok(result.agreed);
        const shortest = good.map((one) => one.rtt).sort((a, b) => a - b);
        ok(Math.abs((result.earliest + result.latest) / 2 - now) <= shortest.at(-1)! / 2);
      }),
    );
  });
  test("honest sources agree, and the order of the samples does not matter", () => {
    fc.assert(
      fc.property(scene, fc.nat(), ({ good, bad, given }, turn) => {
        const samples = [...bad, ...good];
        const turned = [...samples.slice(turn % samples.length), ...samples.slice(0, turn % samples.length)];
        const [one, other] = [agree(samples, given), agree(turned, given)];
        ok(one.agreed && other.agreed);
        deepEqual([one.earliest, one.latest, one.operators], [other.earliest, other.latest, other.operators]);
        for (const { source } of good) equal(one.verdicts.get(source), "agrees");
      }),
    );
  });
  test("a minority alone decides nothing, even when the rest is silent", () => {
    fc.assert(fc.property(scene, ({ bad, given }) => equal(agree(bad, given).agreed, false)));
  });
});
