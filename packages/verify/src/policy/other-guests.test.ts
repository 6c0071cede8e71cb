// SPDX-License-Identifier: Apache-2.0
/** Policies for what is not a Caisson guest: TDs without runtime events, enclaves, raw quotes; and rules of the platform. */
import { deepEqual, equal, match, throws } from "node:assert/strict";
import { test } from "node:test";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote, type TdSpec } from "@caisson/simulated/quotes";
import { toHex } from "@caisson/vocabulary/bytes";
import { parseQuote } from "../intel/quote.ts";
import { verifyEvidence } from "../verify.ts";
import { readPolicy } from "./policy.ts";
import type { ExpectedReportData } from "./report-data-rules.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const now = new Date("2026-06-01T00:00:00Z");
const [a, b] = ["a1".repeat(48), "b2".repeat(48)] as [string, string];
const zero = "00".repeat(48);
const reportData = `${"c3".repeat(32)}${"00".repeat(32)}`;
const registers = { mrtd: a, rtmr0: a, rtmr1: a, rtmr2: a };
const td: Partial<TdSpec> = { mrTd: a, rtmr0: a, rtmr1: a, rtmr2: a, rtmr3: zero, reportData };
const stated = {
  version: "caisson/policy/v1",
  tcb: { minimumEvaluationNumber: "any" },
  platformIdentities: "any",
  freshness: "any",
};
const plain = { ...stated, runtimeEvents: "none", references: [registers] };

interface Change {
  policy?: object;
  td?: Partial<TdSpec>;
  tee?: "tdx" | "sgx";
  quote?: (quote: Uint8Array) => void;
  expected?: ExpectedReportData;
}
const seed = (tee: "tdx" | "sgx") => hierarchy("other guests", times, tee);
const issued = (tee: "tdx" | "sgx", fields: Partial<TdSpec> = td) => {
  const h = seed(tee);
  return issueQuote(h, mint(h).pckChain, fields, tee === "sgx" ? "sgx-v3" : "td15-v5");
};

async function judge({ policy = plain, td: fields, tee = "tdx", expected }: Change) {
  const { collateral, trust } = mint(seed(tee));
  const quote = issued(tee, { ...td, ...fields });
  const report = await verifyEvidence(
    { platform: "tdx", quote },
    { policy: readPolicy(policy), now, trust, collateral, ...(expected && { expectedReportData: expected }) },
  );
  return { ...report, outcome: (id: string) => report.checks.find((check) => check.id === id)?.outcome };
}

test("a TD without runtime events is accepted, and what only events could say is open", async () => {
  const { codes, verdict, outcome } = await judge({});
  deepEqual([verdict, codes], ["accepted", []]);
  equal(outcome("registers/rtmr3"), "pass");
  for (const id of ["events/sequence", "app/id", "time/secure-time", "keys/key-provider"]) {
    equal(outcome(id), "not-checked", id);
  }
});

for (const [name, change, codes] of [
  ["another RTMR3 than zero", { td: { rtmr3: b } }, ["registers/rtmr3"]],
  [
    "another RTMR3 than the pinned one",
    { td: { rtmr3: b }, policy: { ...plain, registers: { rtmr3: [a] } } },
    ["registers/rtmr3"],
  ],
  [
    "an application that is named, which no event says",
    { policy: { ...plain, app: { id: ["00"] } } },
    ["app/id"],
  ],
  [
    "keys of a provider that is named",
    { policy: { ...plain, keyProviders: [{ name: "none", id: "" }] } },
    ["keys/malformed"],
  ],
  ["a time that is asked for", { policy: { ...plain, secureTime: {} } }, ["time/malformed"]],
  ["another register", { td: { rtmr1: b } }, ["registers/rtmr1", "registers/no-match"]],
  ["an enclave", { tee: "sgx" }, ["policy/tee"]],
  ["another kind of platform", { policy: { ...plain, fmspcs: ["00606a000000"] } }, ["policy/fmspc"]],
  [
    "another signer of the TDX module",
    { policy: { ...plain, td: { mrSignerSeam: [a] } } },
    ["td/mr-signer-seam"],
  ],
  [
    "a TDX module below the least",
    { policy: { ...plain, td: { minimumTeeTcbSvn: `0501ff${"00".repeat(13)}` } } },
    ["td/tee-tcb-svn"],
  ],
] as [string, Change, string[]][]) {
  test(`refused: ${name}`, async () => {
    const { verdict, codes: found } = await judge(change);
    deepEqual([verdict, found], ["rejected", codes]);
  });
}

test("a TDX module below the least is told what updates it", async () => {
  const policy = { ...plain, td: { minimumTeeTcbSvn: `0501ff${"00".repeat(13)}` } };
  const { checks } = await judge({ policy });
  match(
    checks.find(({ code }) => code === "td/tee-tcb-svn")?.reason ?? "",
    /TDX component 2( \([^)]+\))? is \d+, needs 255: (presumably )?update the host's microcode package/,
  );
});

