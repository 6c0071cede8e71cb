// SPDX-License-Identifier: Apache-2.0
import { deepEqual, doesNotMatch, equal, match, ok, rejects } from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { answerSchema, keyReleaseVersion, refusalSchema } from "@caisson/protocol/key-release";
import { serveCollateral } from "@caisson/simulated/collateral-server";
import fc from "fast-check";
import { openRootSecret } from "./root-secret.ts";
import { type Kms, type KmsOptions, startKms } from "./server.ts";
import { readOnlySqlite } from "./store/sqlite.ts";
import { verifyReleaseLog } from "./store/verify.ts";
import { testKms } from "./testing/kms.ts";
import { Machine } from "./testing/machine.ts";

const machine = new Machine(Date.now());

const start = (t: TestContext, options: Partial<KmsOptions> = {}) => testKms(t, { app: machine }, options);

function keysFrom(kms: Kms) {
  const state = machine.booted(kms.identityKey);
  return requestKeys({
    post: httpPost(kms.url, 10_000),
    identityKey: Uint8Array.fromHex(kms.identityKey),
    evidence: (reportData) => machine.evidence(state, reportData),
    now: Date.now,
    toleranceMs: 2000,
  });
}

async function post(url: string, body: string | Uint8Array, path = "/v1/release") {
  const response = await fetch(`${url}${path}`, { method: "POST", body: body as BodyInit });
  return { status: response.status, body: (await response.json()) as unknown };
}

test("a guest gets its keys over HTTP, the same ones every time", async (t) => {
  const kms = await start(t);
  const [first, second] = [await keysFrom(kms), await keysFrom(kms)];
  deepEqual(first.applicationKey, second.applicationKey);
  deepEqual(first.instanceKey, second.instanceKey);
  equal(first.app, machine.app);
});

/** A request for keys with a nonce of nobody's. */
const stranger = {
  version: keyReleaseVersion,
  nonce: "00".repeat(32),
  ephemeralKey: "00".repeat(32),
};

