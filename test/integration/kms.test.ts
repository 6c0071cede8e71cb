// SPDX-License-Identifier: Apache-2.0
/**
 * The KMS as a process of its own: the command line, what survives a restart and a kill -9, and everything that a man in
 * the middle between guest and KMS can do.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  httpPost,
  type KeyError,
  type Post,
  type ReleasedKeys,
  requestKeys,
} from "@caisson/guest/key-client";
import { withPatience } from "@caisson/guest/patience";
import { createRootSecret, readOnlySqlite, startKms, verifyReleaseLog } from "@caisson/kms";
import { Machine } from "@caisson/kms/testing/machine";
import { deriveApplicationKey } from "@caisson/protocol/derivation";
import type { Answer, Hello, Released, ReleaseRequest } from "@caisson/protocol/key-release";
import type { EvidenceDocument } from "@caisson/verify";

const cli = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;
const machine = new Machine(Date.now());

function caisson(...args: string[]) {
  return spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", timeout: 60_000 });
}

/** A directory with a new KMS's secret and a policy for `machines`; removed after the test. */
function directory(t: TestContext, machines = [machine]): { data: string; policies: string } {
  const path = mkdtempSync(join(tmpdir(), "caisson-kms-"));
  t.after(() => rmSync(path, { recursive: true }));
  const policies = join(path, "policies");
  mkdirSync(policies);
  for (const [i, one] of machines.entries()) {
    writeFileSync(join(policies, `${i}.json`), JSON.stringify(one.policyFile()));
  }
  createRootSecret(join(path, "data"));
  return { data: join(path, "data"), policies };
}

interface Served {
  url: string;
  identityKey: string;
  process: ChildProcess;
  /** What it wrote to stderr so far. */
  log: () => string;
}

