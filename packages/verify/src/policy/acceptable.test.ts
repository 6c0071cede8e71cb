// SPDX-License-Identifier: Apache-2.0
/** Genuine evidence against policies: one rule at a time on its wrong side, and each thing that a policy can open. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { fold, runtimeEventDigest } from "@caisson/measure";
import { type Hierarchy, hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote, type QuoteFormat, type TdSpec } from "@caisson/simulated/quotes";
import { bootEvents, bootSequence } from "@caisson/vocabulary/events";
import type { CheckCode, CheckId } from "../errors.ts";
import type { Evidence } from "../evidence/evidence.ts";
import { readEvidenceDocument } from "../evidence/formats/caisson.ts";
import { writeEvidenceDocument } from "../evidence/formats/caisson-writer.ts";
import { type ReportDataScheme, reportData } from "../evidence/report-data.ts";
import { verifyEvidence } from "../verify.ts";
import { readPolicy } from "./policy.ts";
import { readReferences } from "./reference.ts";
import type { ExpectedReportData } from "./report-data-rules.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const now = new Date("2026-06-01T00:00:00Z");
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const utf8 = (value: unknown) => new Uint8Array(Buffer.from(JSON.stringify(value)));
const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));

const registers = {
  mrtd: "a1".repeat(48),
  rtmr0: "a2".repeat(48),
  rtmr1: "a3".repeat(48),
  rtmr2: "a4".repeat(48),
};
const ids = {
  app: "b1".repeat(20),
  compose: "b2".repeat(32),
  instance: "b3".repeat(20),
  kms: "b4".repeat(32),
};
const nonce = bytes("c1".repeat(32));
const agreement = {
  method: "nts",
  midpoint: now.getTime() - 60_000,
  operators: ["a", "b", "c"],
  origin: "image",
  width: 40,
};
const payloads: Record<string, Uint8Array> = {
  "system-preparing": new Uint8Array(),
  "app-id": bytes(ids.app),
  "compose-hash": bytes(ids.compose),
  "instance-id": bytes(ids.instance),
  "secure-time": utf8(agreement),
  "boot-mr-done": new Uint8Array(),
  "key-provider": utf8({ id: ids.kms, name: "kms" }),
  "system-ready": new Uint8Array(),
};

/** A policy that accepts the evidence below, and states everything. */
const fullPolicy = () => ({
  version: "caisson/policy/v1",
  tcb: { minimumEvaluationNumber: 18 } as Record<string, unknown>,
  platformIdentities: "any" as unknown,
  td: {} as Record<string, unknown>,
  registers: {} as Record<string, unknown>,
  events: {} as Record<string, unknown>,
  app: { id: [ids.app], composeHash: [ids.compose], instanceId: "any" } as Record<string, unknown>,
  secureTime: {} as unknown,
  keyProviders: [{ name: "kms", id: ids.kms }] as unknown,
});
type PolicyDocument = Omit<ReturnType<typeof fullPolicy>, "version"> & Record<string, unknown>;

interface Change {
  policy?: (policy: PolicyDocument) => unknown;
  hierarchy?: (h: Hierarchy) => void;
  td?: Partial<TdSpec>;
  format?: QuoteFormat;
  /** Names of the runtime events, or the events. */
  events?: (string | { name: string; payload: Uint8Array })[];
  payload?: Record<string, Uint8Array>;
  evidence?: (evidence: Evidence) => unknown;
  references?: unknown;
  scheme?: ReportDataScheme;
  expected?: ExpectedReportData | undefined;
  now?: Date;
}

/** Of an instance. */
const seed = "0b".repeat(20);