/** Passes connections on to a KMS, and counts them; `closeIdle` ends those that are open. */
async function counted(t: TestContext, kms: Kms) {
  const open = new Set<Socket>();
  const seen = { connections: 0 };
  const proxy = createServer((socket) => {
    seen.connections += 1;
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    const onward = connect(Number(new URL(kms.url).port), "127.0.0.1");
    for (const end of [socket, onward]) end.on("error", () => {});
    socket.pipe(onward).pipe(socket);
  });
  await new Promise<void>((resolve) => void proxy.listen(0, "127.0.0.1", resolve));
  const closeIdle = () => {
    for (const socket of open) socket.destroy();
    open.clear();
  };
  t.after(() => {
    closeIdle();
    proxy.close();
  });
  return { seen, open, closeIdle, url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` };
}

test("hello and release share a connection; where that is gone, the release takes a new one", async (t) => {
  const kms = await start(t);
  const { seen, closeIdle, url } = await counted(t, kms);
  const state = machine.booted(kms.identityKey);
  for (const [meanwhile, connections] of [
    [() => {}, 1],
    [closeIdle, 3],
  ] as const) {
    const keys = await requestKeys({
      post: httpPost(url, 10_000),
      identityKey: Uint8Array.fromHex(kms.identityKey),
      evidence: (reportData) => {
        meanwhile();
        return machine.evidence(state, reportData);
      },
      now: Date.now,
      toleranceMs: 2000,
    });
    equal(keys.app, machine.app);
    equal(seen.connections, connections);
  }
});

test("the KMS ends a connection with the answer to its release, also where that is no", {
  timeout: 60_000,
}, async (t) => {
  const kms = await start(t);
  for (const body of [JSON.stringify({ ...stranger, evidence: {} }), "{}"]) {
    const options = { method: "POST", body, headers: { connection: "keep-alive" } };
    const answer = await fetch(`${kms.url}/v1/release`, options);
    await answer.arrayBuffer();
    // What is malformed may come again on its connection; it is one of its sender's share, and gives way when idle.
    deepEqual(
      [answer.status, answer.headers.get("connection")],
      body === "{}" ? [400, "keep-alive"] : [403, "close"],
    );
  }
  const { open, url } = await counted(t, kms);
  await keysFrom({ ...kms, url });
  // The connection of a machine that has its keys.
  while (!t.signal.aborted && open.size > 0) await sleep(10);
});

test("a clock that was set back: what was issued before is refused, and whoever has that time gets keys", async (t) => {
  const clock = { now: Date.now() };
  const kms = await start(t, { now: () => clock.now });
  const keys = (meanwhile = () => {}) =>
    requestKeys({
      post: httpPost(kms.url, 10_000),
      identityKey: Uint8Array.fromHex(kms.identityKey),
      evidence: (reportData) => {
        meanwhile();
        return machine.evidence(machine.booted(kms.identityKey), reportData);
      },
      now: () => clock.now,
      toleranceMs: 2000,
    });
  await keys();
  await rejects(
    keys(() => {
      clock.now -= 600_000;
    }),
    { code: "keys/denied", denial: "nonce/expired" },
  );
  // A guest that agreed on the time uses no keys of a KMS that is ten minutes behind; one that is as wrong does.
  await rejects(keysFrom(kms), { code: "keys/time" });
  await keys();
  clock.now += 600_000;
  await keysFrom(kms);
  const log = readOnlySqlite(join(kms.data, "release-log.sqlite"));
  const report = await verifyReleaseLog(log, { identity: kms.identityKey });
  equal(report.released, 4);
});

test("no secret is in a log line, in a metric, or in the release log", async (t) => {
  const kms = await start(t);
  const keys = await keysFrom(kms);
  await rejects(keysFrom({ ...kms, identityKey: "00".repeat(32) }), { code: "keys/other-identity" });
  await post(kms.url, "{}");
  const secrets = [openRootSecret(kms.data), keys.applicationKey, keys.instanceKey];
  const files = readdirSync(kms.data).filter((name) => name !== "root-secret");
  const places = [
    Buffer.from(kms.lines.join("\n")),
    Buffer.from(await (await fetch(`${kms.url}/metrics`)).text()),
    ...files.map((name) => readFileSync(join(kms.data, name))),
  ];
  equal(files.includes("release-log.sqlite"), true);
  for (const secret of secrets) {
    for (const place of places) {
      equal(place.includes(secret), false);
      for (const text of [secret.toHex(), secret.toBase64()]) equal(place.includes(text), false);
    }
  }
});

test("log lines are JSON that says who got what, and why not", async (t) => {
  const kms = await start(t);
  await keysFrom(kms);
  await post(
    kms.url,
    JSON.stringify({
      version: keyReleaseVersion,
      nonce: "00".repeat(32),
      ephemeralKey: "00".repeat(32),
      evidence: {},
    }),
  );
  await post(kms.url, "no JSON");
  const events = kms.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  deepEqual(
    events.map(({ event, code, app }) => [event, code, app]),
    [
      ["policy", undefined, machine.app],
      ["started", undefined, undefined],
      ["released", undefined, machine.app],
      ["denied", "nonce/unknown", ""],
      ["refused", "http/malformed", undefined],
    ],
  );
});

test("what anybody can send leaves a bounded number of lines, without controls, and nothing in the release log", async (t) => {
  const clock = { now: Date.now() };
  const kms = await start(t, { now: () => clock.now, perAddress: { perSecond: 1e6, burst: 1e6 } });
  const request = { version: keyReleaseVersion, nonce: "00".repeat(32), ephemeralKey: "01".repeat(32) };
  const made = JSON.stringify({ ...request, evidence: {} });
  for (let i = 0; i < 70; i++) {
    await post(kms.url, "{", `/v1/\u202e\u009b${i}`);
    await post(kms.url, made);
    const { nonce } = (await post(kms.url, JSON.stringify({ version: keyReleaseVersion }), "/v1/hello"))
      .body as { nonce: string };
    await post(kms.url, JSON.stringify({ ...request, nonce, evidence: { "\u202e": "\u009b" } }));
  }
  const events = () => kms.lines.map((line) => (JSON.parse(line) as { event: string }).event);
  equal(events().length, 2 + 100);
  clock.now += 1000;
  await post(kms.url, "{");
  deepEqual(events().slice(-2), ["suppressed", "refused"]);
  equal((JSON.parse(kms.lines.at(-2)!) as { lines: number }).lines, 110);
  for (const line of kms.lines) match(line, /^[ -~]+$/);
  const head = (await (await fetch(`${kms.url}/v1/log/head`)).json()) as { sequence: number };
  equal(head.sequence, 0);
  equal(await metric(kms, "caisson_kms_unlogged_total"), 140);
});

test("a database that lies is refused by name, to whoever asks, until it is as it was", async (t) => {
  const kms = await testKms(t, { hello: machine });
  const database = new DatabaseSync(join(kms.data, "release-log.sqlite"));
  t.after(() => database.close());
  const { signature } = database.prepare("SELECT signature FROM head").get() as { signature: Uint8Array };
  const put = (bytes: Uint8Array) => void database.prepare("UPDATE head SET signature = ?").run(bytes);
  const roots = async () => {
    const answer = await fetch(new URL("/v1/roots", kms.url));
    return [answer.status, await answer.text()] as const;
  };
  equal((await roots())[0], 200);
  put(new Uint8Array(64));
  const [status, text] = await roots();
  equal(status, 503, text);
  match(text, /"log\/unavailable".*\[log\/head\]/);
  ok(kms.lines.some((line) => /"store-failed".*"log\/head"/.test(line)));
  put(signature);
  equal((await roots())[0], 200);
});

test("what a policy hardly wants is said at the start, with every release, and in the metrics", async (t) => {
  const kms = await start(t);
  equal(await metric(kms, 'caisson_kms_policy_warnings{code="policy/host-acpi"}'), 0);
  const file = machine.policyFile({
    platforms: ["emulated", "tdx"],
    registers: { rtmr0: "any", hostAcpi: "any" },
  });
  writeFileSync(join(kms.policies, "app.json"), JSON.stringify(file));
  equal(await kms.reload(), true);
  await keysFrom(kms);
  const said = kms.lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .flatMap(({ event, code, warnings }) => ((code ?? warnings) ? [[event, code ?? warnings]] : []));
  deepEqual(said, [
    ["warning", "policy/host-acpi"],
    ["released", "policy/host-acpi"],
  ]);
  equal(await metric(kms, 'caisson_kms_policy_warnings{code="policy/host-acpi"}'), 1);
  equal(await metric(kms, 'caisson_kms_policy_warnings{code="policy/not-covered"}'), 0);
});

test("metrics count hellos, releases, denials by code and refusals by code", async (t) => {
  const kms = await start(t);
  await keysFrom(kms);
  await post(kms.url, "no JSON");
  const response = await fetch(`${kms.url}/metrics`);
  const page = await response.text();
  match(response.headers.get("content-type") ?? "", /^text\/plain/);
  for (const line of [
    "caisson_kms_hellos_total 1",
    "caisson_kms_released_total 1",
    'caisson_kms_refused_total{code="http/malformed"} 1',
    "caisson_kms_release_seconds_count 1",
    "caisson_kms_log_entries 1",
  ]) {
    equal(page.split("\n").includes(line), true, line);
  }
  // Every sample follows the exposition format: name, labels, one number.
  for (const line of page.trimEnd().split("\n")) {
    match(line, /^(?:# (?:HELP|TYPE) \S+ .+|[a-z_]+(?:\{[a-z]+="[^"]*"\})? [0-9.e+-]+)$/);
  }
});

test("metrics have the format's content type, and counters without labels from the start", async (t) => {
  const kms = await start(t);
  const response = await fetch(`${kms.url}/metrics`);
  equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const lines = (await response.text()).split("\n");
  for (const name of ["hellos", "released"]) equal(lines.includes(`caisson_kms_${name}_total 0`), true, name);
});

/** A sample of the metrics page; undefined where it is not there. */
async function metric(kms: Kms, name: string): Promise<number | undefined> {
  const page = await (await fetch(`${kms.url}/metrics`)).text();
  const found = page.split("\n").find((line) => line.startsWith(`${name} `));
  return found === undefined ? undefined : Number(found.slice(name.length));
}

/** A KMS with a collateral directory, its clock in the test's hand, and the files that it reads. */
async function startReloadable(t: TestContext) {
  const clock = { now: Date.now() };
  const collateral = mkdtempSync(join(tmpdir(), "caisson-kms-reload-"));
  t.after(() => rmSync(collateral, { recursive: true }));
  const files = { collateral: join(collateral, "platform.json"), policy: "" };
  writeFileSync(files.collateral, JSON.stringify(machine.booted("").collateral));
  const kms = await start(t, { collateral, now: () => clock.now });
  files.policy = join(kms.policies, "app.json");
  /** What a machine gets that brings no collateral of its own. */
  const ask = (guest = machine) => {
    const state = { ...guest.booted(kms.identityKey), collateral: undefined };
    return requestKeys({
      post: httpPost(kms.url, 10_000),
      identityKey: Uint8Array.fromHex(kms.identityKey),
      evidence: (reportData) => guest.evidence(state, reportData),
      now: () => clock.now,
      toleranceMs: 2000,
    });
  };
  return { kms, files, clock, ask };
}

const days = 24 * 3600 * 1000;

test("collateral is renewed, and a policy changed, without a restart", async (t) => {
  const { kms, files, clock, ask } = await startReloadable(t);
  equal((await ask()).keyVersion, 1);
  const expiry = await metric(kms, "caisson_kms_collateral_expiry_timestamp_seconds");
  clock.now += 29.5 * days;
  await ask();
  clock.now += 2 * days;
  await rejects(ask(), { code: "keys/denied" });

  // The same machine a month later, with the same keys up to the root: its certificates were issued anew as well.
  const renewed = new Machine(clock.now);
  await rejects(ask(renewed), { code: "keys/denied" });
  writeFileSync(files.collateral, JSON.stringify(renewed.booted("").collateral));
  writeFileSync(files.policy, JSON.stringify({ ...machine.policyFile(), keyVersion: 2 }));
  equal(await kms.reload(), true);
  equal(await metric(kms, "caisson_kms_config_last_reload_successful"), 1);
  const later = await metric(kms, "caisson_kms_collateral_expiry_timestamp_seconds");
  equal(later! > expiry! + 30 * 24 * 3600, true, `${expiry} ${later}`);
  equal((await ask(renewed)).keyVersion, 2);
  equal(
    kms.lines.some((line) => line.includes('"event":"reloaded"')),
    true,
  );
});

test("collateral comes from a source, for guests that bring none, and metrics say how that goes", async (t) => {
  const { collateral } = machine.booted("");
  const source = await serveCollateral({ "CA1550000000/standard": collateral! });
  t.after(() => source.close());
  const kms = await start(t, { collateralSource: { from: source.url } });
  const state = { ...machine.booted(kms.identityKey), collateral: undefined };
  const ask = () =>
    requestKeys({
      post: httpPost(kms.url, 10_000),
      identityKey: Uint8Array.fromHex(kms.identityKey),
      evidence: (reportData) => machine.evidence(state, reportData),
      now: Date.now,
      toleranceMs: 2000,
    });
  equal(await metric(kms, "caisson_kms_collateral_expiry_timestamp_seconds"), undefined);
  equal((await ask()).keyVersion, 1);
  equal(await metric(kms, 'caisson_kms_collateral_fetches_total{result="renewed"}'), 1);
  const expiry = await metric(kms, "caisson_kms_collateral_expiry_timestamp_seconds");
  equal(expiry! > Date.now() / 1000 + 29 * 24 * 3600, true);
  source.quirks = { status: 503 };
  equal((await ask()).keyVersion, 1);
  equal(source.asked.length, 4);
  equal(await kms.reload(), true);
});

const badFiles: {
  name: string;
  change: (files: { collateral: string; policy: string }) => void;
  code: string;
}[] = [
  {
    name: "collateral is half written",
    change: ({ collateral }) => writeFileSync(collateral, readFileSync(collateral, "utf8").slice(0, 5000)),
    code: "collateral/malformed",
  },
  {
    name: "collateral has expired",
    change: ({ collateral }) =>
      writeFileSync(collateral, JSON.stringify(new Machine(Date.now() - 60 * days).booted("").collateral)),
    code: "collateral/malformed",
  },
  {
    name: "collateral is gone",
    change: ({ collateral }) => rmSync(collateral),
    code: "collateral/malformed",
  },
  {
    name: "a policy is not YAML",
    change: ({ policy }) => writeFileSync(policy, "{"),
    code: "policy/malformed",
  },
  { name: "the policies are gone", change: ({ policy }) => rmSync(policy), code: "policy/none" },
];
for (const { name, change, code } of badFiles) {
  test(`a reload is refused as a whole: ${name}`, async (t) => {
    const { kms, files, ask } = await startReloadable(t);
    // What is good among the new files must not be taken either.
    writeFileSync(files.policy, JSON.stringify({ ...machine.policyFile(), keyVersion: 7 }));
    const before = await metric(kms, "caisson_kms_config_last_reload_success_timestamp_seconds");
    change(files);
    equal(await kms.reload(), false);
    equal((await ask()).keyVersion, 1);
    equal(await metric(kms, "caisson_kms_config_last_reload_successful"), 0);
    equal(await metric(kms, "caisson_kms_config_last_reload_success_timestamp_seconds"), before);
    const [failure] = kms.lines.filter((line) => line.includes('"reload-failed"'));
    equal((JSON.parse(failure!) as { code: string }).code, code);
  });
}

test("health says who it is", async (t) => {
  const kms = await start(t);
  const health = await (await fetch(`${kms.url}/healthz`)).json();
  deepEqual(health, { status: "ok", identityKey: kms.identityKey });
});

test("identity and keys survive a restart", async (t) => {
  const kms = await start(t);
  const before = await keysFrom(kms);
  await kms.close();
  const { data, policies } = kms;
  const again = await startKms({ data, policies, host: "127.0.0.1", port: 0, development: true });
  t.after(() => again.close());
  equal(again.identityKey, kms.identityKey);
  deepEqual((await keysFrom(again)).applicationKey, before.applicationKey);
  const log = readOnlySqlite(join(kms.data, "release-log.sqlite"));
  equal((await verifyReleaseLog(log, { identity: kms.identityKey })).released, 2);
});

const refusals: { name: string; path?: string; body: string | Uint8Array; status: number; code: string }[] = [
  { name: "no JSON", body: "{", status: 400, code: "http/malformed" },
  { name: "an empty body", body: "", status: 400, code: "http/malformed" },
  {
    name: "another version",
    body: '{"version":"caisson/key-release/v2"}',
    path: "/v1/hello",
    status: 400,
    code: "http/malformed",
  },
  {
    name: "an unknown field",
    body: `{"version":"${keyReleaseVersion}","x":1}`,
    path: "/v1/hello",
    status: 400,
    code: "http/malformed",
  },
  { name: "1 MiB and one byte", body: new Uint8Array(1024 * 1024 + 1), status: 413, code: "http/too-large" },
  { name: "nested far too deep", body: "[".repeat(500_000), status: 400, code: "http/malformed" },
  { name: "another path", body: "{}", path: "/v2/hello", status: 404, code: "http/not-found" },
];
for (const { name, path, body, status, code } of refusals) {
  test(`refused: ${name}`, async (t) => {
    const kms = await start(t);
    const answer = await post(kms.url, body, path);
    equal(answer.status, status);
    equal(refusalSchema.parse(answer.body).error.code, code);
  });
}

test("a chunked body is limited while it is read", async (t) => {
  const kms = await start(t);
  let sent = 0;
  const body = new ReadableStream({
    pull(controller) {
      sent += 65_536;
      controller.enqueue(new Uint8Array(65_536));
      if (sent > 64 * 1024 * 1024) controller.close();
    },
  });
  const request = fetch(`${kms.url}/v1/release`, { method: "POST", body, duplex: "half" } as RequestInit);
  const status = await request.then(
    (response) => response.status,
    () => "cut off",
  );
  equal(status === 413 || status === "cut off", true);
  equal(sent < 16 * 1024 * 1024, true, `${sent} bytes were taken`);
  await keysFrom(kms);
});

/** What a GET from another address of this host answers. */
function getFrom(address: string, kms: Kms, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const port = Number(new URL(kms.url).port);
    const socket = connect({ port, host: "127.0.0.1", localAddress: address }, () =>
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`),
    );
    let answer = "";
    socket.setEncoding("latin1").on("data", (text: string) => {
      answer += text;
    });
    socket.on("error", reject).on("close", () => resolve(answer));
  });
}

