// SPDX-License-Identifier: Apache-2.0
/** What a release leaves behind: answers, entries of the log, nonces and volumes. Who gets none: release-denied.test.ts. */
import { deepEqual, equal, match } from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { deriveReleasedKey } from "@caisson/protocol/derivation";
import { identityKey } from "@caisson/protocol/ed25519";
import { volumesPayload } from "@caisson/protocol/volumes";
import { Nonces } from "./nonces.ts";
import { type Policies, PolicySet } from "./policy-set.ts";
import { type ReleaseContext, releaseKeys } from "./release.ts";
import { sqlite } from "./store/sqlite.ts";
import { openStore, storeKeys } from "./store/store.ts";
import { askingFor, isSigned, keysIn } from "./testing/asking.ts";
import { directoryOf, policiesOf, recordedContext } from "./testing/context.ts";
import { Machine } from "./testing/machine.ts";
import { VolumeBook } from "./volumes/book.ts";

const now = Date.parse("2026-06-01T12:00:00Z");
const secret = new Uint8Array(32).map((_, i) => i);
const identity = identityKey(new Uint8Array(32).fill(7));
const identityHex = identity.publicKey.toHex();
const setup = (policies: Policies) => recordedContext(secret, { identity, policies, now: () => now });

test("a machine in good order gets its keys, and the log says so", async (t) => {
  const machine = new Machine(now);
  const { context, log } = setup(policiesOf(t, machine.policyFile(), identityHex));
  const { request, exchange, pair } = await askingFor(machine, machine.booted(identityHex), context);
  const { answer } = await releaseKeys(context, request);
  if (answer.outcome !== "released") throw new Error(answer.message);
  equal(await isSigned(answer, exchange), true);
  deepEqual([answer.app, answer.instance, answer.time], [machine.app, machine.instance, now]);

  const keys = keysIn(answer, { exchange, pair });
  const app = Uint8Array.fromHex(machine.app);
  const shared = { app, instance: new Uint8Array(), purpose: "application", version: 1 } as const;
  const own = { ...shared, instance: Uint8Array.fromHex(machine.instance), purpose: "instance" } as const;
  equal(keys.toHex(), deriveReleasedKey(secret, shared).toHex() + deriveReleasedKey(secret, own).toHex());

  deepEqual(
    log.map(({ outcome, reason, app }) => [outcome, reason, app.toHex()]),
    [["released", "test image", machine.app]],
  );
  equal(log[0]!.registers.length, 32);
});

test("instances share the application key and not the instance key; other applications share nothing", async (t) => {
  const machines = [new Machine(now), new Machine(now, "hello", 1), new Machine(now, "other")];
  const policies = new PolicySet(...machines.map((m) => policiesOf(t, m.policyFile(), identityHex)));
  const { context } = setup(policies);
  const keys: string[] = [];
  for (const machine of machines) {
    const asked = await askingFor(machine, machine.booted(identityHex), context);
    keys.push(keysIn((await releaseKeys(context, asked.request)).answer, asked).toHex());
  }
  const [first, second, other] = keys as [string, string, string];
  equal(first.slice(0, 64), second.slice(0, 64));
  equal(
    new Set([first.slice(64), second.slice(64), other.slice(64), first.slice(0, 64), other.slice(0, 64)])
      .size,
    5,
  );
});

test("a request that is sent again opens no volume again, at another replica neither", async (t) => {
  // The store forgets nonces by the clock of its machine.
  const clock = Date.now();
  const machine = new Machine(clock);
  const store = await openStore(sqlite(join(directoryOf(t), "log.sqlite")), storeKeys(secret));
  t.after(() => store.close());
  const volumes = new VolumeBook(store, secret, identity, () => clock);
  const seed = "0b".repeat(20);
  const state = machine.booted(identityHex);
  const after = state.events.findIndex(({ name }) => name === "instance-id") + 1;
  state.events.splice(after, 0, { name: "volumes", payload: volumesPayload(seed, ["data", "more"]) });
  const events = { sequence: state.events.map(({ name }) => name) };
  const rules = { volumes: { names: ["data", "more"], seeds: [seed] }, events };
  const policies = policiesOf(t, machine.policyFile(rules), identityHex);
  const replica = (): ReleaseContext => ({
    ...setup(policies).context,
    store,
    volumes,
    nonces: new Nonces(secret, () => store.head.sequence),
    now: () => clock,
  });
  const [first, second] = [replica(), replica()];
  const { request } = await askingFor(machine, state, first);
  const epochs = async () => (await volumes.list()).map(({ epoch }) => epoch);

  const answers = await Promise.all([first, second, first].map((one) => releaseKeys(one, request)));
  const outcomes = answers.map(({ answer }) => (answer.outcome === "denied" ? answer.code : "released"));
  deepEqual(outcomes.sort(), ["nonce/used", "nonce/used", "released"]);
  deepEqual(await epochs(), [1n, 1n]);
  const { answer } = await releaseKeys(replica(), request);
  equal(answer.outcome === "denied" && answer.code, "nonce/used");
  deepEqual(await epochs(), [1n, 1n]);

  const again = await releaseKeys(second, (await askingFor(machine, state, second)).request);
  equal(again.answer.outcome, "released");
  deepEqual(await epochs(), [2n, 2n]);
});

