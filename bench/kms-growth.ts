// SPDX-License-Identifier: Apache-2.0
/**
 * What growth costs a KMS: the entries of its log, the applications that it has policies of, and those whose releases it
 * follows; on a file and on PostgreSQL.
 *
 * Costs are processor time, beside those of a small log or few applications in the same run.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Row } from "@caisson/cli/commands/bench";
import {
  type Backend,
  createRootSecret,
  openStore,
  postgresql,
  readOnlySqlite,
  type Store,
  type StoreKeys,
  sqlite,
  storeKeys,
  verifyReleaseLog,
} from "@caisson/kms";
import { Machine } from "@caisson/kms/testing/machine";
import { type Postgres, startPostgres } from "../test/support/postgresql.ts";
import { besideFirst, processorTime } from "./figures/figures.ts";
import { followedLogs } from "./kms/followed-log.ts";
import { load, metrics, serve } from "./kms/server.ts";
import { policyOfOthers, signedPolicies } from "./kms/signed-policies.ts";

export async function* run(): AsyncIterable<Row> {
  const directory = mkdtempSync(join(tmpdir(), "caisson-bench-kms-growth-"));
  const ends: (() => Promise<void> | void)[] = [];
  try {
    const postgres = await startPostgres((end) => ends.unshift(end));
    const machines = Array.from({ length: 16 }, (_, seed) => new Machine(Date.now(), "hello", seed));
    yield* growth(onFile(directory), large ? [10_000, 1_000_000, 10_000_000] : [10_000, 100_000]);
    yield* growth(onPostgresql(postgres), large ? [10_000, 100_000, 1_000_000] : [10_000, 100_000]);
    yield* manyFiles(directory, machines);
    const given = { directory, counts: applications, machines };
    yield* signedPolicies("kms", given, () => []);
    yield* signedPolicies("kms on PostgreSQL", given, () => [postgres.database()]);
    const followed = large ? [10, 10_000] : [10, 1000];
    for (const { what, at } of [onFile(directory), onPostgresql(postgres)])
      yield* followedLogs(what, followed, (count) => at(`followed-${count}`).open);
  } finally {
    for (const end of ends) await end();
    rmSync(directory, { recursive: true });
  }
}

/** Sizes that are not for every day: logs of 10⁶ and 10⁷ entries, 10⁶ applications. */
const large = process.env.CAISSON_BENCH_LARGE === "1";

/** Applications that have policies. */
const applications = large ? [10, 10_000, 1_000_000] : [10, 10_000];

/** Where a log lies; `at` gives a place of its own for each. */
interface LogPlace {
  what: string;
  at: (name: string) => {
    open: () => Promise<Backend>;
    read: () => Promise<Parameters<typeof verifyReleaseLog>[0]>;
  };
}

const onFile = (directory: string): LogPlace => ({
  what: "kms",
  at: (name) => {
    const path = join(directory, name);
    return { open: async () => sqlite(path), read: async () => readOnlySqlite(path) };
  },
});

const onPostgresql = (postgres: Postgres): LogPlace => ({
  what: "kms on PostgreSQL",
  at: () => {
    const database = postgres.database();
    const open = () => postgresql([database]);
    return { open, read: open };
  },
});

/** What a longer log costs who starts, appends and verifies. */
async function* growth({ what, at }: LogPlace, sizes: readonly number[]): AsyncIterable<Row> {
  const keys = storeKeys(randomBytes(32));
  const measure = async (entries: number) => {
    const { open, read } = at(`log-of-${entries}`);
    await fill(await open(), keys, entries);
    const before = performance.now();
    const store = await openStore(await open(), keys);
    const start = performance.now() - before;
    const append = await processorTime(async () => {
      for (let i = 0; i < 50; i++) await fillBatch(store, 1000);
    });
    await store.close();
    const memory = process.memoryUsage().rss;
    const verify = await processorTime(async () => verifyReleaseLog(await read()));
    const grown = (process.memoryUsage().rss - memory) / 2 ** 20;
    return { start, append: append / 50, verify: (1000 * verify) / entries, memory: grown };
  };
  yield* besideFirst(
    sizes,
    measure,
    [
      ["opening", "ms", "start"],
      ["an entry appended, in batches of 1,000, to", "µs", "append"],
      ["an entry verified, of", "µs", "verify"],
      ["memory more after verifying", "MiB", "memory"],
    ],
    (text, entries) => `${what}: ${text} a log of ${entries}`,
  );
}

/** What many applications, each with a policy file, cost a KMS that starts, and each release. */
async function* manyFiles(directory: string, machines: readonly Machine[]): AsyncIterable<Row> {
  const measure = async (count: number) => {
    const path = join(directory, `applications-${count}`);
    const cost = await withApplications(path, count, machines);
    rmSync(path, { recursive: true });
    return cost;
  };
  yield* besideFirst(
    applications,
    measure,
    [
      ["processor time of a release", "ms", "cost"],
      ["processor time of the start", "ms", "start"],
      ["resident memory after the start", "MiB", "memory"],
      ["resident memory after all were read again", "MiB", "reloaded"],
    ],
    (text, count) => `kms: ${text}, ${count} policy files`,
  );
}

async function withApplications(directory: string, count: number, machines: readonly Machine[]) {
  const [data, policies] = [join(directory, "data"), join(directory, "policies")];
  mkdirSync(policies, { recursive: true });
  createRootSecret(data);
  const file = machines[0]!.policyFile();
  writeFileSync(join(policies, "hello.json"), JSON.stringify(file));
  for (let i = 1; i < count; i++) {
    const other = policyOfOthers(file, randomBytes(20).toHex());
    writeFileSync(join(policies, `${i}.json`), JSON.stringify(other));
  }
  const server = await serve(data, policies, "--rate-per-address", "100000");
  try {
    const started = await metrics(server.url);
    await load(server, machines, 300, 8);
    const earlier = await metrics(server.url);
    const times = await load(server, machines, 600, 8);
    const later = await metrics(server.url);
    server.process.kill("SIGHUP");
    let reloaded = later;
    while (reloaded(reads) === later(reads)) {
      await setTimeout(500);
      reloaded = await metrics(server.url);
    }
    const resident = (value: (name: string) => number) => value("process_resident_memory_bytes") / 2 ** 20;
    return {
      start: 1000 * started(processor),
      memory: resident(started),
      cost: (1000 * (later(processor) - earlier(processor))) / times.length,
      reloaded: resident(reloaded),
    };
  } finally {
    server.process.kill();
    await once(server.process, "exit");
  }
}

const processor = "process_cpu_seconds_total";
const reads = "caisson_kms_config_last_reload_success_timestamp_seconds";

async function fill(backend: Backend, keys: StoreKeys, entries: number): Promise<void> {
  const store = await openStore(backend, keys);
  for (let i = 0; i < entries; i += 1000) await fillBatch(store, 1000);
  await store.close();
}

async function fillBatch(store: Store, count: number): Promise<void> {
  const [id, digest] = [randomBytes(20), randomBytes(32)];
  const ids = { time: Date.now(), app: id, instance: id, registers: digest, policy: digest };
  await Promise.all(
    Array.from({ length: count }, () =>
      store.commit({ entry: { ...ids, outcome: "released", reason: "x" } }),
    ),
  );
}
