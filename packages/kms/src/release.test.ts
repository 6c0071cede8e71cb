// SPDX-License-Identifier: Apache-2.0
/** Who gets keys and who does not: a table of machines, each correctly signed but for what its name says. */
import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { deriveReleasedKey } from "@caisson/protocol/derivation";
import { identityKey, verifySignature } from "@caisson/protocol/ed25519";
import { generateSealingKey, open, type SealingKey } from "@caisson/protocol/hpke";
import { keyProvider } from "@caisson/protocol/identity";
import {
  type Answer,
  answerTranscript,
  type Exchange,
  keyReleaseVersion,
  type ReleaseRequest,
  sealContext,
} from "@caisson/protocol/key-release";
import { volumesPayload } from "@caisson/protocol/volumes";
import { reportData } from "@caisson/verify/report-data";
import { Nonces } from "./nonces.ts";
import { loadPolicies, type Policies } from "./policies.ts";
import { type ReleaseContext, releaseKeys } from "./release.ts";
import type { LogEntry } from "./store/entries.ts";
import { sqlite } from "./store/sqlite.ts";
import { type Commit, type Committed, openStore, storeKeys } from "./store/store.ts";
import { releaseContext } from "./testing/context.ts";
import { Machine, type MachineState } from "./testing/machine.ts";
import { VolumeBook } from "./volumes/book.ts";

const now = Date.parse("2026-06-01T12:00:00Z");
const secret = new Uint8Array(32).map((_, i) => i);
const identity = identityKey(new Uint8Array(32).fill(7));
const identityHex = identity.publicKey.toHex();
const text = (value: object) => new TextEncoder().encode(JSON.stringify(value));

function policiesOf(t: TestContext, file: object, development = true): Policies {
  const directory = mkdtempSync(join(tmpdir(), "caisson-kms-policy-"));
  t.after(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, "app.json"), JSON.stringify(file));
  return loadPolicies(directory, identityHex, development);
}

interface Setup {
  context: ReleaseContext;
  log: LogEntry[];
}

function setup(policies: Policies): Setup {
  const log: LogEntry[] = [];
  const commit = async ({ entry }: Commit): Promise<Committed> => {
    if (entry !== undefined) log.push({ ...entry });
    return "done";
  };
  const context = releaseContext(secret, { identity, policies, store: { commit }, now: () => now });
  return { context, log };
}

interface Asked {
  request: ReleaseRequest;
  exchange: Exchange;
  pair: SealingKey;
}

/** What a guest would send; `quoted` changes what its report data binds. */
async function ask(
  machine: Machine,
  state: MachineState,
  { nonces, now: clock }: ReleaseContext,
  quoted: (exchange: Exchange) => Exchange = (exchange) => exchange,
): Promise<Asked> {
  const pair = generateSealingKey();
  const { publicKey } = pair;
  const exchange = { nonce: nonces.issue(clock()), identityKey: identity.publicKey, ephemeralKey: publicKey };
  const { nonce, identityKey: kmsIdentityKey, ephemeralKey } = quoted(exchange);
  const data = await reportData(keyReleaseVersion, { nonce, kmsIdentityKey, ephemeralKey });
  const request: ReleaseRequest = {
    version: keyReleaseVersion,
    nonce: exchange.nonce.toHex(),
    ephemeralKey: publicKey.toHex(),
    evidence: await machine.evidence(state, data),
  };
  return { request, exchange, pair };
}

function signedBy(answer: Answer, exchange: Exchange): boolean {
  const signature = Uint8Array.fromHex(answer.signature);
  return verifySignature(identity.publicKey, answerTranscript(exchange, answer), signature);
}