test("one address cannot ask more often than its rate", async (t) => {
  const kms = await start(t, { perAddress: { perSecond: 1, burst: 2 } });
  const hello = JSON.stringify({ version: keyReleaseVersion });
  const statuses = [];
  for (let i = 0; i < 3; i++) statuses.push((await post(kms.url, hello, "/v1/hello")).status);
  deepEqual(statuses, [200, 200, 429]);
  const paths = ["/v1/log/head", "/nothing", "/healthz", "/metrics"];
  for (const path of paths) equal((await fetch(`${kms.url}${path}`)).status, 429, path);
  // Counted, but the log is not for everyone to fill.
  const page = await getFrom("127.0.0.2", kms, "/metrics");
  equal(page.includes('code="http/rate-limited"} 5'), true);
  equal(kms.lines.join().includes("rate-limited"), false);
});

test("a request that never ends does not hold up shutdown for long", async (t) => {
  const kms = await start(t);
  const socket = connect(Number(new URL(kms.url).port), "127.0.0.1");
  await new Promise((resolve) => socket.once("connect", resolve));
  socket.write("POST /v1/release HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n{");
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.on("error", () => {});
  // It says that it has the request's head.
  await once(socket, "data");
  socket.resume();
  const started = performance.now();
  await kms.close();
  await closed;
  const ms = performance.now() - started;
  // It was given its time (timers may fire a little early), and not more.
  equal(ms > 1900 && ms < 8000, true, `${ms} ms`);
});