async function judge(change: Change) {
  const events = (change.events ?? bootEvents).map((event) =>
    typeof event === "string"
      ? { name: event, payload: change.payload?.[event] ?? payloads[event] ?? new Uint8Array() }
      : event,
  );
  const rtmr3 = await fold(
    await Promise.all(events.map(({ name, payload }) => runtimeEventDigest(name, payload))),
  );
  const fields = { nonce };
  const h = hierarchy("acceptable", times, change.format === "sgx-v3" ? "sgx" : "tdx");
  change.hierarchy?.(h);
  const { collateral, pckChain, trust } = mint(h);
  const { mrtd, ...rtmrs } = registers;
  const td = {
    mrTd: mrtd,
    ...rtmrs,
    rtmr3: toHex(rtmr3),
    reportData: toHex(await reportData("caisson/app/v1", fields)),
    ...change.td,
  };
  const evidence: Evidence = {
    platform: "tdx",
    quote: issueQuote(h, pckChain, td, change.format),
    runtimeEvents: events,
    reportData: { scheme: "caisson/app/v1", fields },
    collateral,
  };
  change.evidence?.(evidence);
  const policy = fullPolicy() as PolicyDocument;
  change.policy?.(policy);
  const expected = "expected" in change ? change.expected : { scheme: "caisson/app/v1" as const, fields };
  return verifyEvidence(evidence, {
    policy: readPolicy(policy),
    references: readReferences(
      change.references ?? { measurements: { tdx: { small: registers } } },
      "manifest",
    ),
    now: change.now ?? now,
    trust,
    ...(expected === undefined ? {} : { expectedReportData: expected }),
  });
}

const without = (name: string) => bootEvents.filter((event) => event !== name);
const zeros = "00".repeat(48);
const ones = "01".repeat(48);
const rtmr0Open = { rtmr0: "any", hostAcpi: "any" };
const outOfDate = (h: Hierarchy) => {
  const level = (h.tcbInfo.tcbLevels as Record<string, unknown>[])[0]!;
  Object.assign(level, { tcbStatus: "OutOfDate", advisoryIDs: ["INTEL-SA-00001"] });
};
const time = (change: object) => ({ "secure-time": utf8({ ...agreement, ...change }) });