test("a machine in good order gets its keys, and the log says so", async (t) => {
  const machine = new Machine(now);
  const { context, log } = setup(policiesOf(t, machine.policyFile()));
  const { request, exchange, pair } = await ask(machine, machine.booted(identityHex), context);
  const { answer } = await releaseKeys(context, request);
  if (answer.outcome !== "released") throw new Error(answer.message);
  equal(signedBy(answer, exchange), true);
  deepEqual([answer.app, answer.instance, answer.time], [machine.app, machine.instance, now]);

  const sealed = {
    enc: Uint8Array.fromHex(answer.sealed.enc),
    ciphertext: Uint8Array.fromHex(answer.sealed.ciphertext),
  };
  const keys = open(pair, sealed, sealContext(exchange, answer));
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
  const policies = new Map(machines.flatMap((m) => [...policiesOf(t, m.policyFile())]));
  const { context } = setup(policies);
  const keys: string[] = [];
  for (const machine of machines) {
    const { request, exchange, pair } = await ask(machine, machine.booted(identityHex), context);
    const { answer } = await releaseKeys(context, request);
    if (answer.outcome !== "released") throw new Error(answer.message);
    const { enc, ciphertext } = answer.sealed;
    const sealed = { enc: Uint8Array.fromHex(enc), ciphertext: Uint8Array.fromHex(ciphertext) };
    keys.push(open(pair, sealed, sealContext(exchange, answer)).toHex());
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
  const directory = mkdtempSync(join(tmpdir(), "caisson-kms-replay-"));
  const store = await openStore(sqlite(join(directory, "log.sqlite")), storeKeys(secret));
  t.after(async () => {
    await store.close();
    rmSync(directory, { recursive: true });
  });
  const volumes = new VolumeBook(store, secret, identity, () => clock);
  const seed = "0b".repeat(20);
  const state = machine.booted(identityHex);
  const after = at(state, "instance-id") + 1;
  state.events.splice(after, 0, { name: "volumes", payload: volumesPayload(seed, ["data", "more"]) });
  const events = { sequence: state.events.map(({ name }) => name) };
  const rules = { volumes: { names: ["data", "more"], seeds: [seed] }, events };
  const policies = policiesOf(t, machine.policyFile(rules));
  const replica = (): ReleaseContext => ({
    ...setup(policies).context,
    store,
    volumes,
    nonces: new Nonces(secret),
    now: () => clock,
  });
  const [first, second] = [replica(), replica()];
  const { request } = await ask(machine, state, first);
  const epochs = async () => (await volumes.list()).map(({ epoch }) => epoch);

  const answers = await Promise.all([first, second, first].map((one) => releaseKeys(one, request)));
  const outcomes = answers.map(({ answer }) => (answer.outcome === "denied" ? answer.code : "released"));
  deepEqual(outcomes.sort(), ["nonce/used", "nonce/used", "released"]);
  deepEqual(await epochs(), [1n, 1n]);
  const { answer } = await releaseKeys(replica(), request);
  equal(answer.outcome === "denied" && answer.code, "nonce/used");
  deepEqual(await epochs(), [1n, 1n]);

  const again = await releaseKeys(second, (await ask(machine, state, second)).request);
  equal(again.answer.outcome, "released");
  deepEqual(await epochs(), [2n, 2n]);
});

type Change = (state: MachineState, machine: Machine) => void;

interface Case {
  name: string;
  change?: Change;
  /** Changes of the inner policy; `undefined` removes a rule. */
  policy?: Record<string, unknown>;
  quoted?: (exchange: Exchange) => Exchange;
  request?: (request: ReleaseRequest) => ReleaseRequest;
  code: string;
}

const at = (state: MachineState, name: string) => state.events.findIndex((event) => event.name === name);
const drop =
  (name: string): Change =>
  (state) =>
    void state.events.splice(at(state, name), 1);
const setPayload =
  (name: string, payload: Uint8Array): Change =>
  (state) => {
    state.events[at(state, name)]!.payload = payload;
  };
const flipped = (bytes: Uint8Array) => Uint8Array.from(bytes, (byte, i) => (i === 5 ? byte ^ 1 : byte));
/** Changes the log that is sent and not what was measured. */
const afterwards =
  (change: (events: { name: string; payload: string }[]) => void) =>
  (request: ReleaseRequest): ReleaseRequest => {
    const evidence = structuredClone(request.evidence) as {
      runtimeEvents: { name: string; payload: string }[];
    };
    change(evidence.runtimeEvents);
    return { ...request, evidence };
  };
const time = {
  method: "nts",
  midpoint: now - 60_000,
  operators: ["a", "b", "c"],
  origin: "image",
  width: 20,
};
const secureTime = (change: object) => setPayload("secure-time", text({ ...time, ...change }));
/** Changes the hierarchy, then signs everything again. */
const reissue =
  (change: (machine: Machine) => void): Change =>
  (state, machine) => {
    change(machine);
    machine.remint();
    state.collateral = machine.booted(identityHex).collateral;
  };
const tcbLevel = (machine: Machine) =>
  (machine.hierarchy.tcbInfo as { tcbLevels: { tcb: { pcesvn: number }; tcbStatus: string }[] })
    .tcbLevels[0]!;

const cases: Case[] = [
  // What the quote binds.
  {
    name: "report data for another nonce",
    quoted: (e) => ({ ...e, nonce: flipped(e.nonce) }),
    code: "report-data/preimage",
  },
  {
    name: "report data for another KMS",
    quoted: (e) => ({ ...e, identityKey: flipped(e.identityKey) }),
    code: "report-data/preimage",
  },
  {
    name: "report data for another ephemeral key: evidence relayed by a man in the middle",
    quoted: (e) => ({ ...e, ephemeralKey: flipped(e.ephemeralKey) }),
    code: "report-data/preimage",
  },
  {
    name: "an ephemeral key put in place of the quoted one",
    request: (r) => ({ ...r, ephemeralKey: "09".repeat(32) }),
    code: "report-data/preimage",
  },
  {
    name: "an ephemeral key of small order",
    quoted: (e) => ({ ...e, ephemeralKey: new Uint8Array(32) }),
    request: (r) => ({ ...r, ephemeralKey: "00".repeat(32) }),
    code: "request/ephemeral-key",
  },
  {
    name: "a nonce that was made up",
    request: (r) => ({ ...r, nonce: "ab".repeat(32) }),
    code: "nonce/unknown",
  },

  // The measured events.
  {
    name: "an event dropped from the log",
    request: afterwards((e) => e.splice(5, 1)),
    code: "events/runtime-replay",
  },
  {
    name: "an event added to the log",
    request: afterwards((e) => e.push(e[0]!)),
    code: "events/runtime-replay",
  },
  {
    name: "two events of the log exchanged",
    request: afterwards((e) => e.reverse()),
    code: "events/runtime-replay",
  },
  {
    name: "an event of the log with another payload",
    request: afterwards((e) => {
      e[0]!.payload = "00";
    }),
    code: "events/runtime-replay",
  },
  { name: "an event that was never measured", change: drop("boot-mr-done"), code: "events/missing" },
  {
    name: "events measured in another order",
    change: (state) => state.events.splice(4, 2, state.events[5]!, state.events[4]!),
    code: "events/order",
  },
  {
    name: "an event measured twice",
    change: (state) => state.events.splice(1, 0, state.events[1]!),
    code: "events/duplicate",
  },
  {
    name: "an unknown event measured",
    change: (state) => state.events.splice(5, 0, { name: "surprise", payload: new Uint8Array() }),
    code: "events/unexpected",
  },
  {
    name: "keys asked for before key-provider is measured",
    change: drop("key-provider"),
    code: "events/missing",
  },
  {
    name: "keys asked for after system-ready",
    change: (state) => state.events.push({ name: "system-ready", payload: new Uint8Array() }),
    code: "events/after-boundary",
  },
  {
    name: "key-provider measured a second time, with another KMS first",
    change: (state) =>
      state.events.splice(6, 0, { name: "key-provider", payload: keyProvider(new Uint8Array(32)) }),
    code: "events/after-boundary",
  },
  {
    name: "key-provider names another KMS",
    change: setPayload("key-provider", keyProvider(new Uint8Array(32))),
    code: "keys/key-provider",
  },
  {
    name: "key-provider says that there is no KMS",
    change: setPayload("key-provider", keyProvider(undefined)),
    code: "keys/key-provider",
  },
  { name: "no app id", change: drop("app-id"), code: "app/not-stated" },
  { name: "an app id of 19 bytes", change: setPayload("app-id", new Uint8Array(19)), code: "app/not-stated" },
  {
    name: "the app id of another application",
    change: setPayload("app-id", new Uint8Array(20)),
    code: "app/mismatch",
  },
  {
    name: "an application without a policy",
    change: (state, machine) => {
      Object.assign(state, { events: new Machine(now, "other").booted(identityHex).events });
      notEqual(state.events[1]!.payload.toHex(), machine.app);
    },
    code: "app/unknown",
  },
  {
    name: "an instance that the policy does not list",
    policy: { app: { instanceId: ["00".repeat(20)] } },
    code: "app/instance-id",
  },

  // The time.
  { name: "no secure-time event", change: drop("secure-time"), code: "events/missing" },
  {
    name: "a host's clock under a policy that demands NTS",
    change: setPayload("secure-time", text({ method: "none" })),
    code: "time/method",
  },
  {
    name: "time sources that the host named",
    change: secureTime({ origin: "instance" }),
    code: "time/origin",
  },
  {
    name: "two operators that agreed",
    change: secureTime({ operators: ["a", "b"] }),
    code: "time/operators",
  },
  {
    name: "one operator counted three times",
    change: secureTime({ operators: ["a", "a", "a"] }),
    code: "time/operators",
  },
  { name: "an agreement 251 ms wide", change: secureTime({ width: 251 }), code: "time/width" },
  { name: "a clock one hour ahead", change: secureTime({ midpoint: now + 3_600_000 }), code: "time/future" },

  // The machine.
  ...(["mrTd", "rtmr0", "rtmr1", "rtmr2"] as const).map((register) => ({
    name: `another ${register}`,
    change: (state: MachineState) => {
      state.td[register] = "ff".repeat(48);
    },
    code: `registers/${register.toLowerCase()}`,
  })),
  {
    name: "a debug TD",
    change: (state) => {
      state.td.tdAttributes = "0100001000000000";
    },
    code: "td/debug",
  },
  {
    name: "a TD without SEPT_VE_DISABLE",
    change: (state) => {
      state.td.tdAttributes = "0000000000000000";
    },
    code: "td/attributes",
  },
  {
    name: "a TD that a service TD may migrate",
    change: (state) => {
      state.td.mrServiceTd = "01".repeat(48);
    },
    code: "td/mr-service-td",
  },
  {
    name: "a TD with another MRCONFIGID",
    change: (state) => {
      state.td.mrConfigId = "01".repeat(48);
    },
    code: "td/mr-config-id",
  },

  // The platform.
  {
    name: "development evidence under a production policy",
    policy: { platforms: ["tdx"] },
    code: "policy/platform",
  },
  {
    name: "development evidence that calls itself TDX",
    policy: { platforms: ["tdx"] },
    change: (state) => {
      state.platform = "tdx";
    },
    code: "chain/untrusted-root",
  },
  {
    name: "development evidence of another simulated root",
    policy: { simulatedRoot: `04${"11".repeat(64)}` },
    code: "chain/untrusted-root",
  },
  {
    name: "no collateral",
    change: (state) => {
      state.collateral = undefined;
    },
    code: "collateral/missing",
  },
  {
    name: "a TCB that no published level covers",
    change: reissue((machine) => {
      tcbLevel(machine).tcb.pcesvn = 99;
    }),
    code: "tcb/no-level",
  },
  {
    name: "a TCB that is out of date",
    change: reissue((machine) => {
      tcbLevel(machine).tcbStatus = "OutOfDate";
    }),
    code: "policy/tcb-status",
  },
  {
    name: "a TCB that Intel revoked",
    change: reissue((machine) => {
      tcbLevel(machine).tcbStatus = "Revoked";
    }),
    code: "tcb/revoked",
  },
  {
    name: "a platform whose certificate is revoked",
    change: reissue((machine) => machine.hierarchy.pckCrl.revoked.push(machine.hierarchy.pck.serial)),
    code: "certificate/revoked",
  },
  {
    name: "TCB info that expired",
    change: reissue((machine) => {
      machine.hierarchy.tcbInfo.nextUpdate = "2026-05-31T23:59:59Z";
    }),
    code: "tcb-info/expired",
  },
  {
    name: "collateral older than the policy allows",
    policy: { tcb: { minimumEvaluationNumber: 19 } },
    code: "policy/tcb-evaluation",
  },
  {
    name: "a platform that the policy does not list",
    policy: { platformIdentities: ["00".repeat(16)] },
    code: "policy/platform-identity",
  },
  {
    name: "one bit of the quote",
    request: (request) => {
      const evidence = structuredClone(request.evidence) as { quote: string };
      const quote = Uint8Array.fromBase64(evidence.quote);
      quote[200]! ^= 1;
      return { ...request, evidence: { ...evidence, quote: quote.toBase64() } };
    },
    code: "quote/signature",
  },

  // What is not evidence.
  { name: "no evidence", request: (r) => ({ ...r, evidence: null }), code: "evidence/malformed" },
  {
    name: "evidence with an unknown field",
    request: (r) => ({ ...r, evidence: { ...(r.evidence as object), more: 1 } }),
    code: "evidence/malformed",
  },
  {
    name: "a quote cut short",
    request: (r) => {
      const evidence = r.evidence as { quote: string };
      return { ...r, evidence: { ...evidence, quote: evidence.quote.slice(0, 800) } };
    },
    code: "quote/truncated",
  },
];

/** What anybody can send who has no machine of ours, as often as he likes: it gets no entry. */
const costsNothing =
  /^(nonce|evidence|quote|chain|collateral|certificate|tcb-info|tcb)\/|^(report-data\/preimage|events\/runtime-replay|policy\/platform|app\/(not-stated|mismatch|unknown))$/;

for (const { name, change, policy, quoted, request: spoil, code } of cases) {
  test(`denied: ${name}`, async (t) => {
    const machine = new Machine(now);
    const { context, log } = setup(policiesOf(t, machine.policyFile(policy)));
    const state = machine.booted(identityHex);
    change?.(state, machine);
    const asked = await ask(machine, state, context, quoted);
    const request = spoil?.(asked.request) ?? asked.request;
    const { answer } = await releaseKeys(context, request);
    if (answer.outcome !== "denied") throw new Error("keys were released");
    equal(answer.code, code, answer.message);
    const exchange: Exchange = {
      nonce: Uint8Array.fromHex(request.nonce),
      identityKey: identity.publicKey,
      ephemeralKey: Uint8Array.fromHex(request.ephemeralKey),
    };
    equal(signedBy(answer, exchange), true);
    deepEqual(
      log.map(({ outcome, reason }) => [outcome, reason]),
      costsNothing.test(code) ? [] : [["denied", code]],
    );
  });
}

test("denied: policies that were replaced while it was judged, but for those that say the same", async (t) => {
  const machine = new Machine(now);
  const { context, log } = setup(policiesOf(t, machine.policyFile()));
  const under = async (current: Policies) => {
    const { request } = await ask(machine, machine.booted(identityHex), context);
    const { answer } = await releaseKeys({ ...context, current: () => current }, request);
    return answer.outcome === "denied" ? answer.code : answer.outcome;
  };
  equal(await under(policiesOf(t, { ...machine.policyFile(), keyVersion: 2 })), "policy/changed");
  equal(await under(new Map()), "policy/changed");
  equal(log.length, 0);
  equal(await under(policiesOf(t, machine.policyFile())), "released");
});

test("denied: evidence replayed, at once and with a new nonce", async (t) => {
  const machine = new Machine(now);
  const { context, log } = setup(policiesOf(t, machine.policyFile()));
  const { request } = await ask(machine, machine.booted(identityHex), context);
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
  const { context, log } = setup(policiesOf(t, machine.policyFile()));
  const release = async (rtmr1?: string) => {
    const state = machine.booted(identityHex);
    if (rtmr1 !== undefined) state.td.rtmr1 = rtmr1;
    return releaseKeys(context, (await ask(machine, state, context)).request);
  };
  const logged = [];
  for (let i = 0; i < 5; i++) logged.push((await release("ff".repeat(48))).logged);
  deepEqual(logged, [true, true, true, false, false]);
  equal((await release()).logged, true);
  context.now = () => now + 1000;
  equal((await release("ff".repeat(48))).logged, true);
  equal(log.length, 5);
});

test("denied: a nonce used up by a denial, and one older than a minute", async (t) => {
  const machine = new Machine(now);
  const { context } = setup(policiesOf(t, machine.policyFile()));
  const { request } = await ask(machine, machine.booted(identityHex), context);
  await releaseKeys(context, { ...request, evidence: {} });
  const second = (await releaseKeys(context, request)).answer;
  equal(second.outcome === "denied" && second.code, "nonce/used");

  const late = await ask(machine, machine.booted(identityHex), context);
  context.now = () => now + 60_001;
  const third = (await releaseKeys(context, late.request)).answer;
  equal(third.outcome === "denied" && third.code, "nonce/expired");
});

test("denied: another replica took the nonce while this one looked at the evidence", async (t) => {
  const machine = new Machine(now);
  const { context } = setup(policiesOf(t, machine.policyFile()));
  context.store.commit = async () => "nonce/used";
  const { request } = await ask(machine, machine.booted(identityHex), context);
  const { answer, logged } = await releaseKeys(context, request);
  deepEqual(
    [answer.outcome === "denied" && answer.code, "sealed" in answer, logged],
    ["nonce/used", false, false],
  );
});

test("denied: no keys leave when the log cannot be written", async (t) => {
  const machine = new Machine(now);
  const { context } = setup(policiesOf(t, machine.policyFile()));
  context.store.commit = async () => {
    throw new Error("disk full");
  };
  const { request } = await ask(machine, machine.booted(identityHex), context);
  const { answer } = await releaseKeys(context, request);
  equal(answer.outcome === "denied" && answer.code, "log/unavailable");
  equal("sealed" in answer, false);
});

test("a log entry is on disk before the answer exists", async (t) => {
  const machine = new Machine(now);
  const { context } = setup(policiesOf(t, machine.policyFile()));
  const order: string[] = [];
  context.store.commit = async () => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    order.push("logged");
    return "done";
  };
  const { request } = await ask(machine, machine.booted(identityHex), context);
  await releaseKeys(context, request).then(() => order.push("answered"));
  deepEqual(order, ["logged", "answered"]);
});

test("collateral is verified once for many releases, and its expiry is still seen", async (t) => {
  const machine = new Machine(now);
  const { context } = setup(policiesOf(t, machine.policyFile()));
  const release = async () => {
    const { request } = await ask(machine, machine.booted(identityHex), context);
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
    const { context } = setup(policiesOf(t, { ...machine.policyFile(), keyVersion }));
    const { request, exchange, pair } = await ask(machine, machine.booted(identityHex), context);
    const { answer } = await releaseKeys(context, request);
    if (answer.outcome !== "released") throw new Error(answer.message);
    equal(answer.keyVersion, keyVersion);
    const { enc, ciphertext } = answer.sealed;
    const sealed = { enc: Uint8Array.fromHex(enc), ciphertext: Uint8Array.fromHex(ciphertext) };
    seen.add(open(pair, sealed, sealContext(exchange, answer)).toHex());
  }
  equal(seen.size, 2);
});
