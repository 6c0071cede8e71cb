// SPDX-License-Identifier: Apache-2.0
/**
 * A KMS whose host's clock is set back and ahead under it, and under its database: real processes, a real clock
 * (test/support/set-clock.ts). Each test says by how much it is off, in seconds, at every step.
 */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout } from "node:timers/promises";
import { httpPost } from "@caisson/guest/key-client";
import { createRootSecret, postgresql, readOnlySqlite, verifyReleaseLog } from "@caisson/kms";
import { Machine } from "@caisson/kms/testing/machine";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { cli, exchange, type Replica, startReplica } from "../support/kms-process.ts";
import { type Postgres, startPostgres } from "../support/postgresql.ts";
import { type HostClock, hostClock } from "../support/set-clock.ts";

const began = Date.now();
const guest = new Machine(began);
/** Another application, whose keys follow from the root that a rotation makes. */
const renewed = new Machine(began, "renewed");
const [minute, hour] = [60, 3600];
const unlimited = ["--rate-per-address", "10000"];

interface Host {
  clock: HostClock;
  data: string;
  /** Where the log is: for `kms serve`. */
  where: string[];
  postgres: Postgres | undefined;
  start: (...more: string[]) => Promise<Replica>;
  /** Keys of a guest whose clock is this host's. */
  keys: (
    replica: Replica,
    machine?: Machine,
    post?: ReturnType<typeof httpPost>,
  ) => ReturnType<typeof exchange>;
}

async function host(t: TestContext, withPostgres: boolean): Promise<Host> {
  const ends: (() => Promise<void> | void)[] = [];
  t.after(async () => {
    for (const end of ends) await end();
  });
  const after = (end: () => Promise<void> | void) => void ends.unshift(end);
  const clock = hostClock(after);
  const directory = temporaryDirectory("kms-clock");
  const [data, policies] = [join(directory, "data"), join(directory, "policies")];
  createRootSecret(data);
  mkdirSync(policies);
  writeFileSync(join(policies, "guest.json"), JSON.stringify(guest.policyFile()));
  writeFileSync(join(policies, "renewed.json"), JSON.stringify({ ...renewed.policyFile(), root: 2 }));
  const postgres = withPostgres ? await startPostgres(after, clock.env) : undefined;
  const where = postgres === undefined ? [] : ["--database", postgres.database()];
  const args = ["--policy-dir", policies, ...where];
  return {
    clock,
    data,
    where,
    postgres,
    start: (...more) => startReplica(t, data, [...args, ...more], clock.env),
    keys: ({ url, identityKey }, machine = guest, post = httpPost(url, 20_000)) =>
      exchange(url, identityKey, machine, clock.now, post),
  };
}

async function end({ process }: Replica): Promise<void> {
  process.kill("SIGTERM");
  await once(process, "exit");
}

const code = (answer: unknown): unknown => {
  const { outcome, code } = answer as { outcome: string; code?: string };
  return code ?? outcome;
};

const logOf = ({ data, where }: Host) =>
  where[1] === undefined ? readOnlySqlite(join(data, "release-log.sqlite")) : postgresql([where[1]]);