/** Evidence or policy changed so that exactly these codes come out. */
const refusals: [name: string, codes: CheckCode[], change: Change][] = [
  ["an OutOfDate platform", ["policy/tcb-status", "policy/advisories"], { hierarchy: outOfDate }],
  [
    "an advisory that the policy does not name",
    ["policy/advisories"],
    { hierarchy: outOfDate, policy: (p) => (p.tcb.statuses = ["OutOfDate"]) },
  ],
  [
    "a policy that states no evaluation number",
    ["policy/tcb-evaluation-not-stated"],
    { policy: (p) => delete p.tcb.minimumEvaluationNumber },
  ],
  [
    "a platform that the policy does not list",
    ["policy/platform-identity"],
    { policy: (p) => (p.platformIdentities = ["00".repeat(16)]) },
  ],
  [
    "a policy that states no platform identities",
    ["policy/platform-identity-not-stated"],
    { policy: (p) => delete (p as Partial<PolicyDocument>).platformIdentities },
  ],
  ["an SGX quote", ["policy/tee"], { format: "sgx-v3" }],
  ["a debug TD", ["td/debug", "td/attributes"], { td: { tdAttributes: "0100001000000000" } }],
  [
    "a debug TD under a policy that leaves attributes open",
    ["td/debug"],
    { td: { tdAttributes: "0100001000000000" }, policy: (p) => (p.td.attributes = "any") },
  ],
  [
    "another bit of the debug byte",
    ["td/debug"],
    { td: { tdAttributes: "8000001000000000" }, policy: (p) => (p.td.attributes = "any") },
  ],
  [
    "a debug TD that the policy lists",
    ["td/debug"],
    { td: { tdAttributes: "0100001000000000" }, policy: (p) => (p.td.attributes = ["0100001000000000"]) },
  ],
  [
    "a reserved attribute",
    ["td/attributes"],
    { td: { tdAttributes: "0001001000000000" }, policy: (p) => (p.td.attributes = "any") },
  ],
  ["SEPT_VE_DISABLE clear", ["td/attributes"], { td: { tdAttributes: "0000000000000000" } }],
  ["a migratable TD", ["td/attributes"], { td: { tdAttributes: "0000003000000000" } }],
  ["XFAM without SSE", ["td/xfam"], { td: { xfam: "e502060000000000" } }],
  ["a reserved XFAM bit", ["td/xfam"], { td: { xfam: "e702060000000080" } }],
  [
    "an XFAM that the policy does not list",
    ["td/xfam"],
    { policy: (p) => (p.td.xfam = ["0300000000000000"]) },
  ],
  ["a TDX module that the policy does not list", ["td/mr-seam"], { policy: (p) => (p.td.mrSeam = [ones]) }],
  ["a service TD", ["td/mr-service-td"], { td: { mrServiceTd: ones } }],
  [
    "another service TD than the policy's",
    ["td/mr-service-td"],
    { td: { mrServiceTd: ones }, policy: (p) => (p.td.mrServiceTd = [zeros]) },
  ],
  ["a report that does not tell its service TD", ["td/mr-service-td-unknown"], { format: "td10-v4" }],
  ["an MRCONFIGID", ["td/mr-config-id"], { td: { mrConfigId: ones } }],
  [
    "no MRCONFIGID where the policy names one",
    ["td/mr-config-id"],
    { policy: (p) => (p.td.mrConfigId = [ones]) },
  ],
  ["an MROWNER", ["td/mr-owner"], { td: { mrOwner: ones } }],
  ["an MROWNERCONFIG", ["td/mr-owner-config"], { td: { mrOwnerConfig: ones } }],
  ...(["mrTd", "rtmr0", "rtmr1", "rtmr2"] as const).map((field): [string, CheckCode[], Change] => [
    `another ${field}`,
    [`registers/${field.toLowerCase() as "mrtd"}`, "registers/no-match"],
    { td: { [field]: ones } },
  ]),
  [
    "registers that are half one reference's and half another's",
    ["registers/rtmr1", "registers/rtmr2", "registers/no-match"],
    {
      references: [
        { ...registers, rtmr1: ones, rtmr2: ones },
        { ...registers, mrtd: ones, rtmr0: ones },
      ],
    },
  ],
  [
    "a reference for the other platform",
    ["registers/no-reference"],
    { references: { measurements: { emulated: [registers] } } },
  ],
  [
    "a reference without RTMR0",
    ["registers/not-covered"],
    { references: [{ ...registers, rtmr0: undefined }] },
  ],
  [
    "no boot log where the policy requires one",
    ["events/boot-log"],
    { policy: (p) => (p.events.bootLog = "required") },
  ],
  [
    "a boot log that is none",
    ["events/boot-log"],
    { evidence: (e) => (e.bootLog = { format: "tcg2", bytes: bytes("dead") }) },
  ],
  [
    "a boot log of another TD",
    ["events/boot-replay"],
    { evidence: (e) => (e.bootLog = { format: "events", events: [{ register: 0, digest: bytes(ones) }] }) },
  ],
  ["no runtime events", ["events/runtime-replay"], { evidence: (e) => delete e.runtimeEvents }],
  [
    "an event that was not measured",
    ["events/runtime-replay"],
    { evidence: (e) => e.runtimeEvents!.push({ name: "extra", payload: new Uint8Array() }) },
  ],
  ["an event left out of the log", ["events/runtime-replay"], { evidence: (e) => e.runtimeEvents!.pop() }],
  [
    "a payload changed in the log",
    ["events/runtime-replay"],
    { evidence: (e) => (e.runtimeEvents![1] = { ...e.runtimeEvents![1]!, payload: bytes("ff") }) },
  ],
  [
    "two events swapped in the log",
    ["events/runtime-replay"],
    { evidence: (e) => e.runtimeEvents!.reverse() },
  ],
  [
    "a name with a colon, which could hide a boundary",
    ["events/name"],
    { events: [...bootEvents, { name: "a:b", payload: new Uint8Array() }] },
  ],
  [
    "a name with a space",
    ["events/name"],
    { events: [...bootEvents, { name: "system ready", payload: new Uint8Array() }] },
  ],
  ...bootEvents.map((name): [string, CheckCode[], Change] => [
    `a TD that never measured ${name}`,
    ["events/missing"],
    { events: without(name) },
  ]),
  ["a TD that measured nothing", ["events/missing"], { events: [] }],
  [
    "secure-time after key-provider",
    ["events/order"],
    { events: [...without("secure-time").slice(0, 6), "secure-time", "system-ready"] },
  ],
  [
    "app-id measured twice before the boundary",
    ["events/duplicate"],
    { events: ["system-preparing", "app-id", ...bootEvents.slice(1)] },
  ],
  [
    "an unknown event before the boundary",
    ["events/unexpected"],
    { events: ["system-preparing", "surprise", ...bootEvents.slice(1)] },
  ],
  ["an unknown event first", ["events/unexpected"], { events: ["surprise", ...bootEvents] }],
  ["anything after the boundary", ["events/after-boundary"], { events: [...bootEvents, "custom"] }],
  [
    "a name after the boundary that the policy does not list",
    ["events/after-boundary"],
    { events: [...bootEvents, "custom"], policy: (p) => (p.events.afterBoundary = ["other"]) },
  ],
  [
    "app-id again after the boundary",
    ["events/after-boundary"],
    { events: [...bootEvents, "app-id"], policy: (p) => (p.events.afterBoundary = "any") },
  ],
  [
    "the boundary in capitals after the boundary",
    ["events/after-boundary"],
    { events: [...bootEvents, "System-Ready"], policy: (p) => (p.events.afterBoundary = "any") },
  ],
  [
    "the boundary again after the boundary",
    ["events/after-boundary"],
    { events: [...bootEvents, "system-ready"], policy: (p) => (p.events.afterBoundary = "any") },
  ],
  [
    "an earlier name after the boundary, listed by the policy",
    ["events/after-boundary"],
    { events: [...bootEvents, "compose-hash"], policy: (p) => (p.events.afterBoundary = ["compose-hash"]) },
  ],
  [
    "a TD that is ready already where keys are released",
    ["events/after-boundary"],
    { policy: (p) => (p.events.sequence = bootEvents.slice(0, 7)) },
  ],
  ["another app id", ["app/id"], { payload: { "app-id": bytes("00".repeat(20)) } }],
  ["another compose hash", ["app/compose-hash"], { payload: { "compose-hash": bytes("00".repeat(32)) } }],
  [
    "an instance that the policy does not list",
    ["app/instance-id"],
    { policy: (p) => (p.app.instanceId = ["00".repeat(20)]) },
  ],
  ["a volume that the policy does not expect", ["events/unexpected"], { events: bootSequence(["volumes"]) }],
  [
    "no volume where the policy names one",
    ["events/missing"],
    { policy: (p) => (p.volumes = { names: ["data"] }) },
  ],
  ...(
    [
      [
        "other volumes than the policy names",
        "app/volumes",
        { names: ["data", "more"] },
        { names: ["data"], seed },
      ],
      [
        "volumes of another instance",
        "app/volumes",
        { names: ["data"], seeds: ["0c".repeat(20)] },
        { names: ["data"], seed },
      ],
      [
        "an event volumes that says nothing",
        "app/volumes-malformed",
        { names: ["data"] },
        { names: [], seed },
      ],
      [
        "an event volumes with more in it",
        "app/volumes-malformed",
        { names: ["data"] },
        { names: ["data"], seed, x: 1 },
      ],
    ] as const
  ).map(([name, code, rules, payload]): [string, CheckCode[], Change] => [
    name,
    [code],
    {
      events: bootSequence(["volumes"]),
      payload: { volumes: utf8(payload) },
      policy: (p) => (p.volumes = rules),
    },
  ]),
  [
    "a volume although the policy wants none",
    ["app/volumes"],
    {
      events: bootSequence(["volumes"]),
      payload: { volumes: utf8({ names: ["data"], seed }) },
      policy: (p) => {
        p.volumes = "none";
        p.events.sequence = bootSequence(["volumes"]);
      },
    },
  ],
  [
    "a policy that states no app",
    ["app/id-not-stated", "app/compose-hash-not-stated", "app/instance-id-not-stated"],
    { policy: (p) => (p.app = {}) },
  ],
  ["secure-time without NTS", ["time/method"], { payload: { "secure-time": utf8({ method: "none" }) } }],
  ["time sources that the host named", ["time/origin"], { payload: time({ origin: "instance" }) }],
  ["two operators", ["time/operators"], { payload: time({ operators: ["a", "b"] }) }],
  ["three sources of one operator", ["time/operators"], { payload: time({ operators: ["a", "a", "a"] }) }],
  ["an agreement 251 ms wide", ["time/width"], { payload: time({ width: 251 }) }],
  ["a clock that is ahead", ["time/future"], { payload: time({ midpoint: now.getTime() + 2021 }) }],
  [
    "an agreement that is too old",
    ["time/age"],
    { policy: (p) => (p.secureTime = { maximumAgeSeconds: 59 }) },
  ],
  ["a secure-time payload that is not JSON", ["time/malformed"], { payload: { "secure-time": bytes("00") } }],
  [
    "a secure-time payload with a space",
    ["time/malformed"],
    { payload: { "secure-time": new Uint8Array(Buffer.from('{"method": "none"}')) } },
  ],
  [
    "a secure-time payload with a key twice",
    ["time/malformed"],
    { payload: { "secure-time": new Uint8Array(Buffer.from('{"method":"nts","method":"none"}')) } },
  ],
  ["a secure-time payload with another field", ["time/malformed"], { payload: time({ extra: 1 }) }],
  [
    "a secure-time payload without an interval",
    ["time/malformed"],
    { payload: { "secure-time": utf8({ method: "nts" }) } },
  ],
  [
    "another KMS",
    ["keys/key-provider"],
    { payload: { "key-provider": utf8({ id: "00".repeat(32), name: "kms" }) } },
  ],
  ["no KMS", ["keys/key-provider"], { payload: { "key-provider": utf8({ id: "", name: "none" }) } }],
  [
    "a key-provider payload that is not JSON",
    ["keys/malformed"],
    { payload: { "key-provider": new Uint8Array() } },
  ],
  [
    "a policy that states no key providers",
    ["keys/key-provider-not-stated"],
    { policy: (p) => delete (p as Partial<PolicyDocument>).keyProviders },
  ],
  [
    "a sequence without key-provider where the policy names one",
    ["keys/malformed"],
    { events: without("key-provider"), policy: (p) => (p.events.sequence = without("key-provider")) },
  ],
  [
    "report data that the claim does not hash to",
    ["report-data/preimage"],
    { td: { reportData: "00".repeat(64) } },
  ],
  [
    "a claim with a field more",
    ["report-data/preimage"],
    { evidence: (e) => (e.reportData!.fields.extra = nonce) },
  ],
  [
    "a claim without its field",
    ["report-data/preimage", "report-data/nonce"],
    { evidence: (e) => (e.reportData!.fields = {}) },
  ],
  [
    "another nonce than the verifier's",
    ["report-data/nonce"],
    { expected: { scheme: "caisson/app/v1", fields: { nonce: bytes("00".repeat(32)) } } },
  ],
  [
    "a nonce of the same start",
    ["report-data/nonce"],
    { expected: { scheme: "caisson/app/v1", fields: { nonce: nonce.subarray(0, 31) } } },
  ],
  [
    "a quote for another purpose",
    ["report-data/scheme"],
    { expected: { scheme: "caisson/key-release/v1", fields: { nonce } } },
  ],
  [
    "a field that the scheme does not have",
    ["report-data/field"],
    { expected: { scheme: "caisson/app/v1", fields: { nonce, kmsIdentityKey: nonce } } },
  ],
  ["no nonce at the verifier", ["report-data/no-nonce"], { expected: undefined }],
  [
    "an empty nonce at the verifier",
    ["report-data/no-nonce"],
    { expected: { scheme: "caisson/app/v1", fields: { nonce: new Uint8Array() } } },
  ],
  [
    "evidence that does not say what it binds",
    ["report-data/missing", "report-data/scheme"],
    { evidence: (e) => delete e.reportData },
  ],
  [
    "a partition of the TD",
    ["td/attributes"],
    { format: "td15ex-v5", td: { extension: `01${"00".repeat(236)}` } },
  ],
  [
    "devices of its own",
    ["td/attributes"],
    { format: "td15ex-v5", td: { extension: `${"00".repeat(33)}01${"00".repeat(203)}` } },
  ],
  [
    "a service TD that was bound later",
    ["td/mr-service-td"],
    { format: "td15ex-v5", td: { extension: `${"00".repeat(181)}01${"00".repeat(55)}` } },
  ],
  ["development evidence", ["policy/platform"], { evidence: (e) => (e.platform = "emulated") }],
  [
    "TDX evidence where only the emulated platform is accepted",
    ["policy/platform"],
    { policy: (p) => Object.assign(p, { platforms: ["emulated"], simulatedRoot: "04".repeat(65) }) },
  ],
];

