// SPDX-License-Identifier: Apache-2.0
/** The KMS as a process of its own: the command line, and what survives a restart and a kill -9. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { chmodSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { KeyError } from "@caisson/guest/key-client";
import { withPatience } from "@caisson/guest/patience";
import { readOnlySqlite, startKms, verifyReleaseLog } from "@caisson/kms";
import { Machine } from "@caisson/kms/testing/machine";
import { deriveApplicationKey } from "@caisson/protocol/derivation";
import { cli, exchange, kmsFiles, type Replica, startReplica } from "../support/kms-process.ts";

const machine = new Machine(Date.now());

function caisson(...args: string[]) {
  return spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", timeout: 60_000 });
}

const directory = (t: TestContext, machines = [machine]) => kmsFiles(t, machines);
const serve = (t: TestContext, { data, policies }: ReturnType<typeof kmsFiles>, ...more: string[]) =>
  startReplica(t, data, ["--policy-dir", policies, ...more]);
const keysFrom = ({ url, identityKey }: Pick<Replica, "url" | "identityKey">, guest = machine) =>
  exchange(url, identityKey, guest);

test("serve, release, stop, start again: the same identity, the same keys, one whole log", async (t) => {
  const files = directory(t);
  const first = await serve(t, files);
  const before = await keysFrom(first);
  first.process.kill("SIGTERM");
  deepEqual(await once(first.process, "exit"), [0, null]);
  match(first.log(), /"event":"released"[\s\S]*"event":"stopped"/);
  for (const secret of [
    before.applicationKey,
    before.instanceKey,
    readFileSync(join(files.data, "root-secret")),
  ]) {
    for (const text of [secret.toHex(), secret.toBase64()]) equal(first.log().includes(text), false);
  }

  const second = await serve(t, files);
  equal(second.identityKey, first.identityKey);
  deepEqual((await keysFrom(second)).applicationKey, before.applicationKey);

  equal(caisson("kms", "identity", "--data", files.data).stdout.trim(), first.identityKey);
  const log = join(files.data, "release-log.sqlite");
  const verified = caisson("kms", "log", "verify", log, "--identity", first.identityKey, "--json");
  equal(verified.status, 0, verified.stderr);
  equal((JSON.parse(verified.stdout) as { released: number }).released, 2);
  const shown = caisson("kms", "log", "show", log);
  const entry = `released  app ${machine.app}  instance ${machine.instance}  test image\n`;
  equal(shown.stdout.split(entry).length, 3, shown.stdout + shown.stderr);
  match(shown.stdout, /\n2 of 2 entries\n$/);
  const last = caisson(
    "kms",
    "log",
    "show",
    log,
    "--last",
    "1",
    "--app",
    machine.app.toUpperCase(),
    "--json",
  );
  deepEqual(
    (JSON.parse(last.stdout) as { entries: { sequence: number }[] }).entries.map(({ sequence }) => sequence),
    [2],
  );
  const none = caisson("kms", "log", "show", log, "--app", "00".repeat(20));
  equal(none.stdout, "0 of 2 entries\n");
  const foreign = caisson("kms", "log", "verify", log, "--identity", "00".repeat(32));
  equal(foreign.status, 10);
  match(foreign.stderr, /\[log\/identity\]/);
});

test("a backup, restored elsewhere, gives the same identity and the same keys", async (t) => {
  const files = directory(t);
  const before = await startKms({ ...files, host: "127.0.0.1", port: 0, development: true });
  const keys = await keysFrom(before);
  await before.close();

  const output = join(files.policies, "..", "backup.json");
  const passphrase = join(files.policies, "..", "passphrase");
  writeFileSync(passphrase, "correct horse battery\n");
  const command = [
    "kms",
    "backup",
    "--data",
    files.data,
    "--passphrase-file",
    passphrase,
    "--output",
    output,
  ];
  const backup = caisson(...command);
  equal(backup.status, 0, backup.stderr);
  equal(statSync(output).mode & 0o777, 0o600);
  const secret = readFileSync(join(files.data, "root-secret"));
  for (const encoding of ["hex", "base64", "latin1"] as const) {
    equal(readFileSync(output, "latin1").includes(secret.toString(encoding)), false);
  }
  equal(caisson(...command).status, 2);

  const data = join(files.policies, "..", "restored");
  const restore = ["kms", "restore", output, "--data", data, "--passphrase-file", passphrase];
  equal(caisson(...restore).status, 0);
  match(caisson(...restore).stderr, /\[root-secret\/exists\]/);
  // What was done is counted, so that epochs of volumes go beyond those of a restore that was lost again.
  equal(readFileSync(`${output}.restored`, "utf8").split("\n").length, 2);
  match(caisson("kms", "volume", "restored", "--data", data).stdout, /^0 volumes wait/);
  const after = await startKms({ ...files, data, host: "127.0.0.1", port: 0, development: true });
  t.after(() => after.close());
  equal(after.identityKey, before.identityKey);
  deepEqual((await keysFrom(after)).instanceKey, keys.instanceKey);
});

test("SIGHUP: new policies are in force, bad ones are not, and the process goes on", async (t) => {
  const files = directory(t);
  const kms = await serve(t, files);
  const policy = join(files.policies, "0.json");
  const logged = async (event: string) => {
    for (let i = 0; i < 1200 && !kms.log().includes(`"event":"${event}"`); i++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    equal(kms.log().includes(`"event":"${event}"`), true, event);
  };
  equal((await keysFrom(kms)).keyVersion, 1);
  writeFileSync(policy, JSON.stringify({ ...machine.policyFile(), keyVersion: 2 }));
  kms.process.kill("SIGHUP");
  await logged("reloaded");
  equal((await keysFrom(kms)).keyVersion, 2);
  writeFileSync(policy, JSON.stringify({ ...machine.policyFile(), keyVersion: "3" }));
  kms.process.kill("SIGHUP");
  await logged("reload-failed");
  equal((await keysFrom(kms)).keyVersion, 2);
});

test("SIGHUP under load: once it is said, nothing is released under what was in force before; bad files change nothing", {
  timeout: 120_000,
}, async (t) => {
  const files = directory(t);
  const kms = await serve(t, files, "--rate-per-address", "1000");
  const write = (keyVersion: number | string) => {
    // As a careful operator does it: whoever reads meanwhile has the one or the other.
    const path = join(files.policies, "0.json");
    writeFileSync(`${path}.new`, JSON.stringify({ ...machine.policyFile(), keyVersion }));
    renameSync(`${path}.new`, path);
  };
  let over = false;
  t.after(() => {
    over = true;
  });
  const failures: string[] = [];
  let released = 0;
  const guests = Array.from({ length: 8 }, async () => {
    while (!over) {
      await withPatience(
        () => keysFrom(kms),
        () => sleep(20),
      ).then(
        () => (released += 1),
        (error: Error) => failures.push(String(error)),
      );
    }
  });
  const said = (event: string) =>
    kms
      .log()
      .split("\n")
      .filter((line) => line.includes(`"event":"${event}"`))
      .map((line) => JSON.parse(line) as { logEntries: number; digest: string });
  const until = async (done: () => boolean) => {
    while (!done() && !t.signal.aborted) await sleep(10);
  };
  const last = 6;
  for (let version = 2; version <= last; version++) {
    const goal = released + 10;
    await until(() => released >= goal);
    const bad = said("reload-failed").length;
    write("another");
    kms.process.kill("SIGHUP");
    await until(() => said("reload-failed").length > bad);
    const good = said("reloaded").length;
    write(version);
    kms.process.kill("SIGHUP");
    await until(() => said("reloaded").length > good);
  }
  over = true;
  await Promise.all(guests);
  deepEqual(failures, []);
  const reloads = said("reloaded");
  equal(reloads.length, last - 1, "nobody who was denied makes it read its files again");
  // The policies in the order in which they came into force.
  const digests = said("policy").map(({ digest }) => digest);
  equal(digests.length, last);
  const log = readOnlySqlite(join(files.data, "release-log.sqlite"));
  let late = 0;
  let before = 0;
  await verifyReleaseLog(log, { identity: kms.identityKey }, (sequence, { outcome, policy }) => {
    if (outcome !== "released") return;
    const by = digests.indexOf(policy.toHex());
    // Entries that the log had when the KMS said that it was by then the next one's.
    const inForce = reloads.filter(({ logEntries }) => logEntries < sequence).length;
    if (by < inForce) late += 1;
    ok(by >= before, `entry ${sequence} is of policy ${by + 1} after one of ${before + 1}`);
    before = by;
  });
  equal(late, 0);
});

test("init makes a KMS once; serve and identity never do", (t) => {
  const { data, policies } = directory(t);
  rmSync(data, { recursive: true });
  const listen = ["--policy-dir", policies, "--listen", "127.0.0.1:0", "--development"];
  for (const command of [["serve", ...listen], ["identity"]]) {
    const run = caisson("kms", ...command, "--data", data);
    equal(run.status, 30);
    match(run.stderr, /\[root-secret\/missing\][\s\S]*caisson kms init/);
  }
  const made = caisson("kms", "init", "--data", data);
  equal(made.status, 0, made.stderr);
  match(made.stdout, /^[0-9a-f]{64}\n$/);
  equal(caisson("kms", "identity", "--data", data).stdout, made.stdout);
  const again = caisson("kms", "init", "--data", data);
  equal(again.status, 30);
  match(again.stderr, /\[root-secret\/exists\]/);
});

test("SIGHUP while it starts is a reload, not the end", async (t) => {
  const { data, policies } = directory(t);
  // A list of operators that is never read to its end keeps it starting until the test says so.
  const slow = join(data, "..", "operators.pipe");
  equal(spawnSync("mkfifo", [slow]).status, 0);
  const args = ["kms", "serve", "--data", data, "--policy-dir", policies, "--listen", "127.0.0.1:0"];
  const child = spawn(process.execPath, [cli, ...args, "--operators", slow, "--development"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => child.kill("SIGKILL"));
  let log = "";
  child.stderr.on("data", (chunk: Buffer) => {
    log += chunk;
  });
  // Opening a pipe for writing ends when somebody reads it.
  const writer = await open(slow, "w");
  child.kill("SIGHUP");
  rmSync(slow);
  const { publicKey } = generateKeyPairSync("ed25519");
  const { x } = publicKey.export({ format: "jwk" });
  const key = Buffer.from(x!, "base64url").toString("hex");
  await writer.write(JSON.stringify({ keys: [{ type: "ed25519", key }], threshold: 1 }));
  await writer.close();
  for (let i = 0; i < 1200 && !log.includes('"event":"reloaded"') && child.exitCode === null; i++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  match(log, /"event":"started"[\s\S]*"event":"reloaded"/);
});

test("a production KMS does not start with a policy for emulated machines", (t) => {
  const { data, policies } = directory(t);
  const run = caisson("kms", "serve", "--data", data, "--policy-dir", policies, "--listen", "127.0.0.1:0");
  equal(run.status, 30);
  match(run.stderr, /\[policy\/malformed\]/);
});

test("a production KMS takes operators and the policy of a log from files that nobody else can write", (t) => {
  const { data, policies } = directory(t);
  const [operators, policy] = ["operators.json", "log-policy"].map((name) => join(policies, name)) as [
    string,
    string,
  ];
  writeFileSync(
    operators,
    JSON.stringify({ threshold: 1, keys: [{ type: "ed25519", key: "00".repeat(32) }] }),
  );
  writeFileSync(policy, "quorum none\n");
  const serve = ["kms", "serve", "--data", data, "--listen", "127.0.0.1:0"];
  for (const [file, more] of [
    [operators, ["--operators", operators]],
    [policy, ["--log", "http://127.0.0.1:1", "--log-policy", policy]],
  ] as const) {
    chmodSync(file, 0o666);
    const run = caisson(...serve, ...more);
    equal(run.status, 30, run.stderr);
    match(run.stderr, /can be written by others/);
    match(run.stderr, /policy\/permissions/);
  }
});

test("kill -9 under load: no key that a guest received is missing from the log, and the log goes on", async (t) => {
  const guests = Array.from({ length: 40 }, (_, seed) => new Machine(Date.now(), "hello", seed));
  const files = directory(t);
  const received = new Map<string, number>();
  for (const round of [1, 2, 3]) {
    const kms = await serve(t, files, "--rate-per-address", "1000");
    let left = 12 * round;
    const killed = once(kms.process, "exit");
    // Eight guests at a time, until the KMS is gone.
    const worker = async (first: number) => {
      for (let i = first; ; i = (i + 8) % guests.length) {
        const keys = await keysFrom(kms, guests[i]!).catch((error: KeyError) => error.code);
        if (keys === "keys/unreachable") return;
        if (typeof keys === "string") throw new Error(keys);
        received.set(keys.instance, (received.get(keys.instance) ?? 0) + 1);
        if (--left === 0) kms.process.kill("SIGKILL");
      }
    };
    await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(worker));
    deepEqual(await killed, [null, "SIGKILL"]);
    const total = [...received.values()].reduce((sum, n) => sum + n, 0);
    const log = readOnlySqlite(join(files.data, "release-log.sqlite"));
    const report = await verifyReleaseLog(log, { identity: kms.identityKey });
    equal(report.released >= total, true, `${report.released} in the log, ${total} received`);
    // What the log has more can only be what was under way when the process died.
    equal(report.released - total <= 8 * round, true, `${report.released} in the log, ${total} received`);
    for (const [instance, count] of received) {
      equal(releasesOf(join(files.data, "release-log.sqlite"), instance) >= count, true, instance);
    }
  }
});

function releasesOf(path: string, instance: string): number {
  const database = new DatabaseSync(path, { readOnly: true });
  const row = database
    .prepare("SELECT count(*) AS n FROM entry WHERE outcome = 'released' AND instance = ?")
    .get(Uint8Array.fromHex(instance));
  database.close();
  return Number(row!.n);
}

test("shares of the root secret: made, sealed by two of three keepers, and a new machine is the same KMS", async (t) => {
  const files = directory(t);
  const place = join(files.data, "..");
  const passphrase = join(place, "passphrase");
  writeFileSync(passphrase, "a passphrase that is long enough\n", { mode: 0o600 });
  const run = (...args: string[]) => {
    const { status, stdout, stderr } = caisson("kms", ...args);
    equal(status, 0, stderr);
    return stdout.trim();
  };
  const at = (name: string) => join(place, name);
  const keys = ["ada", "bob", "cleo"].map((name) => [
    name,
    run("shares", "key", at(name), "--passphrase-file", passphrase),
  ]);
  const identity = run("identity", "--data", files.data);
  const keepers = keys.map(([name, key]) => `${name}=${key}`);
  run(
    "shares",
    "make",
    "--data",
    files.data,
    "--threshold",
    "2",
    "--keeper",
    ...keepers,
    "--output",
    at("shares"),
  );
  match(run("log", "show", join(files.data, "release-log.sqlite")), /changed .* shares\/made 2 of 3/);
  const to = run("shares", "recover", at("shares"), "--data", at("new"));
  const sealed = ["ada", "cleo"].map((name) => {
    const args = ["--keeper", name, "--key", at(name), "--passphrase-file", passphrase, "--to", to];
    return run("shares", "seal", at("shares"), ...args, "--output", at(`sealed-${name}`));
  });
  const few = caisson("kms", "shares", "recover", at("shares"), sealed[0]!, "--data", at("new"));
  match(few.stderr, /shares\/few/);
  const spoilt = JSON.parse(readFileSync(sealed[1]!, "utf8")) as { ciphertext: string };
  writeFileSync(
    at("spoilt"),
    JSON.stringify({
      ...spoilt,
      ciphertext: spoilt.ciphertext.replace(/.$/, (c) => (c === "0" ? "1" : "0")),
    }),
  );
  const bad = caisson(
    "kms",
    "shares",
    "recover",
    at("shares"),
    sealed[0]!,
    at("spoilt"),
    "--data",
    at("new"),
  );
  match(bad.stderr, /the share of cleo[\s\S]*shares\/wrong/);
  equal(run("shares", "recover", at("shares"), ...sealed, "--data", at("new")), identity);
  match(run("log", "show", join(at("new"), "release-log.sqlite")), /volumes: restored/);
  deepEqual(readFileSync(join(at("new"), "root-secret")), readFileSync(join(files.data, "root-secret")));
});

test("a replica that the KMS releases its application's keys to takes the root secret", async (t) => {
  const files = directory(t);
  const kms = await serve(t, files, "--own-app", machine.app);
  const { applicationKey } = await keysFrom(kms);
  const place = join(files.data, "..");
  const keyFile = join(place, "key");
  const joinReplica = (key: Uint8Array, data: string) => {
    writeFileSync(keyFile, `${key.toHex()}\n`);
    const args = ["--identity", kms.identityKey, "--key-file", keyFile, "--data", join(place, data)];
    return caisson("kms", "join", kms.url, ...args);
  };
  equal(
    joinReplica(deriveApplicationKey(applicationKey, "kms", "root"), "joined").stdout.trim(),
    kms.identityKey,
  );
  deepEqual(
    readFileSync(join(place, "joined", "root-secret")),
    readFileSync(join(files.data, "root-secret")),
  );
  const wrong = joinReplica(deriveApplicationKey(applicationKey, "kms", "another"), "not");
  deepEqual([wrong.status, wrong.stdout], [10, ""]);
  match(wrong.stderr, /root-secret\/sealed/);
});
