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
import { setTimeout } from "node:timers/promises";
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
  const measured: ApplicationsCost[] = [];
  for (const count of large ? [10, 10_000, 1_000_000] : [10, 10_000]) {
    const path = join(directory, `applications-${count}`);
    measured.push(await withApplications(path, count, machines));
    rmSync(path, { recursive: true });
  }
  const [few, ...more] = measured;
  for (const { count, ...many } of more) {
    const note = `peer: with ${few!.count}`;
    const name = (text: string) => `kms: ${text} with ${count} applications`;
    for (const [text, unit, key] of [
      ["processor time of a release", "ms", "cost"],
      ["processor time of the start", "ms", "start"],
      ["resident memory after the start", "MiB", "memory"],
      ["resident memory after all were read again", "MiB", "reloaded"],
    ] as const) {
      yield { name: name(text), unit, ours: many[key], peer: few![key], note };
    }
  }
}

interface ApplicationsCost {
  count: number;
  start: number;
  memory: number;
  cost: number;
  reloaded: number;
}

async function withApplications(
  directory: string,
  count: number,
  machines: readonly Machine[],
): Promise<ApplicationsCost> {
  const [data, policies] = [join(directory, "data"), join(directory, "policies")];
  mkdirSync(policies, { recursive: true });
  createRootSecret(data);
  writeFileSync(join(policies, "hello.json"), JSON.stringify(machines[0]!.policyFile()));
  for (let i = 1; i < count; i++) writeFileSync(join(policies, `${i}.json`), policyOfOthers(machines[0]!));
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
      count,
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

/** A policy file of an application of its own, whose image has measurements of its own. */
function policyOfOthers(machine: Machine): string {
  const [mrtd, rtmr0, rtmr1, rtmr2] = Array.from({ length: 4 }, () => randomBytes(48).toHex());
  const references = [{ name: "image", mrtd, rtmr0, rtmr1, rtmr2 }];
  return JSON.stringify({ ...machine.policyFile({ references }), app: randomBytes(20).toHex() });
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