/** Where nobody can tell whether the evidence is genuine, it is not accepted either. */
const undetermined: typeof refusals = [
  [
    "an evaluation number below the minimum",
    ["policy/tcb-evaluation"],
    { policy: (p) => (p.tcb.minimumEvaluationNumber = 19) },
  ],
  ["evidence without collateral", ["collateral/missing"], { evidence: (e) => delete e.collateral }],
  ["collateral that expired meanwhile", ["chain/expired"], { now: new Date("2027-06-01T00:00:00Z") }],
];

test("accepted: evidence in good order under a policy that states everything", async () => {
  const report = await judge({});
  deepEqual(report.codes, []);
  equal(report.verdict, "accepted");
  equal(report.reference, "manifest/tdx/small");
  deepEqual(
    report.checks.filter(({ outcome }) => outcome === "not-checked").map(({ id }) => id),
    [
      "policy/platform-identity",
      "policy/platform-instance",
      "policy/fmspc",
      "td/mr-seam",
      "events/boot-log",
      "app/instance-id",
    ] satisfies CheckId[],
  );
});

for (const [verdict, cases] of Object.entries({ rejected: refusals, undetermined })) {
  for (const [name, codes, change] of cases) {
    test(`${codes.join(", ")}: ${name}: ${verdict}`, async () => {
      const report = await judge(change);
      deepEqual(report.codes, codes);
      equal(report.verdict, verdict);
    });
  }
}