test("a request that is under way at shutdown gets its answer", async (t) => {
  const kms = await start(t);
  const state = machine.booted(kms.identityKey);
  const post = httpPost(kms.url, 10_000);
  const closing: Promise<void>[] = [];
  const keys = await requestKeys({
    post: async (path, body) => {
      const answer = post(path, body);
      if (path === "/v1/release") {
        // Long enough for the request to arrive, and not for evidence to be verified and logged.
        await new Promise((resolve) => setTimeout(resolve, 1));
        closing.push(kms.close());
      }
      return answer;
    },
    identityKey: Uint8Array.fromHex(kms.identityKey),
    evidence: (reportData) => machine.evidence(state, reportData),
    now: Date.now,
    toleranceMs: 2000,
  }).catch((error: unknown) => (error as { code: string }).code);
  await Promise.all(closing);
  // Either it arrived in time, and the answer is whole; or it was not accepted any more.
  if (typeof keys === "string") equal(keys, "keys/unreachable");
  else equal(keys.applicationKey.length, 32);
});

test("whatever is sent, the KMS answers with JSON of its own and goes on", async (t) => {
  const kms = await start(t, {
    perAddress: { perSecond: 1e6, burst: 1e6 },
    common: { perSecond: 1e6, burst: 1e6 },
  });
  const request = {
    version: keyReleaseVersion,
    nonce: "00".repeat(32),
    ephemeralKey: "01".repeat(32),
    evidence: await machine.evidence(machine.booted(kms.identityKey), new Uint8Array(64)),
  };
  const good = Buffer.from(JSON.stringify(request));
  const mutated = fc.oneof(
    fc.nat(good.length).map((length) => good.subarray(0, length)),
    fc.tuple(fc.nat(good.length - 1), fc.nat(7)).map(([at, bit]) => {
      const copy = Buffer.from(good);
      copy[at]! ^= 1 << bit;
      return copy;
    }),
    fc.uint8Array({ maxLength: 200 }),
    fc.json().map((text) => Buffer.from(text)),
    fc.jsonValue().map((evidence) => Buffer.from(JSON.stringify({ ...request, evidence }))),
  );
  await fc.assert(
    fc.asyncProperty(mutated, async (body) => {
      const { status, body: answer } = await post(kms.url, body);
      equal([400, 403].includes(status), true, `${status}`);
      equal((status === 400 ? refusalSchema : answerSchema).safeParse(answer).success, true);
      doesNotMatch(JSON.stringify(answer), /node_modules|\.ts:/);
    }),
    { numRuns: 100 },
  );
  equal(
    kms.lines.some((line) => line.includes('"failed"')),
    false,
  );
  equal((await fetch(`${kms.url}/healthz`)).status, 200);
});

