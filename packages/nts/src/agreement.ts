// SPDX-License-Identifier: Apache-2.0
/**
 * What time is it, when some of the sources lie?
 *
 * Pure and deterministic. Each source contributes an interval that contains the true time if the source is honest:
 * whatever an attacker does to the packets in between, the reply was written after our request left and before the
 * reply came. Each *operator* has one vote at each point in time, however many servers it runs.
 *
 * A source votes for the instants that its interval contains, at which its certificates are valid, and which are not
 * before the build epoch. An expired certificate thus counts for the past in which it was valid, where only a quorum
 * of such would be believed, and does not even widen the result.
 *
 * The quorum is a majority of the *configured* operators, and never less than `minOperators`. The result reaches
 * from the earliest to the latest point at which a quorum agrees (Marzullo's fusion with up to `operators − quorum`
 * faults). From that follows, as long as fewer operators lie or are delayed than remain honest to form the quorum:
 * - the true time is in the result, because every honest interval contains it;
 * - no colluding minority moves the result outside the honest intervals: every point of it that has a quorum lies in
 *   at least one of them;
 * - its middle is wrong by at most half its width, and delays only widen it: the error is bounded by the round trip;
 * - dropping honest sources gives no advantage: a quorum of those that answered is not enough.
 */

/** One source's answer. Times are Unix milliseconds at the common instant to which all samples were brought. */
export interface Sample {
  source: string;
  operator: string;
  earliest: number;
  latest: number;
  /** Round trip in milliseconds, without the time that the server took. */
  rtt: number;
  /** Validity of the whole certificate chain. */
  notBefore: number;
  notAfter: number;
}

export interface Rules {
  /** All operators in the configuration, whether they answered or not. */
  operators: readonly string[];
  minOperators: number;
  /** Milliseconds. Slower answers are not counted. */
  maxRtt: number;
  /** Milliseconds. A wider result is refused. */
  maxWidth: number;
  /** The build epoch, Unix milliseconds: it cannot be earlier than this. */
  floor: number;
}

export type Verdict =
  | "agrees"
  | "falseticker" // the interval has no point in common with the result, or contains no time at all
  | "too-slow" // round trip above the limit
  | "before-floor" // says that it is earlier than the build epoch
  | "certificate-expired" // at the agreed time, or at any time that the source itself allows
  | "certificate-not-yet-valid" // likewise
  | "undecided"; // there is no result to compare with

export type Agreement =
  | {
      agreed: true;
      /** Unix milliseconds. */
      earliest: number;
      latest: number;
      /** Those with a source that agrees, sorted. */
      operators: string[];
      verdicts: Map<string, Verdict>;
    }
  | {
      agreed: false;
      reason: "no-quorum" | "too-wide";
      quorum: number;
      votes: number;
      verdicts: Map<string, Verdict>;
    };

/** Majority of the configured operators, at least `minOperators`. */
export function quorum(rules: Pick<Rules, "operators" | "minOperators">): number {
  return Math.max(rules.minOperators, Math.floor(new Set(rules.operators).size / 2) + 1);
}

/** Instants that an operator's source votes for, both ends included. */
interface Vote {
  operator: string;
  from: number;
  to: number;
}

/** The result, and a verdict on each sample by the name of its source. Samples of unknown operators are not counted. */
export function agree(samples: readonly Sample[], rules: Rules): Agreement {
  const needed = quorum(rules);
  const known = new Set(rules.operators);
  const verdicts = new Map<string, Verdict>();
  const voters: { sample: Sample; vote: Vote }[] = [];
  for (const sample of samples) {
    const vote = {
      operator: sample.operator,
      from: Math.max(sample.earliest, sample.notBefore, rules.floor),
      to: Math.min(sample.latest, sample.notAfter),
    };
    const verdict = withoutVote(sample, vote, rules);
    verdicts.set(sample.source, verdict ?? "undecided");
    if (verdict === undefined && known.has(sample.operator)) voters.push({ sample, vote });
  }

  const { earliest, latest, votes } = fuse(
    voters.map(({ vote }) => vote),
    needed,
  );
  if (!(votes >= needed)) return { agreed: false, reason: "no-quorum", quorum: needed, votes, verdicts };
  if (!(latest - earliest <= rules.maxWidth)) {
    return { agreed: false, reason: "too-wide", quorum: needed, votes, verdicts };
  }
  const operators = new Set<string>();
  for (const { sample, vote } of voters) {
    let verdict: Verdict = "falseticker";
    if (vote.from <= latest && earliest <= vote.to) verdict = "agrees";
    else if (sample.notAfter < earliest) verdict = "certificate-expired";
    else if (sample.notBefore > latest) verdict = "certificate-not-yet-valid";
    verdicts.set(sample.source, verdict);
    if (verdict === "agrees") operators.add(sample.operator);
  }
  return { agreed: true, earliest, latest, operators: [...operators].sort(), verdicts };
}

/** Why there is no result, for people. */
export function whyNot({ reason, votes, quorum }: Extract<Agreement, { agreed: false }>): string {
  return reason === "too-wide"
    ? "enough operators agree, but the interval on which they do is too wide"
    : `${votes} operators agree at most, ${quorum} are needed`;
}

/** Why `sample` votes for no instant at all; undefined when it does. NaN, wherever it stands, votes for nothing. */
function withoutVote(sample: Sample, { from, to }: Vote, { maxRtt, floor }: Rules): Verdict | undefined {
  if (!(sample.earliest <= sample.latest)) return "falseticker";
  if (!(sample.rtt <= maxRtt)) return "too-slow";
  if (sample.latest < floor) return "before-floor";
  if (from <= to) return undefined;
  return sample.notBefore > sample.latest ? "certificate-not-yet-valid" : "certificate-expired";
}

/**
 * The earliest and the latest instant that `needed` operators vote for, NaN when there is none, and the largest
 * number of operators at one instant. One pass over the sorted ends; at the same instant, those that open come first,
 * so that intervals which only touch have that instant in common.
 */
function fuse(votes: readonly Vote[], needed: number): { earliest: number; latest: number; votes: number } {
  const ends = votes.flatMap(({ operator, from, to }) => [
    { at: from, opens: true, operator },
    { at: to, opens: false, operator },
  ]);
  ends.sort((a, b) => a.at - b.at || Number(b.opens) - Number(a.opens));
  const open = new Map<string, number>();
  let [earliest, latest, most] = [Number.NaN, Number.NaN, 0];
  for (const { at, opens, operator } of ends) {
    if (open.size >= needed) latest = at;
    const intervals = (open.get(operator) ?? 0) + (opens ? 1 : -1);
    if (intervals === 0) open.delete(operator);
    else open.set(operator, intervals);
    most = Math.max(most, open.size);
    if (open.size >= needed && Number.isNaN(earliest)) earliest = at;
  }
  return { earliest, latest, votes: most };
}