/** What Intel says of a platform is unknown without its documents. */
const saidByIntel = /^policy\/(?:tcb-|advisories)/;
test("what is certain wins: what a policy refuses, it refuses without collateral, too", async () => {
  for (const [name, codes, change] of refusals) {
    const evidence = (own: Evidence) => {
      change.evidence?.(own);
      delete own.collateral;
    };
    const report = await judge({ ...change, evidence });
    const certain = codes.filter((code) => !saidByIntel.test(code));
    deepEqual(
      report.codes.filter((code) => code !== "collateral/missing"),
      certain,
      name,
    );
    equal(report.verdict, certain.length === 0 ? "undetermined" : "rejected", name);
    // Nothing is said to be in order of a machine that nobody knows.
    const passed = report.checks.filter(({ outcome }) => outcome === "pass").map(({ id }) => id);
    deepEqual(
      passed.filter((id) => id !== "quote/format"),
      [],
      name,
    );
  }
});

/** What a policy opens on purpose: accepted, and listed as not checked (or passed, where the policy names a value). */
const openings: [name: string, id: CheckId, outcome: "pass" | "not-checked", change: Change][] = [
  [
    "an OutOfDate status",
    "policy/tcb-status",
    "pass",
    {
      hierarchy: outOfDate,
      policy: (p) => Object.assign(p.tcb, { statuses: ["OutOfDate"], advisories: "any" }),
    },
  ],
  ["any advisory", "policy/advisories", "not-checked", { policy: (p) => (p.tcb.advisories = "any") }],
  [
    "a listed advisory",
    "policy/advisories",
    "pass",
    {
      hierarchy: outOfDate,
      policy: (p) => Object.assign(p.tcb, { statuses: ["OutOfDate"], advisories: ["INTEL-SA-00001"] }),
    },
  ],
  [
    "any evaluation number",
    "policy/tcb-evaluation",
    "not-checked",
    { policy: (p) => (p.tcb.minimumEvaluationNumber = "any") },
  ],
  [
    "attributes that it lists",
    "td/attributes",
    "pass",
    { td: { tdAttributes: "0000000000000000" }, policy: (p) => (p.td.attributes = ["0000000000000000"]) },
  ],
  [
    "any attributes but debug",
    "td/attributes",
    "not-checked",
    { td: { tdAttributes: "0000000000000000" }, policy: (p) => (p.td.attributes = "any") },
  ],
  ["an XFAM that it lists", "td/xfam", "pass", { policy: (p) => (p.td.xfam = ["E702060000000000"]) }],
  [
    "a report that does not tell its service TD",
    "td/mr-service-td",
    "not-checked",
    { format: "td10-v4", policy: (p) => (p.td.mrServiceTd = "any") },
  ],
  [
    "a service TD that it lists",
    "td/mr-service-td",
    "pass",
    { td: { mrServiceTd: ones }, policy: (p) => (p.td.mrServiceTd = [ones]) },
  ],
  [
    "any MRCONFIGID",
    "td/mr-config-id",
    "not-checked",
    { td: { mrConfigId: ones }, policy: (p) => (p.td.mrConfigId = "any") },
  ],
  [
    "an open RTMR0",
    "registers/rtmr0",
    "not-checked",
    { td: { rtmr0: ones }, policy: (p) => Object.assign(p.registers, rtmr0Open) },
  ],
  [
    "an open RTMR0 that no reference covers",
    "registers/reference",
    "pass",
    {
      references: [{ ...registers, rtmr0: undefined }],
      policy: (p) => Object.assign(p.registers, rtmr0Open),
    },
  ],
  [
    "every register open",
    "registers/reference",
    "not-checked",
    {
      td: { mrTd: ones },
      policy: (p) => (p.registers = { mrtd: "any", ...rtmr0Open, rtmr1: "any", rtmr2: "any" }),
    },
  ],
  [
    "the second of two references",
    "registers/reference",
    "pass",
    { references: [{ ...registers, rtmr1: ones }, registers] },
  ],
  [
    "a reference written into the policy",
    "registers/reference",
    "pass",
    { references: { measurements: { emulated: registers } }, policy: (p) => (p.references = [registers]) },
  ],
  [
    "a listed name after the boundary",
    "events/boundary",
    "pass",
    { events: [...bootEvents, "custom"], policy: (p) => (p.events.afterBoundary = ["custom"]) },
  ],
  [
    "any name after the boundary",
    "events/boundary",
    "not-checked",
    { events: [...bootEvents, "custom"], policy: (p) => (p.events.afterBoundary = "any") },
  ],
  [
    "the sequence of key release",
    "events/sequence",
    "pass",
    { events: bootEvents.slice(0, 7), policy: (p) => (p.events.sequence = bootEvents.slice(0, 7)) },
  ],
  [
    "any time",
    "time/secure-time",
    "not-checked",
    { payload: { "secure-time": new Uint8Array() }, policy: (p) => (p.secureTime = "any") },
  ],
  [
    "the host's clock",
    "time/secure-time",
    "pass",
    {
      payload: { "secure-time": utf8({ method: "none" }) },
      policy: (p) => (p.secureTime = { methods: ["none"] }),
    },
  ],
  [
    "time sources of the instance",
    "time/secure-time",
    "pass",
    { payload: time({ origin: "instance" }), policy: (p) => (p.secureTime = { origins: ["instance"] }) },
  ],
  ["any key provider", "keys/key-provider", "not-checked", { policy: (p) => (p.keyProviders = "any") }],
  [
    "no key provider",
    "keys/key-provider",
    "pass",
    {
      payload: { "key-provider": utf8({ id: "", name: "none" }) },
      policy: (p) => (p.keyProviders = [{ name: "none", id: "" }]),
    },
  ],
  [
    "evidence of any age",
    "report-data/expected",
    "not-checked",
    { expected: undefined, policy: (p) => (p.freshness = "any") },
  ],
];