test("denied: policies that were replaced while it was judged, but for those that say the same", async (t) => {
  const machine = new Machine(now);
  const file = machine.policyFile();
  const { context, log } = setup(policiesOf(t, file, identityHex));
  const under = async (current: Policies) => {
    const { request } = await askingFor(machine, machine.booted(identityHex), context);
    const { answer } = await releaseKeys({ ...context, current: () => current }, request);
    return answer.outcome === "denied" ? answer.code : answer.outcome;
  };
  equal(await under(policiesOf(t, { ...file, keyVersion: 2 }, identityHex)), "policy/changed");
  equal(await under(new Map()), "policy/changed");
  equal(log.length, 0);
  equal(await under(policiesOf(t, file, identityHex)), "released");
});

test("denied: evidence replayed, at once and with a new nonce", async (t) => {
  const machine = new Machine(now);
  const { context, log } = setup(policiesOf(t, machine.policyFile(), identityHex));
  const { request } = await askingFor(machine, machine.booted(identityHex), context);
  equal((await releaseKeys(context, request)).answer.outcome, "released");
  const again = (await releaseKeys(context, request)).answer;
  equal(again.outcome === "denied" && again.code, "nonce/used");
  const renewed = { ...request, nonce: context.nonces.issue(now).toHex() };
  const replayed = (await releaseKeys(context, renewed)).answer;
  equal(replayed.outcome === "denied" && replayed.code, "report-data/preimage");
  equal(log.length, 1);
});

test("denials of genuine machines have entries up to a rate; releases always have one", async (t) => {
  const machine = new Machine(now);
  const { context, log } = setup(policiesOf(t, machine.policyFile(), identityHex));
  const release = async (rtmr1?: string) => {
    const state = machine.booted(identityHex);
    if (rtmr1 !== undefined) state.td.rtmr1 = rtmr1;
    return releaseKeys(context, (await askingFor(machine, state, context)).request);
  };
  const logged = [];
  for (let i = 0; i < 5; i++) logged.push((await release("ff".repeat(48))).logged);
  deepEqual(logged, [true, true, true, false, false]);
  equal((await release()).logged, true);
  // The host's clock gives nobody more of them.
  context.now = () => now + 3600_000;
  equal((await release("ff".repeat(48))).logged, false);
  context.elapsed = () => now + 1000;
  equal((await release("ff".repeat(48))).logged, true);
  equal(log.length, 5);
});

test("denied: a nonce used up by a denial, and one older than a minute", async (t) => {
  const machine = new Machine(now);
  const { context } = setup(policiesOf(t, machine.policyFile(), identityHex));
  const { request } = await askingFor(machine, machine.booted(identityHex), context);
  await releaseKeys(context, { ...request, evidence: {} });
  const second = (await releaseKeys(context, request)).answer;
  equal(second.outcome === "denied" && second.code, "nonce/used");

  const late = await askingFor(machine, machine.booted(identityHex), context);
  context.now = () => now + 60_001;
  const third = (await releaseKeys(context, late.request)).answer;
  equal(third.outcome === "denied" && third.code, "nonce/expired");
});

test("denied: another replica took the nonce while this one looked at the evidence", async (t) => {
  const machine = new Machine(now);
  const { context } = setup(policiesOf(t, machine.policyFile(), identityHex));
  context.store.commit = async () => "nonce/used";
  const { request } = await askingFor(machine, machine.booted(identityHex), context);
  const { answer, logged } = await releaseKeys(context, request);
  deepEqual(
    [answer.outcome === "denied" && answer.code, "sealed" in answer, logged],
    ["nonce/used", false, false],
  );
});

test("denied: no keys leave when the log cannot be written", async (t) => {
  const machine = new Machine(now);
  const { context } = setup(policiesOf(t, machine.policyFile(), identityHex));
  context.store.commit = async () => {
    throw new Error("disk full");
  };
  const { request } = await askingFor(machine, machine.booted(identityHex), context);
  const { answer } = await releaseKeys(context, request);
  equal(answer.outcome === "denied" && answer.code, "log/unavailable");
  equal("sealed" in answer, false);
});

test("a log entry is on disk before the answer exists", async (t) => {
  const machine = new Machine(now);
  const { context } = setup(policiesOf(t, machine.policyFile(), identityHex));
  const order: string[] = [];
  context.store.commit = async () => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    order.push("logged");
    return "done";
  };
  const { request } = await askingFor(machine, machine.booted(identityHex), context);
  await releaseKeys(context, request).then(() => order.push("answered"));
  deepEqual(order, ["logged", "answered"]);
});

test("collateral is verified once for many releases, and its expiry is still seen", async (t) => {
  const machine = new Machine(now);
  const { context } = setup(policiesOf(t, machine.policyFile(), identityHex));
  const release = async () => {
    const { request } = await askingFor(machine, machine.booted(identityHex), context);
    return (await releaseKeys(context, request)).answer;
  };
  equal((await release()).outcome, "released");
  equal((await release()).outcome, "released");
  context.now = () => now + 31 * 24 * 3600 * 1000;
  const answer = await release();
  match(answer.outcome === "denied" ? answer.code : "", /expired$/);
});

test("another version in the policy gives other keys; a raised version retires the old", async (t) => {
  const machine = new Machine(now);
  const seen = new Set<string>();
  for (const keyVersion of [1, 2]) {
    const { context } = setup(policiesOf(t, { ...machine.policyFile(), keyVersion }, identityHex));
    const asked = await askingFor(machine, machine.booted(identityHex), context);
    const { answer } = await releaseKeys(context, asked.request);
    equal(answer.outcome === "released" && answer.keyVersion, keyVersion);
    seen.add(keysIn(answer, asked).toHex());
  }
  equal(seen.size, 2);
});
