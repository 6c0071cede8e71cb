// SPDX-License-Identifier: Apache-2.0
/** Who gets no keys: a table of machines, each correctly signed but for what its name says. */
import { deepEqual, equal, notEqual } from "node:assert/strict";
import test from "node:test";
import { identityKey } from "@caisson/protocol/ed25519";
import { keyProvider } from "@caisson/protocol/identity";
import { type Exchange, type ReleaseRequest } from "@caisson/protocol/key-release";
import { releaseKeys } from "./release.ts";
import { askingFor, isSigned } from "./testing/asking.ts";
import { policiesOf, recordedContext } from "./testing/context.ts";
import { Machine, type MachineState } from "./testing/machine.ts";

const now = Date.parse("2026-06-01T12:00:00Z");
const secret = new Uint8Array(32).map((_, i) => i);
const identity = identityKey(new Uint8Array(32).fill(7));
const identityHex = identity.publicKey.toHex();
const text = (value: object) => new TextEncoder().encode(JSON.stringify(value));

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
    const { context, log } = recordedContext(secret, {
      identity,
      policies: policiesOf(t, machine.policyFile(policy), identityHex),
      now: () => now,
    });
    const state = machine.booted(identityHex);
    change?.(state, machine);
    const asked = await askingFor(machine, state, context, quoted);
    const request = spoil?.(asked.request) ?? asked.request;
    const { answer } = await releaseKeys(context, request);
    if (answer.outcome !== "denied") throw new Error("keys were released");
    equal(answer.code, code, answer.message);
    const exchange: Exchange = {
      nonce: Uint8Array.fromHex(request.nonce),
      identityKey: identity.publicKey,
      ephemeralKey: Uint8Array.fromHex(request.ephemeralKey),
    };
    equal(await isSigned(answer, exchange), true);
    deepEqual(
      log.map(({ outcome, reason }) => [outcome, reason]),
      costsNothing.test(code) ? [] : [["denied", code]],
    );
  });
}