for (const [name, id, outcome, change] of openings) {
  test(`a policy can accept ${name}`, async () => {
    const report = await judge(change);
    deepEqual(report.codes, []);
    equal(report.verdict, "accepted");
    equal(report.checks.find((check) => check.id === id)?.outcome, outcome);
  });
}

test("the emulated platform is accepted under the root that the policy names, and only there", async () => {
  const root = toHex(hierarchy("acceptable", times).keys.root.publicKey);
  const change = (simulatedRoot: string): Change => ({
    evidence: (e) => (e.platform = "emulated"),
    references: { measurements: { emulated: [registers] } },
    policy: (p) => Object.assign(p, { platforms: ["emulated"], simulatedRoot }),
  });
  equal((await judge(change(root))).verdict, "accepted");
  deepEqual((await judge(change("04".repeat(65)))).codes, ["chain/untrusted-root"]);
});

test("the empty policy accepts nothing, and says what it does not state", async () => {
  const report = await judge({
    policy: (p) => {
      for (const key of Object.keys(p)) if (key !== "version") delete p[key];
    },
  });
  deepEqual(report.codes, [
    "policy/tcb-evaluation-not-stated",
    "policy/platform-identity-not-stated",
    "app/id-not-stated",
    "app/compose-hash-not-stated",
    "app/instance-id-not-stated",
    "keys/key-provider-not-stated",
  ]);
});