for (const withPostgres of [false, true]) {
  const on = (title: string, run: (t: TestContext, on: Host) => Promise<void>) =>
    void test(`${withPostgres ? "PostgreSQL" : "SQLite"}: ${title}`, { timeout: 240_000 }, async (t) =>
      run(t, await host(t, withPostgres)),
    );

  on("a used nonce is not good again, wherever the clock was meanwhile, and nonces expire", async (_, h) => {
    const { clock, keys } = h;
    const replicas = [await h.start(...unlimited)];
    /** Where there is one file, the process before it ends. */
    const next = async () => {
      if (!withPostgres) await end(replicas.at(-1)!);
      const one = await h.start(...unlimited);
      replicas.push(one);
      return one;
    };
    /** A release that was answered, to be sent again. */
    const recorded = async (replica: Replica) => {
      let sent: [string, object] | undefined;
      const post = httpPost(replica.url, 20_000);
      await keys(replica, guest, (path, body) => {
        sent = [path, body];
        return post(path, body);
      });
      return async (to: Replica) => code(await httpPost(to.url, 20_000)(...sent!));
    };

    const first = await recorded(replicas[0]!);
    for (const ahead of [20 * minute, 48 * hour]) {
      // Who starts while it is ahead takes everything that was used for old, and writes.
      clock.set(ahead);
      const other = await next();
      const there = await recorded(other);
      equal(await there(other), "nonce/used");
      clock.set(1);
      for (const one of withPostgres ? replicas : [other]) {
        equal(await first(one), "nonce/used", `after ${ahead} s ahead`);
        // Its age is not known: it is not young.
        equal(await there(one), "nonce/expired");
        await keys(one);
      }
      equal(await first(await next()), "nonce/used");
    }
    clock.set(-hour);
    const back = await next();
    equal(await first(back), "nonce/expired");
    const before = await recorded(back);
    // Once more the time at which it was young.
    for (const seconds of [-hour + 2 * minute, -hour + 1]) {
      clock.set(seconds);
      const at = await next();
      equal(await before(at), seconds === -hour + 1 ? "nonce/used" : "nonce/expired");
      await keys(at);
    }

    clock.set(0);
    const last = await next();
    let hellos = 0;
    const post = httpPost(last.url, 20_000);
    const late = keys(last, guest, async (path, body) => {
      const answer = await post(path, body);
      if (hellos++ === 0) clock.set(minute + 1);
      return answer;
    });
    await rejects(late, { denial: "nonce/expired" });
    await keys(last);
    equal((await fetch(`${last.url}/healthz`)).status, 200);

    // Entries say when the host's clock said that they were; their order is that of the log.
    const times: number[] = [];
    await verifyReleaseLog(await logOf(h), { identity: last.identityKey }, (_, { time }) => times.push(time));
    const offsets = times.map((time) => (time - began) / 1000);
    for (const [from, to] of [
      [20 * minute, 25 * minute],
      [48 * hour, 48 * hour + 5 * minute],
      [-hour, -hour + 5 * minute],
      [0, 5 * minute],
    ] as const) {
      ok(
        offsets.some((at) => at >= from && at < to),
        `${from} is not in ${offsets.join(" ")}`,
      );
    }
  });

  on("roots begin and end by the clock that the host has now", async (_, h) => {
    const { clock, keys, data, where } = h;
    const date = (seconds: number) => new Date(began + 1000 * seconds).toISOString();
    const rotation = ["--from", date(hour), "--until", date(3 * hour)];
    execFileSync(process.execPath, [cli, "kms", "root", "rotate", "--data", data, ...where, ...rotation]);
    const replica = await h.start(...unlimited);
    const denial = async (machine: Machine) => {
      try {
        return `version ${(await keys(replica, machine)).keyVersion}`;
      } catch (error) {
        return (error as { denial?: string }).denial ?? String(error);
      }
    };
    for (const [seconds, old, next] of [
      [0, "version 1", "root/not-yet"],
      [2 * hour, "version 1", "version 1"],
      [4 * hour, "root/retired", "version 1"],
      [2 * hour, "version 1", "version 1"],
      [-hour, "version 1", "root/not-yet"],
    ] as const) {
      clock.set(seconds);
      deepEqual([await denial(guest), await denial(renewed)], [old, next], `${seconds} s`);
    }
  });

  on("rates and time-outs go on, and let no more through than before", async (t, h) => {
    const { clock } = h;
    const replica = await h.start();
    const allowed = async (requests: number) => {
      let count = 0;
      for (let i = 0; i < requests; i++) {
        if ((await fetch(`${replica.url}/healthz`)).status === 200) count += 1;
      }
      return count;
    };
    const from = performance.now();
    let passed = await allowed(60);
    for (const seconds of [hour, 0, hour, -hour, 48 * hour, -hour]) {
      clock.set(seconds);
      passed += await allowed(30);
    }
    // Forty at once and five a second, of real seconds.
    const most = 40 + 5 * ((performance.now() - from) / 1000) + 1;
    ok(passed >= 40 && passed <= most, `${passed} passed, of ${most}`);
    await setTimeout(2000);
    ok((await allowed(5)) >= 5, "it hangs after the clock was set back");

    // Who says nothing is cut off after two seconds.
    const silent = connect(replica.port, "127.0.0.1");
    t.after(() => silent.destroy());
    await once(silent, "connect");
    clock.set(-2 * hour);
    const asked = performance.now();
    await once(silent.resume(), "close");
    const waited = performance.now() - asked;
    ok(waited < 10_000, `cut off after ${waited} ms`);
  });
}

test("PostgreSQL is away while the clock is set: a release waits for as long as before, and comes when it is back", {
  timeout: 240_000,
}, async (t) => {
  const { clock, keys, postgres, start } = await host(t, true);
  const replica = await start(...unlimited);
  await keys(replica);
  for (const seconds of [-hour, 48 * hour, 0]) {
    await postgres!.stop("fast");
    const asked = performance.now();
    const denied = rejects(keys(replica), { denial: "log/unavailable" });
    await setTimeout(500);
    clock.set(seconds);
    // The guest's clock was set meanwhile, too, so that it does not use what it gets: it is a denial.
    await denied.catch((error: unknown) => {
      throw new Error(`${seconds} s`, { cause: error });
    });
    const waited = performance.now() - asked;
    ok(waited > 3000 && waited < 15_000, `${waited} ms`);
    await postgres!.start();
    await keys(replica);
  }
});
