// SPDX-License-Identifier: Apache-2.0
/** What a running KMS logs and counts, and what it never says. */
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import test, { type TestContext } from "node:test";
import { keyReleaseVersion } from "@caisson/protocol/key-release";
import { openRootSecret } from "./root-secret.ts";
import { type KmsOptions, startKms } from "./server.ts";
import { keysFrom, metric, post, testKms } from "./testing/kms.ts";
import { Machine } from "./testing/machine.ts";

const machine = new Machine(Date.now());

const start = (t: TestContext, options: Partial<KmsOptions> = {}) => testKms(t, { app: machine }, options);

test("no secret is in a log line, in a metric, or in the release log", async (t) => {
  const kms = await start(t);
  const keys = await keysFrom(kms, machine);
  await rejects(keysFrom({ ...kms, identityKey: "00".repeat(32) }, machine), { code: "keys/other-identity" });
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
  await keysFrom(kms, machine);
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

test("which policies are in force is written before it listens", async (t) => {
  const kms = await start(t);
  const lines: string[] = [];
  const { data, policies, url } = kms;
  const port = Number(new URL(url).port);
  const more = { host: "127.0.0.1", port, development: true, log: (line: string) => void lines.push(line) };
  await rejects(startKms({ data, policies, ...more }), { code: "kms/listen" });
  deepEqual(
    lines.map((line) => (JSON.parse(line) as { event: string }).event),
    ["policy", "stopped"],
  );
});

test("what anybody can send leaves a bounded number of lines, without controls, and nothing in the release log", async (t) => {
  const clock = { now: 0 };
  const kms = await start(t, { elapsed: () => clock.now, perAddress: { perSecond: 1e6, burst: 1e6 } });
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
  const kms = await start(t);
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
  match(kms.lines.join("\n"), /"store-failed".*"log\/head"/);
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
  await keysFrom(kms, machine);
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
  await keysFrom(kms, machine);
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