test("evidence survives being written and read", async () => {
  const report = await judge({
    evidence: (e) =>
      Object.assign(e, readEvidenceDocument(JSON.parse(JSON.stringify(writeEvidenceDocument(e))))),
  });
  equal(report.verdict, "accepted");
});

test("every refusal names a document that demands its check", async () => {
  const report = await judge({ td: { tdAttributes: "0100001000000000", mrTd: ones }, events: [] });
  for (const check of report.checks) ok(check.source.length > 0);
  for (const check of report.checks.filter(({ outcome }) => outcome === "not-checked")) ok(check.reason);
});

test("TDX evidence is judged under Intel's root, also by a policy that names a simulated one", async () => {
  const h = hierarchy("acceptable", times);
  const { collateral, pckChain } = mint(h);
  const simulatedRoot = toHex(h.keys.root.publicKey);
  const policy = readPolicy({ ...fullPolicy(), platforms: ["tdx", "emulated"], simulatedRoot });
  const codes = async (platform: Evidence["platform"]) => {
    const evidence: Evidence = { platform, quote: issueQuote(h, pckChain, {}), collateral };
    return (await verifyEvidence(evidence, { policy, now })).codes;
  };
  deepEqual(await codes("tdx"), ["chain/untrusted-root"]);
  ok(!(await codes("emulated")).includes("chain/untrusted-root"));
});

test("an extended TD 1.5 report (body type 4) is judged as a TD 1.5 report", async () => {
  deepEqual((await judge({ format: "td15ex-v5" })).codes, []);
});
