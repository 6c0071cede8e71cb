// SPDX-License-Identifier: Apache-2.0
/** Policies and collateral that change while a KMS runs: all of them, or none. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { writeEnvelope } from "@caisson/releases";
import { keysOf } from "@caisson/releases/testing/owners";
import { signedBy, signer } from "@caisson/releases/testing/signers";
import { serveCollateral } from "@caisson/simulated/collateral-server";
import { type OperatorRequest, operatorEnvelope } from "./operator-request.ts";
import { createRootSecret } from "./root-secret.ts";
import type { Kms, KmsOptions } from "./server.ts";
import { openService } from "./service.ts";
import { directoryOf } from "./testing/context.ts";
import { keysFrom, metric, post, testKms } from "./testing/kms.ts";
import { Machine } from "./testing/machine.ts";

const machine = new Machine(Date.now());

const start = (t: TestContext, options: Partial<KmsOptions> = {}) => testKms(t, { app: machine }, options);

/** The keys of a machine that brings no collateral of its own. */
function askBare(kms: Kms, guest: Machine, now = Date.now) {
  const state = { ...guest.booted(kms.identityKey), collateral: undefined };
  return keysFrom(kms, guest, { evidence: (reportData) => guest.evidence(state, reportData), now });
}

/** A KMS with a collateral directory, its clock in the test's hand, and the files that it reads. */
async function startReloadable(t: TestContext) {
  const clock = { now: Date.now() };
  const collateral = directoryOf(t);
  const files = { collateral: join(collateral, "platform.json"), policy: "" };
  writeFileSync(files.collateral, JSON.stringify(machine.booted("").collateral));
  const kms = await start(t, { collateral, now: () => clock.now });
  files.policy = join(kms.policies, "app.json");
  const ask = (guest = machine) => askBare(kms, guest, () => clock.now);
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
  const ask = () => askBare(kms, machine);
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

test("many who ask for a reading while one is under way share the next", async (t) => {
  const { kms, files } = await startReloadable(t);
  const first = kms.reload();
  // It has begun, and may have read the old file.
  await Promise.resolve();
  writeFileSync(files.policy, JSON.stringify({ ...machine.policyFile(), keyVersion: 9 }));
  await Promise.all([first, ...Array.from({ length: 50 }, () => kms.reload())]);
  equal(kms.lines.filter((line) => line.includes('"event":"reloaded"')).length, 2);
  const [policy] = (await (await fetch(`${kms.url}/v1/policies`)).json()) as { keyVersion: number }[];
  equal(policy!.keyVersion, 9);
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

test("what operators signed is in force whatever becomes of files that nobody said are done", async (t) => {
  const ada = signer("operator ada");
  const other = new Machine(Date.now(), "other");
  const kms = await start(t, { operators: keysOf(1, ada) });
  writeFileSync(join(kms.policies, "half.json"), "{");
  rmSync(join(kms.policies, "app.json"));
  const sign = async (guest: Machine) => {
    const asked: OperatorRequest = {
      version: "caisson/kms-request/v1",
      action: "policy/set",
      kms: kms.identityKey,
      app: guest.app,
      replaces: 0,
      expires: Date.now() + 60_000,
      policy: JSON.stringify(guest.policyFile()),
    };
    const body = JSON.stringify(writeEnvelope(signedBy(operatorEnvelope(asked), ada)));
    const answer = await post(kms.url, body, "/v1/admin");
    return [answer.status, (answer.body as { error?: { code: string } }).error?.code];
  };
  deepEqual(await sign(other), [200, undefined]);
  // Its file is in force, whatever became of it: signed besides, it would leave nobody who could say which counts.
  deepEqual(await sign(machine), [400, "policy/duplicate"]);
  for (const guest of [machine, other]) equal((await keysFrom(kms, guest)).app, guest.app);
  equal(await kms.reload(), false);
  for (const guest of [machine, other]) equal((await keysFrom(kms, guest)).app, guest.app);
  rmSync(join(kms.policies, "half.json"));
  writeFileSync(
    join(kms.policies, "another.json"),
    JSON.stringify(new Machine(Date.now(), "third").policyFile()),
  );
  equal(await kms.reload(), true);
  await rejects(keysFrom(kms, machine), { code: "keys/denied" });
  equal((await keysFrom(kms, other)).app, other.app);
});

test("a reload is done once all that came to the log before it is done", async (t) => {
  const [data, policies] = [directoryOf(t), directoryOf(t)];
  writeFileSync(join(policies, "app.json"), JSON.stringify(machine.policyFile()));
  createRootSecret(data, { development: true });
  const lines: string[] = [];
  const log = (line: string) => void lines.push(line);
  const service = await openService({ data, policies, development: true, log });
  t.after(() => service.close());
  const { store } = service;
  const commit = store.commit.bind(store);
  const gate = Promise.withResolvers<void>();
  let turn = gate.promise as Promise<unknown>;
  t.mock.method(store, "commit", (change: Parameters<typeof commit>[0]) => {
    const result = turn.then(() => commit(change));
    turn = result;
    return result;
  });
  const none = new Uint8Array();
  const about = { time: Date.now(), app: none, instance: none, registers: none, policy: none };
  const released = store.commit({ entry: { ...about, outcome: "released", reason: "judged before" } });
  const reloaded = service.reload();
  equal(await Promise.race([reloaded, sleep(300, "it waits")]), "it waits");
  gate.resolve();
  equal(await released, "done");
  equal(await reloaded, true);
  const { event, logEntries } = JSON.parse(lines.at(-1)!) as Record<string, unknown>;
  deepEqual([event, logEntries], ["reloaded", 1]);
});
