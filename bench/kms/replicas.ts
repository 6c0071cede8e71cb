// SPDX-License-Identifier: Apache-2.0
/**
 * What a second replica adds, in turns with what one gives, and what a release costs two that write in turns.
 *
 * Guests, database and replicas share the processors of this machine, so that two replicas could not show more than one
 * that has a processor for itself. Here each has the same bounded share of one, as a container has, and the others the
 * rest: what two give is then a matter of what they are in each other's way.
 */
import { once } from "node:events";
import { availableParallelism } from "node:os";
import type { Row } from "@caisson/cli/commands/bench";
import type { Machine } from "@caisson/kms/testing/machine";
import { median } from "../figures/figures.ts";
import { load, metrics, type Server } from "./server.ts";
import { bounded, type Share } from "./share.ts";

/** Of one processor, for each replica: guests and database need several times as much. */
const share = 0.2;
/** Turns with one replica and with two; for each replica: guests in a turn, and how many of them at a time. */
const turns = { count: 11, guests: 240, atATime: 16 };

interface Turn {
  /** Releases a second. */
  rate: number;
  /** Processor time of a release, ms: of the replicas, and of the database's sessions. */
  cost: number;
  database: number;
  /** What one replica used of a processor, and what this process, which is the guests, used; 0 to 1. */
  used: number;
  guests: number;
  /** How many of the periods of a share were used up; 0 to 1. */
  exhausted: number;
}

/** What a turn takes besides replicas and guests. */
interface Around {
  /** Processor time of the database's processes since they started, ms; 0 where it has none of its own. */
  database: () => number;
  shares: readonly Share[];
}

/** `start` makes a replica of the same log; `database` gives the processor time of the database's own processes, ms. */
export async function* replicas(
  start: () => Promise<Server>,
  machines: readonly Machine[],
  warmUp: number,
  what: string,
  database: () => number = () => 0,
): AsyncIterable<Row> {
  const servers: Server[] = [];
  const shares: Share[] = [];
  try {
    for (let i = 0; i < 2; i++) servers.push(await start());
    await load(servers, machines, 2 * warmUp, 32);
    yield* costs(what, await inTurns(servers, machines, { database, shares }));
    for (const { process } of servers) shares.push(...[bounded(process.pid!, share) ?? []].flat());
    yield* rates(
      what,
      await inTurns(servers, machines, { database, shares }),
      shares.length === servers.length,
    );
  } finally {
    for (const { process } of servers) {
      process.kill();
      await once(process, "exit");
    }
    for (const one of shares) one.end();
  }
}

async function inTurns(
  servers: readonly Server[],
  machines: readonly Machine[],
  around: Around,
): Promise<{ one: Turn; two: Turn }[]> {
  const pairs: { one: Turn; two: Turn }[] = [];
  for (let i = 0; i < turns.count; i++) {
    // Neither of both is always the one that is alone.
    const one = await turn([servers[i % 2]!], machines, {
      ...around,
      shares: around.shares.slice(i % 2, (i % 2) + 1),
    });
    pairs.push({ one, two: await turn(servers, machines, around) });
  }
  return pairs;
}

async function turn(
  servers: readonly Server[],
  machines: readonly Machine[],
  { database, shares }: Around,
): Promise<Turn> {
  const now = async () => {
    const values = await Promise.all(servers.map(({ url }) => metrics(url)));
    const { user, system } = process.cpuUsage();
    const periods = shares.map((one) => one.periods());
    return {
      time: performance.now(),
      servers: 1000 * sum(values.map((value) => value("process_cpu_seconds_total"))),
      guests: (user + system) / 1000,
      database: database(),
      all: sum(periods.map(({ all }) => all)),
      exhausted: sum(periods.map(({ exhausted }) => exhausted)),
    };
  };
  const before = await now();
  const released = (
    await load(servers, machines, turns.guests * servers.length, turns.atATime * servers.length)
  ).length;
  const after = await now();
  const ms = after.time - before.time;
  return {
    rate: (1000 * released) / ms,
    cost: (after.servers - before.servers) / released,
    database: (after.database - before.database) / released,
    used: (after.servers - before.servers) / ms / servers.length,
    guests: (after.guests - before.guests) / ms,
    exhausted: (after.exhausted - before.exhausted) / (after.all - before.all),
  };
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

type Pairs = readonly { one: Turn; two: Turn }[];

/** One figure of both, as medians, the ratio being that of the pairs. */
const both = (pairs: Pairs, of: (turn: Turn) => number) => ({
  ours: median(pairs.map(({ two }) => of(two))),
  peer: median(pairs.map(({ one }) => of(one))),
  ratio: Number(median(pairs.map(({ one, two }) => of(two) / of(one))).toPrecision(4)),
});

function* costs(what: string, pairs: Pairs): Iterable<Row> {
  const note = `peer: one, in turns, each with ${turns.atATime} guests at a time; the ratio is the median of ${pairs.length} pairs`;
  const name = `${what}: processor time of a release of two replicas`;
  yield { name, unit: "ms", ...both(pairs, ({ cost }) => cost), note };
  if (pairs[0]!.one.database === 0) return;
  yield { name: `${name}, the database's`, unit: "ms", ...both(pairs, ({ database }) => database), note };
}

function* rates(what: string, pairs: Pairs, isBounded: boolean): Iterable<Row> {
  const name = `${what}: releases a second of two replicas`;
  const percent = (of: (turn: Turn) => number, which: "one" | "two") =>
    `${Math.round(100 * median(pairs.map((pair) => of(pair[which]))))} %`;
  const used = ({ used }: Turn) => used;
  const guests = ({ guests }: Turn) => guests;
  const exhausted = ({ exhausted }: Turn) => exhausted;
  const note = isBounded
    ? `peer: one, in turns; each had ${100 * share} % of one processor, used ${percent(used, "one")} alone and ` +
      `${percent(used, "two")} of two, and wanted more in ${percent(exhausted, "one")} and ` +
      `${percent(exhausted, "two")} of the periods; the guests used ${percent(guests, "one")} and ${percent(guests, "two")}`
    : `peer: one, in turns; no share of a processor could be set here, so that guests and database ran beside them on ` +
      `${availableParallelism()} processors, and the ratio says nothing of replicas with processors of their own`;
  yield { name, unit: "1/s", ...both(pairs, ({ rate }) => rate), note };
}
