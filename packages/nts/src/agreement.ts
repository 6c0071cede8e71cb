/**
 * What time is it, when some of the sources lie?
 *
 * Pure and deterministic. Each source contributes an interval that contains the true time if the source is honest:
 * whatever an attacker does to the packets in between, the reply was written after our request left and before the
 * reply came. Each *operator* has one vote at each point in time, however many servers it runs.
 *
 * The quorum is a majority of the *configured* operators, and never less than `minOperators`. The result reaches
 * from the earliest to the latest point at which a quorum agrees (Marzullo's fusion with up to `operators − quorum`
 * faults). From that follows, as long as fewer operators lie or are delayed than remain honest to form the quorum:
 * - the true time is in the result, because every honest interval contains it;
 * - no colluding minority moves the result outside the honest intervals: every point of it that has a quorum lies in
 *   at least one of them;
 * - its middle is wrong by at most half its width, and delays only widen it: the error is bounded by the round trip;
 * - dropping honest sources gives no advantage: a quorum of those that answered is not enough.
 *
 * Certificates are judged here too, at the time agreed upon: a source with a certificate that is not valid during
 * the whole result is discarded and the rest vote again, until nothing changes.
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
  | "falseticker" // the interval has no point in common with the result
  | "too-slow" // round trip above the limit
  | "before-floor" // says that it is earlier than the build epoch
  | "certificate-expired" // at the agreed time
  | "certificate-not-yet-valid"
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

/** The result, and a verdict on each sample by the name of its source. Samples of unknown operators are not counted. */
export function agree(samples: readonly Sample[], rules: Rules): Agreement {
  const needed = quorum(rules);
  const known = new Set(rules.operators);
  const verdicts = new Map<string, Verdict>();
  let voters: Sample[] = [];
  for (const sample of samples) {
    const verdict =
      sample.rtt > rules.maxRtt ? "too-slow" : sample.latest < rules.floor ? "before-floor" : "undecided";
    verdicts.set(sample.source, verdict);
    if (verdict === "undecided" && known.has(sample.operator)) voters.push(sample);
  }

  while (true) {
    const { earliest, latest, votes } = fuse(voters, needed);
    if (votes < needed) return { agreed: false, reason: "no-quorum", quorum: needed, votes, verdicts };
    if (latest - earliest > rules.maxWidth) {
      return { agreed: false, reason: "too-wide", quorum: needed, votes, verdicts };
    }
    const valid = voters.filter((sample) => sample.notBefore <= earliest && latest <= sample.notAfter);
    if (valid.length === voters.length) {
      const agreeing = voters.filter((sample) => sample.earliest <= latest && earliest <= sample.latest);
      for (const sample of voters) {
        verdicts.set(sample.source, agreeing.includes(sample) ? "agrees" : "falseticker");
      }
      const operators = [...new Set(agreeing.map((sample) => sample.operator))].sort();
      return { agreed: true, earliest, latest, operators, verdicts };
    }
    for (const sample of voters) {
      if (sample.notBefore > earliest) verdicts.set(sample.source, "certificate-not-yet-valid");
      else if (sample.notAfter < latest) verdicts.set(sample.source, "certificate-expired");
    }
    voters = valid;
  }
}

/**
 * The earliest and the latest point that `needed` operators' intervals contain (closed intervals), and the largest
 * number of operators at one point. One pass over the sorted ends.
 */
function fuse(
  samples: readonly Sample[],
  needed: number,
): { earliest: number; latest: number; votes: number } {
  const ends = samples.flatMap((sample) => [
    { at: sample.earliest, opens: true, operator: sample.operator },
    { at: sample.latest, opens: false, operator: sample.operator },
  ]);
  ends.sort((a, b) => a.at - b.at || Number(b.opens) - Number(a.opens));
  const open = new Map<string, number>();
  let [earliest, latest, votes] = [Number.NaN, Number.NaN, 0];
  for (const { at, opens, operator } of ends) {
    if (open.size >= needed) latest = at;
    const intervals = (open.get(operator) ?? 0) + (opens ? 1 : -1);
    if (intervals === 0) open.delete(operator);
    else open.set(operator, intervals);
    votes = Math.max(votes, open.size);
    if (open.size >= needed && Number.isNaN(earliest)) earliest = at;
  }
  return { earliest, latest, votes };
}