test("collateral older than the policy's least number, and nothing else, is not a word on the machine", async () => {
  const policy = { ...plain, tcb: { minimumEvaluationNumber: 999_999 } };
  const old = await judge({ policy });
  deepEqual([old.verdict, old.codes], ["undetermined", ["policy/tcb-evaluation"]]);
  const also = await judge({ policy: { ...policy, fmspcs: ["00606a000000"] } });
  equal(also.verdict, "rejected");
});

for (const [name, change] of [
  ["a pinned RTMR3", { td: { rtmr3: b }, policy: { ...plain, registers: { rtmr3: [a, b] } } }],
  ["any RTMR3", { td: { rtmr3: b }, policy: { ...plain, registers: { rtmr3: "any" } } }],
  [
    "the kind of platform",
    { policy: { ...plain, fmspcs: [mint(seed("tdx")).collateral.tcb_info.match(/"fmspc":"(\w+)"/)![1]] } },
  ],
  [
    "the TDX module's signer and version",
    { policy: { ...plain, td: { mrSignerSeam: [zero], minimumTeeTcbSvn: `0401${"00".repeat(14)}` } } },
  ],
] as [string, Change][]) {
  test(`accepted: ${name}`, async () => deepEqual((await judge(change)).codes, []));
}

// A raw quote says no scheme: its report data is what it is.
const fresh = { ...plain, freshness: "nonce" };
const raw = (data: string): ExpectedReportData => ({
  scheme: "raw",
  fields: { data: new Uint8Array(Buffer.from(data, "hex")) },
});
for (const [name, expected, codes] of [
  ["the whole report data", raw(reportData), []],
  ["its nonce, zeros behind it", raw("c3".repeat(32)), []],
  ["another nonce", raw("c4".repeat(32)), ["report-data/nonce"]],
  ["a part of the nonce", raw("c3".repeat(31)), ["report-data/nonce"]],
  ["no nonce", undefined, ["report-data/missing", "report-data/no-nonce"]],
  [
    "a Caisson application's nonce",
    { scheme: "caisson/app/v1", fields: { nonce: new Uint8Array(32) } },
    ["report-data/missing", "report-data/scheme"],
  ],
] as [string, ExpectedReportData | undefined, string[]][]) {
  test(`a raw quote and ${name}: ${codes.join(", ") || "accepted"}`, async () => {
    deepEqual((await judge({ policy: fresh, ...(expected && { expected }) })).codes, codes);
  });
}

const { report: enclave } = parseQuote(issued("sgx")).body as {
  report: { mrEnclave: Uint8Array; mrSigner: Uint8Array; isvProdId: number; isvSvn: number };
};
const [mrEnclave, mrSigner] = [[toHex(enclave.mrEnclave)], [toHex(enclave.mrSigner)]];
const { isvProdId, isvSvn: minimumIsvSvn } = enclave;
const other = ["ff".repeat(32)];
for (const [name, sgx, codes] of [
  ["its MRENCLAVE", { mrEnclave }, []],
  ["its signer, product and version", { mrSigner, isvProdId, minimumIsvSvn }, []],
  ["all of it", { mrEnclave, mrSigner, isvProdId, minimumIsvSvn }, []],
  ["another MRENCLAVE", { mrEnclave: other }, ["sgx/enclave"]],
  ["another signer", { mrSigner: other, isvProdId, minimumIsvSvn }, ["sgx/signer"]],
  ["another product", { mrSigner, isvProdId: isvProdId + 1, minimumIsvSvn }, ["sgx/product"]],
  ["a later version", { mrSigner, isvProdId, minimumIsvSvn: minimumIsvSvn + 1 }, ["sgx/version"]],
  ["its MRENCLAVE, and another signer", { mrEnclave, mrSigner: other }, ["sgx/signer"]],
  ["a signer alone", { mrSigner }, ["sgx/enclave-not-stated"]],
  ["nothing", {}, ["sgx/enclave-not-stated"]],
] as [string, object, string[]][]) {
  test(`an enclave under a policy that names ${name}: ${codes.join(", ") || "accepted"}`, async () => {
    const report = await judge({ tee: "sgx", policy: { ...stated, sgx } });
    deepEqual(report.codes, codes);
    equal(
      report.checks.some(({ id }) => id.startsWith("td/") || id.startsWith("registers/")),
      false,
    );
  });
}

test("a TD under a policy for enclaves is refused", async () => {
  deepEqual((await judge({ policy: { ...stated, sgx: { mrEnclave } } })).codes, ["policy/tee"]);
});

for (const [name, policy] of [
  ["RTMR3 pinned beside events", { ...stated, registers: { rtmr3: [a] } }],
  ["a sequence of events where there are none", { ...plain, events: { sequence: ["x"] } }],
  ["rules for a TD beside those for an enclave", { ...stated, sgx: {}, td: {} }],
  ["no events, for an enclave", { ...stated, sgx: {}, runtimeEvents: "none" }],
] as const) {
  test(`malformed policy: ${name}`, () => throws(() => readPolicy(policy), { code: "policy/malformed" }));
}