test("evidence that was changed anywhere is denied, with a fresh nonce each time", async (t) => {
  const kms = await start(t, {
    perAddress: { perSecond: 1e6, burst: 1e6 },
    common: { perSecond: 1e6, burst: 1e6 },
  });
  const state = machine.booted(kms.identityKey);
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.nat(7), async (position, bit) => {
      const outcome = requestKeys({
        post: httpPost(kms.url, 10_000),
        identityKey: Uint8Array.fromHex(kms.identityKey),
        evidence: async (reportData) => {
          const evidence = await machine.evidence(state, reportData);
          const quote = Uint8Array.fromBase64(evidence.quote);
          // Up to the PCK chain, whose PEM text leaves room for changes that mean nothing.
          quote[position % 1200]! ^= 1 << bit;
          return { ...evidence, quote: quote.toBase64() };
        },
        now: Date.now,
        toleranceMs: 2000,
      });
      await rejects(outcome, { code: "keys/denied" });
    }),
    { numRuns: 30 },
  );
});

test("a port that is taken is an error that says so", async (t) => {
  const kms = await start(t);
  await rejects(start(t, { port: Number(new URL(kms.url).port) }), {
    code: "kms/listen",
    kind: "unavailable",
  });
});

/** What a client gets that sends these bytes at once, until the KMS closes the connection. */
function sendAll(kms: Kms, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connect(Number(new URL(kms.url).port), "127.0.0.1", () => socket.write(bytes));
    socket.setEncoding("latin1").on("data", (text: string) => {
      answer += text;
    });
    socket.on("error", () => {}).on("close", () => resolve(answer));
  });
}

