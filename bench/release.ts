// SPDX-License-Identifier: Apache-2.0
/**
 * Key release: what one costs the KMS, beside the signature operations that it cannot do without; and whether ten
 * thousand of them lose anything; on a file and on PostgreSQL, in one run.
 *
 * The KMS is a process of its own, started from the command line; guests are simulated here, each with a quote of its
 * own. Costs are processor time of that process, so that they mean the same on a busy machine.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Row } from "@caisson/cli/commands/bench";
import { type Post, requestKeys } from "@caisson/guest/key-client";
import {
  type Backend,
  createRootSecret,
  openStore,
  postgresql,
  readOnlySqlite,
  sqlite,
  storeKeys,
  verifyReleaseLog,
} from "@caisson/kms";
import { Machine } from "@caisson/kms/testing/machine";
import { type Postgres, startPostgres } from "../test/support/postgresql.ts";
import { median } from "./figures/figures.ts";
import { type Crowd, startCrowd } from "./hostile/crowd.ts";
import { replicas } from "./kms/replicas.ts";
import { load, longest, metrics, type Server, serve } from "./kms/server.ts";

/** Bytes of the KMS's heap that are in use after a full collection, which its inspector makes. */
async function heapAfterCollection(server: Server): Promise<number> {
  const socket = new WebSocket(await server.inspector());
  await once(socket, "open");
  const call = async (id: number, method: string, params: object = {}) => {
    socket.send(JSON.stringify({ id, method, params }));
    const [{ data }] = (await once(socket, "message")) as [MessageEvent<string>];
    return JSON.parse(data) as { result: { result: { value: number } } };
  };
  await call(1, "HeapProfiler.collectGarbage");
  const { result } = await call(2, "Runtime.evaluate", { expression: "process.memoryUsage().heapUsed" });
  socket.close();
  return result.result.value;
}

/**
 * Times what a release must sign and verify, as processor time, in ms: PCK certificate, QE report and quote (P-256, each key
 * imported anew, as each comes from the guest), hello, answer and log head (Ed25519). The KMS itself does fewer: what
 * quotes of a platform have in common it verifies once, and one head is for all entries of a transaction.
 */
function signatureTimer(checks = 3, signatures = 3): () => number {
  const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const ed25519 = generateKeyPairSync("ed25519");
  const der = p256.publicKey.export({ format: "der", type: "spki" });
  const identity: KeyObject = createPrivateKey(ed25519.privateKey.export({ format: "pem", type: "pkcs8" }));
  const message = new Uint8Array(700);
  const signature = sign("sha256", message, { key: p256.privateKey, dsaEncoding: "ieee-p1363" });
  const once = () => {
    for (let i = 0; i < checks; i++) {
      const key = createPublicKey({ key: der, format: "der", type: "spki" });
      verify("sha256", message, { key, dsaEncoding: "ieee-p1363" }, signature);
    }
    for (let i = 0; i < signatures; i++) sign(null, message.subarray(0, 300), identity);
  };
  return () => {
    for (let i = 0; i < 100; i++) once();
    const before = process.cpuUsage();
    for (let i = 0; i < 400; i++) once();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 400 / 1000;
  };
}

/** What a release costs the KMS, `width` at a time, and its signatures, both in ms of processor time. */
interface Cost {
  ours: number;
  limit: number;
  /** The median of the turns' ratios. */
  ratio: number;
}

/** How often KMS and signatures take turns, as a machine is not as fast all the time. */
const turns = 5;

/** `releases` of them in each turn. */
async function costOf(
  server: Server,
  machines: readonly Machine[],
  releases: number,
  width: number,
): Promise<Cost> {
  const signatures = signatureTimer();
  const found: Cost[] = [];
  for (let i = 0; i < turns; i++) {
    const limits = [signatures()];
    const before = await metrics(server.url);
    await load(server, machines, releases, width);
    const after = await metrics(server.url);
    limits.push(signatures());
    const more = (name: string) => after(name) - before(name);
    const ours = (1000 * more("process_cpu_seconds_total")) / more("caisson_kms_released_total");
    const limit = (limits[0]! + limits[1]!) / 2;
    found.push({ ours, limit, ratio: ours / limit });
  }
  const of = (key: keyof Cost) => median(found.map((cost) => cost[key]));
  return { ours: of("ours"), limit: of("limit"), ratio: Number(of("ratio").toPrecision(4)) };
}

