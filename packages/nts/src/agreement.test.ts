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
  test("nothing at all is no agreement", () => {
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
 * Honest servers' intervals contain the true time `now`, wherever in their round trip it lies; liars say anything,
 * together or each for itself; some sources do not answer. Fewer operators lie than remain to form a quorum.
 */
const scene = fc
  .record({
    honest: fc.array(fc.record({ before: fc.nat(60), after: fc.nat(60) }), { minLength: 3, maxLength: 6 }),
    lies: fc.array(fc.record({ from: fc.integer({ min: -400, max: 400 }), width: fc.nat(300) }), {
      maxLength: 5,
    }),
    silent: fc.nat(2),
  })
  .map(({ honest, lies, silent }) => {
    const operators = honest.length + lies.length + silent;
    return { honest, lies: lies.slice(0, honest.length - 1), silent, operators };
  })
  .filter(({ honest, lies, silent }) => {
    const operators = honest.length + lies.length + silent;
    return honest.length >= Math.max(3, Math.floor(operators / 2) + 1);
  })
  .map(({ honest, lies, silent }) => {
    const name = (kind: string, index: number) => `${kind}${index}`;
    const good = honest.map(({ before, after }, i) => sample(name("honest", i), -before, after));
    const bad = lies.map(({ from, width }, i) => sample(name("liar", i), from, from + width));
    const mute = Array.from({ length: silent }, (_, i) => name("silent", i));
    const operators = [...[...good, ...bad].map((one) => one.operator), ...mute];
    return { good, bad, given: { ...rules(""), operators } };
  });

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
  test("delays move the middle by at most half of the longest round trip on each side", () => {
    fc.assert(
      fc.property(scene, ({ good, bad, given }) => {
        const result = agree([...bad, ...good], given);
        ok(result.agreed);
        const worst = Math.max(...good.map((one) => one.rtt));
        ok(Math.abs((result.earliest + result.latest) / 2 - now) <= worst);
      }),
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