test("a connection that asks again before it has its answer is closed: answers do not pile up", async (t) => {
  const kms = await start(t);
  const request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  const answers = (text: string) => text.split("HTTP/1.1 200").length - 1;
  equal(answers(await sendAll(kms, request)), 1);
  const piled = request.replace("close", "keep-alive").repeat(1000);
  equal(answers(await sendAll(kms, piled)) <= 1, true);
});

/** A connection from an address of this host; `bytes` is the beginning of a request. */
function hold(kms: Kms, from: string, bytes = "POST /v1/hello HTTP/1.1\r\n"): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect({ port: Number(new URL(kms.url).port), host: "127.0.0.1", localAddress: from });
    socket.on("error", () => {}).resume();
    socket.once("connect", () => socket.write(bytes, () => resolve(socket)));
  });
}

const closed = (socket: Socket) =>
  socket.destroyed ? undefined : new Promise((resolve) => socket.once("close", resolve));

test("one address has a share of the connections: of its own, the one that is idle for longest gives way", async (t) => {
  const kms = await start(t, { perAddress: { perSecond: 5, burst: 3 } });
  const other = await hold(kms, "127.0.1.2");
  const held = [];
  for (let i = 0; i < 5; i++) held.push(await hold(kms, "127.0.0.1"));
  await Promise.all([closed(held[0]!), closed(held[1]!)]);
  deepEqual(
    [other, ...held].map(({ destroyed }) => destroyed),
    [false, true, true, false, false, false],
  );
});