/** Times, in ms, from asking for an entry of a new release log to having it on this disk. */
async function appends(backend: Backend, count: number): Promise<number[]> {
  const log = await openStore(backend, storeKeys(randomBytes(32)));
  const digest = randomBytes(32);
  const id = digest.subarray(0, 20);
  const entry = { time: Date.now(), app: id, instance: id, registers: digest, policy: digest };
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    // A pause as between two releases, so that the file system is asked in the same way.
    await setTimeout(2);
    const started = performance.now();
    await log.commit({ entry: { ...entry, outcome: "released", reason: "benchmark" } });
    times.push(performance.now() - started);
  }
  await log.close();
  return times;
}

/** A database that a KMS is started with, and how its log is opened afterwards. */
interface Place {
  what: string;
  options: readonly string[];
  log(): ReturnType<typeof readOnlySqlite> | Promise<ReturnType<typeof readOnlySqlite>>;
  /** Times of entries alone in a log of their own, on the same disk; ms. */
  appends(count: number): Promise<number[]>;
  /** What its own processes have used, ms. */
  processorTime?: () => number;
}

export async function* run(releases = 4000): AsyncIterable<Row> {
  const directory = mkdtempSync(join(tmpdir(), "caisson-bench-kms-"));
  const policies = join(directory, "policies");
  mkdirSync(policies);
  const machines = Array.from({ length: 16 }, (_, seed) => new Machine(Date.now(), "hello", seed));
  writeFileSync(join(policies, "app.json"), JSON.stringify(machines[0]!.policyFile()));
  const ends: (() => Promise<void> | void)[] = [];
  try {
    const postgres = await startPostgres((end) => ends.unshift(end));
    const data = { file: join(directory, "file"), PostgreSQL: join(directory, "postgresql") };
    const file = join(data.file, "release-log.sqlite");
    const database = postgres.database();
    const places: Place[] = [
      {
        what: "kms",
        options: [],
        log: () => readOnlySqlite(file),
        appends: (count) => appends(sqlite(join(mkdtempSync(join(directory, "alone-")), "log")), count),
      },
      {
        what: "kms on PostgreSQL",
        options: ["--database", database],
        log: () => postgresql([database]),
        appends: async (count) => appends(await postgresql([postgres.database()]), count),
        processorTime: () => processorTime(postgres, database),
      },
    ];
    for (const [i, place] of places.entries()) {
      const own = Object.values(data)[i]!;
      createRootSecret(own);
      const start = () => serve(own, policies, "--rate-per-address", "100000", ...place.options);
      const server = await start();
      try {
        yield* measure(server, machines, releases, place);
      } finally {
        server.process.kill();
        // It closes its log first, and writes in the directory meanwhile.
        await once(server.process, "exit");
      }
      yield* replicas(start, machines, releases, place.what, place.processorTime);
    }
    for (const kind of ["flood", "ask", "hold"] as const)
      yield await underAttack(kind, data.file, policies, machines);
  } finally {
    for (const end of ends) await end();
    rmSync(directory, { recursive: true });
  }
}

/** Of the processes of a server that are there, ms (Linux, Documentation/scheduler/sched-stats.rst). */
function processorTime(postgres: Postgres, database: string): number {
  const processes = postgres
    .sql(
      database,
      "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    )
    .split("\n");
  const ns = processes.map((pid) => Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[0]));
  return ns.reduce((a, b) => a + b, 0) / 1e6;
}

const attacks: Record<Crowd, string> = {
  flood: "kms: boots that get keys while 1,024 addresses ask all they can",
  ask: "kms: boots that get keys while 4,096 networks ask for keys that they do not get",
  hold: "kms: boots that get keys while 13 addresses hold 520 connections",
};

/** How many of the machines that boot meanwhile get their keys; each is in a network of its own. */
async function underAttack(
  kind: Crowd,
  data: string,
  policies: string,
  machines: readonly Machine[],
): Promise<Row> {
  const server = await serve(data, policies);
  const [machine] = machines;
  const evidence = await machine!.evidence(machine!.booted(server.identityKey), new Uint8Array(64));
  const end = await startCrowd(kind, server.url, evidence);
  let tries = 0;
  let served = 0;
  try {
    for (const until = performance.now() + longest; tries < 100 && performance.now() < until; tries++) {
      const i = tries;
      const machine = machines[i % machines.length]!;
      const boot = requestKeys({
        post: postFrom(`127.99.${i}.1`, server.url),
        identityKey: Uint8Array.fromHex(server.identityKey),
        evidence: (reportData) => machine.evidence(machine.booted(server.identityKey), reportData),
        now: Date.now,
        toleranceMs: 60_000,
      });
      served += await boot.then(
        () => 1,
        () => 0,
      );
      await setTimeout(50);
    }
  } finally {
    await end();
    server.process.kill("SIGKILL");
    await once(server.process, "exit");
  }
  return { name: attacks[kind], unit: "%", ours: (100 * served) / tries, limit: 100 };
}

