// SPDX-License-Identifier: Apache-2.0
/**
 * What growth costs a KMS: the entries of its log, and the applications that it has policies of.
 *
 * Costs are processor time, beside those of a small log or few applications in the same run.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Row } from "@caisson/cli/commands/bench";
import {
  createRootSecret,
  openStore,
  readOnlySqlite,
  type Store,
  type StoreKeys,
  sqlite,
  storeKeys,
  verifyReleaseLog,
} from "@caisson/kms";
import { Machine } from "@caisson/kms/testing/machine";
import { load, metrics, serve } from "./kms/server.ts";

export async function* run(): AsyncIterable<Row> {
  const directory = mkdtempSync(join(tmpdir(), "caisson-bench-kms-growth-"));
  try {
    yield* growth(directory);
    yield* manyApplications(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Sizes that are not for every day: logs of 10⁶ and 10⁷ entries, 10⁵ applications. */
const large = process.env.CAISSON_BENCH_LARGE === "1";

/** What a longer log costs who starts, appends and verifies. */
async function* growth(directory: string): AsyncIterable<Row> {
  const keys = storeKeys(randomBytes(32));
  const measured: LogCost[] = [];
  for (const entries of large ? [10_000, 1_000_000, 10_000_000] : [10_000, 100_000]) {
    const path = join(directory, `log-of-${entries}`);
    await fill(path, keys, entries);
    const before = performance.now();
    const store = await openStore(sqlite(path), keys);
    const start = performance.now() - before;
    const append = await processorTime(async () => {
      for (let i = 0; i < 50; i++) await fillBatch(store, 1000);
    });
    await store.close();
    const memory = process.memoryUsage().rss;
    const verify = await processorTime(() => verifyReleaseLog(readOnlySqlite(path)));
    const grown = (process.memoryUsage().rss - memory) / 2 ** 20;
    measured.push({ entries, start, append: append / 50, verify: (1000 * verify) / entries, memory: grown });
  }
  for (const many of measured.slice(1)) yield* beside(measured[0]!, many);
}

interface LogCost {
  entries: number;
  start: number;
  append: number;
  verify: number;
  memory: number;
}

function* beside(few: LogCost, many: LogCost): Iterable<Row> {
  const note = `peer: with ${few.entries}`;
  const name = (text: string) => `kms: ${text} a log of ${many.entries}`;
  yield { name: name("opening"), unit: "ms", ours: many.start, peer: few.start, note };
  yield {
    name: name("an entry appended, in batches of 1,000, to"),
    unit: "µs",
    ours: many.append,
    peer: few.append,
    note,
  };
  yield { name: name("an entry verified, of"), unit: "µs", ours: many.verify, peer: few.verify, note };
  yield { name: name("memory more after verifying"), unit: "MiB", ours: many.memory, peer: few.memory, note };
}

/** What many applications, each with a policy file, cost a KMS that starts, and each release. */
async function* manyApplications(directory: string): AsyncIterable<Row> {
  const machines = Array.from({ length: 16 }, (_, seed) => new Machine(Date.now(), "hello", seed));
  const measured: { count: number; start: number; memory: number; cost: number }[] = [];
  for (const count of large ? [10, 10_000, 100_000] : [10, 10_000]) {
    const [data, policies] = ["data", "policies"].map((name) => join(directory, `${name}-of-${count}`)) as [
      string,
      string,
    ];
    mkdirSync(policies);
    createRootSecret(data);
    const file = machines[0]!.policyFile();
    for (let i = 0; i < count; i++) {
      const app = i === 0 ? machines[0]!.app : i.toString(16).padStart(40, "0");
      writeFileSync(join(policies, `${i}.json`), JSON.stringify({ ...file, app }));
    }
    const before = performance.now();
    const server = await serve(data, policies, "--rate-per-address", "100000");
    const start = performance.now() - before;
    try {
      await load(server, machines, 300, 8);
      const earlier = await metrics(server.url);
      const times = await load(server, machines, 600, 8);
      const later = await metrics(server.url);
      const cpu = later("process_cpu_seconds_total") - earlier("process_cpu_seconds_total");
      const memory = later("process_resident_memory_bytes") / 2 ** 20;
      measured.push({ count, start, memory, cost: (1000 * cpu) / times.length });
    } finally {
      server.process.kill();
      await once(server.process, "exit");
    }
  }
  const [few, ...more] = measured;
  for (const { count, start, memory, cost } of more) {
    const note = `peer: with ${few!.count}`;
    const name = (text: string) => `kms: ${text} with ${count} applications`;
    yield { name: name("processor time of a release"), unit: "ms", ours: cost, peer: few!.cost, note };
    yield { name: name("start"), unit: "ms", ours: start, peer: few!.start, note };
    yield { name: name("resident memory"), unit: "MiB", ours: memory, peer: few!.memory, note };
  }
}

/** Processor time of this process, in ms. */
async function processorTime(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

async function fill(path: string, keys: StoreKeys, entries: number): Promise<void> {
  const store = await openStore(sqlite(path), keys);
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