test("all 512 connections are held by many addresses: one of theirs gives way, and newcomers are served", async (t) => {
  const kms = await start(t);
  // Four networks, 13 addresses each, more than there is room for; they say nothing more than a beginning.
  const held = await Promise.all(
    Array.from({ length: 640 }, (_, i) => hold(kms, `127.10.${i % 4}.${1 + ((i >> 2) % 13)}`)),
  );
  for (let i = 0; i < 20; i++) match(await getFrom(`127.20.${i}.1`, kms, "/healthz"), /^HTTP\/1.1 200 /);
  equal(held.filter(({ destroyed }) => !destroyed).length <= 512, true);
  for (const socket of held) socket.destroy();
});

test("a request that has arrived is answered although its sender opens more connections than he may", async (t) => {
  const kms = await start(t, { perAddress: { perSecond: 50, burst: 3 } });
  const state = machine.booted(kms.identityKey);
  const post = httpPost(kms.url, 10_000);
  const keys = await requestKeys({
    post: async (path, body) => {
      const answer = post(path, body);
      if (path === "/v1/release") for (let i = 0; i < 8; i++) await hold(kms, "127.0.0.1");
      return answer;
    },
    identityKey: Uint8Array.fromHex(kms.identityKey),
    evidence: (reportData) => machine.evidence(state, reportData),
    now: Date.now,
    toleranceMs: 2000,
  });
  equal(keys.applicationKey.length, 32);
});

test("86 MiB of bodies that never end: their networks lose some, and a slow guest is answered", async (t) => {
  const kms = await start(t);
  const begin = (length: number) => `POST /v1/hello HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n`;
  const [head, tail] = [`{"version":${" ".repeat(1_000_000)}`, `"${keyReleaseVersion}"}`];
  const guest = await hold(kms, "127.20.0.1", begin(head.length + tail.length) + head);
  const answer = new Promise<string>((resolve) => guest.setEncoding("latin1").once("data", resolve));
  // Smaller than the guest's: it is the sum over a network that counts.
  const bytes = begin(700_000) + " ".repeat(699_999);
  const held = await Promise.all(
    Array.from({ length: 129 }, (_, i) => hold(kms, `127.10.${i % 3}.${1 + (i % 10)}`, bytes)),
  );
  const lost = () => held.filter(({ destroyed }) => destroyed).length;
  for (const limit = Date.now() + 60_000; lost() < 34 && Date.now() < limit; ) await sleep(20);
  equal(lost() >= 34 && lost() <= 40, true, `${lost()} of 129 were closed`);
  guest.write(tail);
  match(await answer, /^HTTP\/1.1 200 /);
  for (const socket of held) socket.destroy();
});