/** As `httpPost`, from one address of this host, with as much patience as a guest has. */
function postFrom(localAddress: string, url: string): Post {
  return (path, document) =>
    new Promise((resolve, reject) => {
      const options = { method: "POST", localAddress, agent: false, timeout: 10_000 };
      const sending = request(new URL(path, url), options, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () => resolve(JSON.parse(text)));
      });
      sending.on("timeout", () => sending.destroy(new Error("no answer"))).on("error", reject);
      sending.end(JSON.stringify(document));
    });
}

async function* measure(
  server: Server,
  machines: readonly Machine[],
  releases: number,
  place: Place,
): AsyncIterable<Row> {
  const { what } = place;
  const warmUp = Math.floor(releases / 10);
  // A service is not restarted after each thousand, and V8 compiles functions anew for some 16,000 releases, a twentieth of
  // their processor time.
  for (let i = 0; i < 8; i++) await load(server, machines, releases / 2, 64);
  const alone: number[] = [];
  const logged: number[] = [];
  for (let i = 0; i < turns; i++) {
    alone.push(...(await load(server, machines, warmUp / 2, 1)));
    logged.push(...(await place.appends(warmUp / 2)));
  }
  const released = (value: (name: string) => number) => value("caisson_kms_released_total");
  const before = await metrics(server.url);
  // Two hundred and fifty-six keep it at work without a pause, which fewer guests here do not: they share its processors.
  const costs: [width: number, cost: Cost][] = [];
  for (const width of [8, 64, 256]) costs.push([width, await costOf(server, machines, releases / 5, width)]);
  const after = await metrics(server.url);
  const note =
    `limit: 3 P-256 verifications and 3 Ed25519 signatures alone, before and after each of ${turns} turns; ` +
    "medians, also of the ratio; 16 machines of one platform";
  for (const [width, cost] of costs) {
    yield { name: `${what}: processor time of a release, ${width} at a time`, unit: "ms", ...cost, note };
  }
  const [, crowd] = costs.at(-1)!;
  const more = signatureTimer(2, 0)() / signatureTimer()();
  yield {
    name: `${what}: processor time of a release, 256 at a time, on platforms not seen before`,
    unit: "ms",
    ours: crowd.ours + more * crowd.limit,
    limit: crowd.limit,
    ratio: Number((crowd.ratio + more).toPrecision(4)),
    note: "with 2 P-256 verifications more",
  };
  yield {
    name: `${what}: releases a second on one core, 256 at a time`,
    unit: "1/s",
    ours: 1000 / crowd.ours,
    limit: 1000 / crowd.limit,
    ratio: Number((1 / crowd.ratio).toPrecision(4)),
  };
  for (const [name, q] of [
    ["p50", 0.5],
    ["p99", 0.99],
  ] as const) {
    const at = (times: readonly number[]) => times.toSorted((a, b) => a - b)[Math.floor(q * times.length)]!;
    const peer = {
      peer: at(logged),
      note: `peer: an entry of the log alone, on the same disk, in ${turns} turns`,
    };
    yield { name: `${what}: request to answer, ${name}`, unit: "ms", ours: at(alone), ...peer };
  }

  // A heap grows to its working size first; what is retained goes on growing after that.
  await load(server, machines, releases, 8);
  const twice = await metrics(server.url);
  const resident = (value: (name: string) => number) => value("process_resident_memory_bytes") / 2 ** 20;
  for (const [value, earlier] of [
    [after, before],
    [twice, after],
  ] as const) {
    yield {
      name: `${what}: resident memory after ${released(value)} releases`,
      unit: "MiB",
      ours: resident(value),
      peer: resident(earlier),
      note: `peer: after ${released(earlier)}`,
    };
  }
  // Only now, because a collection that is forced would also keep the resident memory down.
  const heap = await heapAfterCollection(server);
  await load(server, machines, 2 * warmUp, 8);
  const last = await metrics(server.url);
  yield {
    name: `${what}: heap in use after ${released(last)} releases`,
    unit: "MiB",
    ours: (await heapAfterCollection(server)) / 2 ** 20,
    peer: heap / 2 ** 20,
    note: `after a forced collection; peer: the same after ${released(twice)}`,
  };

  const started = performance.now();
  const report = await verifyReleaseLog(await place.log(), { identity: server.identityKey });
  const ms = performance.now() - started;
  const missing = released(last) - report.released;
  yield { name: `${what}: released keys that are not in the log`, unit: "", ours: missing };
  yield { name: `${what}: verification of a log of ${report.head.sequence}`, unit: "ms", ours: ms };
}
