// SPDX-License-Identifier: Apache-2.0
/** A policy from evidence accepts that evidence and no other, and can be explained. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { fold, runtimeEventDigest } from "@caisson/measure";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote, type TdSpec } from "@caisson/simulated/quotes";
import { toHex } from "@caisson/vocabulary/bytes";
import { bootEvents } from "@caisson/vocabulary/events";
import type { Evidence } from "../evidence/evidence.ts";
import { verifyQuote } from "../intel/genuine.ts";
import { verifyEvidence } from "../verify.ts";
import { explainPolicy } from "./policy-explain.ts";
import { policyFrom } from "./policy-from.ts";
import { readPolicyText } from "./policy-text.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const now = new Date("2026-06-01T00:00:00Z");
const nonce = new Uint8Array(32).fill(7);
const reportData = `${toHex(nonce)}${"00".repeat(32)}`;
const td = {
  mrTd: "a1".repeat(48),
  rtmr0: "a2".repeat(48),
  rtmr1: "a3".repeat(48),
  rtmr2: "a4".repeat(48),
  reportData,
};

const h = hierarchy("policy from", times);
const { collateral, pckChain, trust } = mint(h);
const quoteOf = (fields: Partial<TdSpec>) => issueQuote(h, pckChain, { ...td, ...fields }, "td15-v5");

async function withEvents(names: readonly string[]): Promise<Evidence> {
  const runtimeEvents = names.map((name) => ({ name, payload: new Uint8Array(20).fill(name.length) }));
  const rtmr3 = await fold(
    await Promise.all(runtimeEvents.map(({ name, payload }) => runtimeEventDigest(name, payload))),
  );
  return { platform: "tdx", quote: quoteOf({ rtmr3: toHex(rtmr3) }), runtimeEvents };
}

async function judge(text: string, evidence: Evidence, sgx = false) {
  const own = sgx ? mint(hierarchy("policy from", times, "sgx")) : { collateral, trust };
  const expectedReportData = { scheme: "raw", fields: { data: nonce } } as const;
  return verifyEvidence(evidence, { policy: readPolicyText(text, "p"), now, ...own, expectedReportData });
}

const cases: [name: string, Promise<Evidence> | Evidence][] = [
  ["a TD without events", { platform: "tdx", quote: quoteOf({}) }],
  [
    "a TD that measured something of its own",
    { platform: "tdx", quote: quoteOf({ rtmr3: "a5".repeat(48) }) },
  ],
  [
    "a TD with an owner and a configuration",
    { platform: "tdx", quote: quoteOf({ mrOwner: "01".repeat(48), mrConfigId: "02".repeat(48) }) },
  ],
  ["a TD with a service TD", { platform: "tdx", quote: quoteOf({ mrServiceTd: "03".repeat(48) }) }],
  ["a guest with events of its own", withEvents(["app-id", "compose-hash", "custom", "boot-mr-done"])],
  ["a TD 1.0", { platform: "tdx", quote: issueQuote(h, pckChain, td, "td10-v4") }],
];
for (const [name, pending] of cases) {
  for (const verified of [true, false]) {
    test(`${name}, ${verified ? "with" : "without"} collateral: its policy accepts it, and no other`, async () => {
      const evidence = await pending;
      const genuine = verified ? await verifyQuote(evidence.quote, collateral, now, trust) : undefined;
      const text = policyFrom(evidence, genuine);
      const report = await judge(text, evidence);
      deepEqual([report.verdict, report.codes], ["accepted", []]);
      const other = quoteOf({ rtmr1: "ff".repeat(48) });
      equal((await judge(text, { platform: "tdx", quote: other })).verdict, "rejected");
      equal(
        explainPolicy(readPolicyText(text, "p")).some(({ state }) => state === "missing"),
        false,
      );
      // Every rule but lists of registers stands under a comment.
      ok(text.split("\n").filter((line) => line.trim().startsWith("#")).length > 10);
    });
  }
}

test("an enclave: by MRENCLAVE and signer", async () => {
  const sgx = hierarchy("policy from", times, "sgx");
  const evidence: Evidence = {
    platform: "tdx",
    quote: issueQuote(sgx, mint(sgx).pckChain, { reportData }, "sgx-v3"),
  };
  const text = policyFrom(evidence, undefined);
  const report = await judge(text, evidence, true);
  deepEqual([report.verdict, report.codes], ["accepted", []]);
});

test("a Caisson guest's events need no sequence of their own", async () => {
  const text = policyFrom(await withEvents(bootEvents), undefined);
  equal(text.includes("sequence:"), false);
  ok(text.includes(`id: ["${"06".repeat(20)}"]`));
});

test("explaining tells what is stated, held by default, open, or missing", () => {
  const policy = "version: caisson/policy/v1\nplatformIdentities: any\ntcb: { statuses: [OutOfDate] }\n";
  const states = Object.fromEntries(
    explainPolicy(readPolicyText(policy, "p")).map(({ name, state }) => [name, state]),
  );
  deepEqual(
    [states["tcb.statuses"], states.platformIdentities, states.platforms, states["app.id"], states.fmspcs],
    ["stated", "open", "default", "missing", "open"],
  );
});