async function serve(
  t: TestContext,
  { data, policies }: { data: string; policies: string },
  ...more: string[]
): Promise<Served> {
  const args = ["kms", "serve", "--data", data, "--policy-dir", policies, "--listen", "127.0.0.1:0", ...more];
  const child = spawn(process.execPath, [cli, ...args, "--development", "--json"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => child.kill("SIGKILL"));
  let log = "";
  child.stderr.on("data", (chunk: Buffer) => {
    log += chunk;
  });
  let text = "";
  for await (const chunk of child.stdout) {
    text += chunk;
    if (text.endsWith("}\n")) break;
  }
  const { url, identityKey } = JSON.parse(text) as { url: string; identityKey: string };
  return { url, identityKey, process: child, log: () => log };
}

function keysFrom(
  kms: { url: string; identityKey: string },
  { guest = machine, post = httpPost(kms.url, 20_000) }: { guest?: Machine; post?: Post } = {},
): Promise<ReleasedKeys> {
  const state = guest.booted(kms.identityKey);
  return requestKeys({
    post,
    identityKey: Uint8Array.fromHex(kms.identityKey),
    evidence: (reportData) => guest.evidence(state, reportData),
    now: Date.now,
    toleranceMs: 2000,
  });
}

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

/** A man in the middle: sees every message of both, and may put others in their place. */
interface Middle {
  hello?: (hello: Hello) => unknown;
  request?: (request: ReleaseRequest) => ReleaseRequest;
  answer?: (answer: Answer) => unknown;
  seen?: string[];
}

function middle(url: string, { hello, request, answer, seen = [] }: Middle): Post {
  const post = httpPost(url, 20_000);
  return async (path, body) => {
    const sent = path === "/v1/release" && request !== undefined ? request(body as ReleaseRequest) : body;
    const received = await post(path, sent);
    seen.push(JSON.stringify(sent), JSON.stringify(received));
    if (path === "/v1/hello") return hello?.(received as Hello) ?? received;
    return answer?.(received as Answer) ?? received;
  };
}

test("a man in the middle who only listens learns no key", async (t) => {
  const kms = await startKms({ ...directory(t), host: "127.0.0.1", port: 0, development: true });
  t.after(() => kms.close());
  const seen: string[] = [];
  const { applicationKey, instanceKey } = await keysFrom(kms, { post: middle(kms.url, { seen }) });
  equal(seen.length, 4);
  for (const key of [applicationKey, instanceKey]) {
    for (const text of [key.toHex(), key.toBase64()]) equal(seen.join().includes(text), false);
  }
});

const flip = (hex: string) => hex.slice(0, -1) + (hex.endsWith("0") ? "1" : "0");
const evidenceOf = (request: ReleaseRequest) => request.evidence as EvidenceDocument;
const attacks: { name: string; middle: () => Middle; expected: { code: string; denial?: string } }[] = [
  {
    name: "puts his own ephemeral key in place of the guest's",
    middle: () => ({ request: (request) => ({ ...request, ephemeralKey: "09".repeat(32) }) }),
    expected: { code: "keys/signature" },
  },
  {
    name: "puts his own nonce in place of the KMS's",
    middle: () => ({ hello: (hello) => ({ ...hello, nonce: flip(hello.nonce) }) }),
    expected: { code: "keys/signature" },
  },
  {
    name: "says that the KMS is another",
    middle: () => ({ hello: (hello) => ({ ...hello, identityKey: flip(hello.identityKey) }) }),
    expected: { code: "keys/other-identity" },
  },
  {
    name: "changes the log in the evidence",
    middle: () => ({
      request: (request) => ({
        ...request,
        evidence: { ...evidenceOf(request), runtimeEvents: evidenceOf(request).runtimeEvents.slice(1) },
      }),
    }),
    expected: { code: "keys/denied", denial: "events/runtime-replay" },
  },
  {
    name: "takes the collateral out of the evidence",
    middle: () => ({
      request: (request) => {
        const { collateral: _, ...evidence } = evidenceOf(request);
        return { ...request, evidence };
      },
    }),
    expected: { code: "keys/denied", denial: "collateral/missing" },
  },
  {
    name: "changes the KMS's time",
    middle: () => ({ answer: (answer) => ({ ...answer, time: answer.time - 3_600_000 }) }),
    expected: { code: "keys/signature" },
  },
  {
    name: "changes the sealed keys",
    middle: () => ({
      answer: (answer) => ({
        ...answer,
        sealed: { ...(answer as Released).sealed, ciphertext: flip((answer as Released).sealed.ciphertext) },
      }),
    }),
    expected: { code: "keys/signature" },
  },
  {
    name: "turns a release into a denial",
    middle: () => ({
      answer: ({ version, time, signature }) => ({
        version,
        outcome: "denied",
        time,
        code: "td/debug",
        message: "no",
        signature,
      }),
    }),
    expected: { code: "keys/signature" },
  },
];
for (const { name, middle: attack, expected } of attacks) {
  test(`a man in the middle ${name}: no keys`, async (t) => {
    const kms = await startKms({ ...directory(t), host: "127.0.0.1", port: 0, development: true });
    t.after(() => kms.close());
    await rejects(keysFrom(kms, { post: middle(kms.url, attack()) }), expected);
  });
}

test("a man in the middle answers with an earlier answer, for the same machine: no keys", async (t) => {
  const kms = await startKms({ ...directory(t), host: "127.0.0.1", port: 0, development: true });
  t.after(() => kms.close());
  const answers: Answer[] = [];
  await keysFrom(kms, { post: middle(kms.url, { answer: (answer) => answers[answers.push(answer) - 1] }) });
  await rejects(keysFrom(kms, { post: middle(kms.url, { answer: () => answers[0] }) }), {
    code: "keys/signature",
  });
});

test("a man in the middle sends a request a second time: the KMS refuses it, and could give him nothing", async (t) => {
  const kms = await startKms({ ...directory(t), host: "127.0.0.1", port: 0, development: true });
  t.after(() => kms.close());
  let replayed: Answer | undefined;
  const post = httpPost(kms.url, 20_000);
  await keysFrom(kms, {
    post: async (path, body) => {
      const answer = await post(path, body);
      if (path === "/v1/release") replayed = (await post(path, body)) as Answer;
      return answer;
    },
  });
  equal(replayed?.outcome === "denied" && replayed.code, "nonce/used");
});

test("a host's own KMS, with another root secret, is another identity: the guest that measured the real one refuses it", async (t) => {
  const [real, false_] = await Promise.all(
    [1, 2].map(() => startKms({ ...directory(t), host: "127.0.0.1", port: 0, development: true })),
  );
  t.after(() => Promise.all([real!.close(), false_!.close()]));
  await rejects(keysFrom({ url: false_!.url, identityKey: real!.identityKey }), {
    code: "keys/other-identity",
  });
  // And one that measured the false one gets nothing from the real one.
  const state = machine.booted(false_!.identityKey);
  const attempt = requestKeys({
    post: httpPost(real!.url, 20_000),
    identityKey: Uint8Array.fromHex(real!.identityKey),
    evidence: (reportData) => machine.evidence(state, reportData),
    now: Date.now,
    toleranceMs: 2000,
  });
  await rejects(attempt, { code: "keys/denied", denial: "keys/key-provider" });
});

test("a KMS whose clock is an hour off gives keys that the guest does not use", async (t) => {
  const now = () => Date.now() - 3_600_000;
  const kms = await startKms({ ...directory(t), host: "127.0.0.1", port: 0, development: true, now });
  t.after(() => kms.close());
  await rejects(keysFrom(kms), { code: "keys/time" });
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
        const keys = await keysFrom(kms, { guest: guests[i]! }).catch((error: KeyError) => error.code);
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
