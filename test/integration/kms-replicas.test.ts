// SPDX-License-Identifier: Apache-2.0
/**
 * A KMS of several processes on one PostgreSQL, behind a balancer that knows nothing of it, while guests ask for keys:
 * processes die and are replaced, the database restarts, operators change a policy.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { withPatience } from "@caisson/guest/patience";
import { createRootSecret, postgresql, verifyReleaseLog } from "@caisson/kms";
import { Machine } from "@caisson/kms/testing/machine";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { cli, exchange, type Replica, startReplica } from "../support/kms-process.ts";
import { type Postgres, startPostgres } from "../support/postgresql.ts";

const guests = Array.from({ length: 8 }, (_, seed) => new Machine(Date.now(), "hello", seed));
const [machine] = guests;

const replica = (t: TestContext, data: string, ...more: string[]): Promise<Replica> =>
  startReplica(t, data, ["--rate-per-address", "10000", ...more]);

/** Each connection to the next replica that takes one. */
async function balancer(t: TestContext, replicas: () => readonly (Replica | undefined)[]): Promise<string> {
  let next = 0;
  const server = createServer((socket) => {
    const all = replicas();
    const to = all[next++ % all.length];
    // It has not started yet.
    if (to === undefined) return void socket.destroy();
    const onward = connect(to.port, "127.0.0.1");
    for (const end of [socket, onward]) end.on("error", () => {});
    socket.on("close", () => onward.destroy());
    onward.on("close", () => socket.destroy());
    socket.pipe(onward).pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

interface Setup {
  data: string;
  database: string;
  postgres: Postgres;
  directory: string;
}

async function setup(t: TestContext): Promise<Setup> {
  const directory = temporaryDirectory("kms-replicas", t);
  const ends: (() => Promise<void> | void)[] = [];
  t.after(async () => {
    for (const end of ends) await end();
  });
  const postgres = await startPostgres((end) => ends.unshift(end));
  const data = join(directory, "data");
  createRootSecret(data);
  return { directory, data, postgres, database: postgres.database() };
}

test("a nonce from one replica is good once at another; keys are the same at each", async (t) => {
  const { directory, data, database } = await setup(t);
  const policies = join(directory, "policies");
  mkdirSync(policies);
  writeFileSync(join(policies, "app.json"), JSON.stringify(machine!.policyFile()));
  const more = ["--policy-dir", policies, "--database", database];
  const [one, two] = [await replica(t, data, ...more), await replica(t, data, ...more)];
  const posts = [one, two].map(({ port }) => httpPost(`http://127.0.0.1:${port}`, 20_000));
  const sent: { path: string; body: object }[] = [];
  const keys = await requestKeys({
    post: (path, body) => {
      sent.push({ path, body });
      return posts[path === "/v1/hello" ? 0 : 1]!(path, body);
    },
    identityKey: Uint8Array.fromHex(one.identityKey),
    evidence: (reportData) => machine!.evidence(machine!.booted(one.identityKey), reportData),
    now: Date.now,
    toleranceMs: 5000,
  });
  const [, release] = sent;
  for (const post of [posts[0]!, posts[1]!, posts[0]!]) {
    const again = (await post(release!.path, release!.body)) as { outcome: string; code: string };
    deepEqual([again.outcome, again.code], ["denied", "nonce/used"]);
  }
  const there = await exchange(`http://127.0.0.1:${one.port}`, one.identityKey, machine!);
  deepEqual(there.applicationKey, keys.applicationKey);
  const heads = await Promise.all(
    [one, two].map(async ({ port }) => (await fetch(`http://127.0.0.1:${port}/v1/log/head`)).json()),
  );
  deepEqual(heads[0], heads[1]);
});

/** Waits until a replica's metric of this name is above zero. */
async function counted({ port }: Replica, series: string): Promise<void> {
  for (const until = Date.now() + 90_000; ; await setTimeout(200)) {
    const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    const line = page.split("\n").find((one) => one.startsWith(`${series} `));
    if (Number(line?.slice(series.length)) > 0) return;
    ok(Date.now() < until, `${series} stays at zero`);
  }
}

/** What `fork` gives is another copy of what `options` name, as whoever keeps the database can make one. */
async function split(
  t: TestContext,
  { data, directory }: Pick<Setup, "data" | "directory">,
  options: readonly string[],
  fork: () => { data: string; options: readonly string[] },
): Promise<void> {
  const policies = join(directory, "policies");
  mkdirSync(policies);
  writeFileSync(join(policies, "app.json"), JSON.stringify(machine!.policyFile()));
  const start = (from: string, ...more: string[]) => replica(t, from, "--policy-dir", policies, ...more);
  const get = ({ port, identityKey }: Replica, guest = machine!) =>
    exchange(`http://127.0.0.1:${port}`, identityKey, guest);
  const before = await start(data, ...options);
  await get(before);
  before.process.kill("SIGTERM");
  await once(before.process, "exit");

  const other = fork();
  const replicas: Replica[] = [];
  const urls = await Promise.all([0, 1].map((i) => balancer(t, () => [replicas[i]])));
  replicas.push(await start(data, ...options, "--peer", urls[1]!));
  replicas.push(await start(other.data, ...other.options, "--peer", urls[0]!));
  for (const one of replicas) await counted(one, 'caisson_kms_peer_heads_total{outcome="same"}');
  // From here on each has entries that the other is not shown: of another guest, as those of one in the same millisecond
  // are one entry, and both histories still the same.
  await Promise.all(replicas.map((one, i) => get(one, guests[i])));
  for (const one of replicas) await counted(one, 'caisson_kms_peer_heads_total{outcome="split"}');
  for (const one of replicas) {
    await rejects(get(one), { code: "keys/denied", denial: "log/unavailable", message: /two histories/ });
  }
}

test("replicas that a PostgreSQL shows two histories find out from each other, and both stop", async (t) => {
  const made = await setup(t);
  await split(t, made, ["--database", made.database], () => {
    const other = new URL(made.database);
    const name = other.pathname.slice(1);
    other.pathname = `/${name}_fork`;
    made.postgres.sql(
      new URL("/postgres", made.database).href,
      `CREATE DATABASE "${name}_fork" TEMPLATE "${name}"`,
    );
    return { data: made.data, options: ["--database", other.href] };
  });
});

test("so do processes that have two copies of one file", async (t) => {
  const directory = temporaryDirectory("kms-fork", t);
  const [data, copy] = [join(directory, "data"), join(directory, "copy")];
  createRootSecret(data);
  await split(t, { directory, data }, [], () => {
    cpSync(data, copy, { recursive: true });
    return { data: copy, options: [] };
  });
});

test("replicas die and are replaced, PostgreSQL restarts, operators change a policy: every boot gets its keys", {
  timeout: 300_000,
}, async (t) => {
  const { directory, data, database, postgres } = await setup(t);
  const passphrase = join(directory, "passphrase");
  writeFileSync(passphrase, "a passphrase that is long enough\n", { mode: 0o600 });
  const caisson = async (...args: string[]) => {
    const options = { timeout: 60_000, cwd: directory };
    const { stdout } = await promisify(execFile)(process.execPath, [cli, ...args], options);
    return stdout.trim();
  };
  const names = ["one", "two"];
  const keys: { type: string; key: string }[] = [];
  for (const name of names) {
    const [type, key] = (await caisson("owner", "new", name, "--passphrase-file", passphrase)).split(":");
    keys.push({ type: type!, key: key! });
  }
  writeFileSync(join(directory, "operators.json"), JSON.stringify({ keys, threshold: 2 }));
  const more = ["--operators", join(directory, "operators.json"), "--database", database];
  const replicas = [await replica(t, data, ...more)];
  const [{ identityKey }] = replicas as [Replica];
  const url = await balancer(t, () => replicas);

  const setPolicy = async (of: Machine, replaces: number, keyVersion: number, to = url) => {
    writeFileSync(join(directory, "policy.json"), JSON.stringify({ ...of.policyFile(), keyVersion }));
    const file = `request-${of.app}-${replaces}`;
    const about = ["--kms", identityKey, "--app", of.app, "--replaces", String(replaces)];
    await caisson("kms", "request", "policy-set", "policy.json", ...about, "--output", file);
    const sign = async (from: string, name: string) => {
      const args = ["--key", name, "--passphrase-file", passphrase, "--output", `${from}-${name}`];
      match(await caisson("kms", "request", "sign", from, ...args), /policy\/set/);
      return `${from}-${name}`;
    };
    await caisson("kms", "request", "send", await sign(await sign(file, "one"), "two"), to);
  };
  await setPolicy(machine!, 0, 1);
  // The second one finds operators and policy in the database.
  replicas.push(await replica(t, data, "--database", database));
  // A guest that boots as soon as its first policy is signed, at the one that was not told.
  const newcomer = new Machine(Date.now(), "newcomer");
  await setPolicy(newcomer, 0, 1, replicas[0]!.url);
  equal((await withPatience(() => exchange(replicas[1]!.url, identityKey, newcomer))).app, newcomer.app);

  let over = false;
  t.after(() => {
    over = true;
  });
  const versions: number[] = [];
  const failures: string[] = [];
  let released = 0;
  const boots = guests.map(async (guest) => {
    while (!over) {
      try {
        const { keyVersion } = await withPatience(() => exchange(url, identityKey, guest));
        released += 1;
        versions.push(keyVersion);
      } catch (error) {
        failures.push(String(error));
      }
    }
  });
  /** Until so many more have their keys. */
  const bootsMore = async (count: number) => {
    for (const goal = released + count; released < goal && !t.signal.aborted; ) await setTimeout(20);
  };
  await bootsMore(guests.length);
  for (const i of [0, 1]) {
    replicas[i]!.process.kill("SIGKILL");
    replicas[i] = await replica(t, data, "--database", database);
  }
  await postgres.stop("immediate");
  await setTimeout(300);
  await postgres.start();
  await bootsMore(guests.length);
  await setPolicy(machine!, 1, 2);
  while (versions.at(-1) !== 2 && !t.signal.aborted) await setTimeout(20);
  // A rolling restart, as a Deployment does it.
  for (const i of [0, 1]) {
    const old = replicas[i]!;
    replicas[i] = await replica(t, data, "--database", database);
    old.process.kill("SIGTERM");
    await once(old.process, "exit");
  }
  over = true;
  await Promise.all(boots);
  deepEqual(failures, []);
  deepEqual([versions[0], versions.at(-1)], [1, 2]);
  let logged = 0;
  const policies: string[] = [];
  await verifyReleaseLog(await postgresql([database]), { identity: identityKey }, (_, entry) => {
    if (entry.outcome === "released") logged += 1;
    const policy = entry.policy.toHex();
    if (entry.outcome === "released" && policies.at(-1) !== policy) policies.push(policy);
  });
  equal(logged >= released, true, `${logged} logged, ${released} released`);
  // Once the log says that the policy changed, nothing more was released under the old one.
  equal(policies.length, 3);
});
