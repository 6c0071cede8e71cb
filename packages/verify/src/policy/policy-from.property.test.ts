// SPDX-License-Identifier: Apache-2.0
/**
 * A policy made of evidence accepts that evidence, and refuses it with any one field changed: for every kind of evidence, with
 * right signatures over what is wrong. What may change by design is named (Nitro's are in `aws/genuine.test.ts`).
 */
import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import test from "node:test";
import { type AmdHierarchy, amdHierarchy, issueReport, mintAmd } from "@caisson/simulated/amd-pki";
import { hierarchy, type Minted, mint, sgxExtension } from "@caisson/simulated/pki";
import { issueQuote, type TdSpec } from "@caisson/simulated/quotes";
import fc from "fast-check";
import { verifyReport } from "../amd/genuine.ts";
import type { AnyEvidence } from "../evidence/evidence.ts";
import { verifyQuote } from "../intel/genuine.ts";
import { type Judgement, verifyEvidence } from "../verify.ts";
import { explainPolicy } from "./policy-explain.ts";
import { policyFrom } from "./policy-from.ts";
import { readPolicyText } from "./policy-text.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const now = new Date("2026-06-01T00:00:00Z");
const nonce = "07".repeat(64);
const expectedReportData = { scheme: "raw", fields: { data: Uint8Array.fromHex(nonce) } } as const;

const judge = async (text: string, evidence: AnyEvidence, judgement: Partial<Judgement>) =>
  (
    await verifyEvidence(evidence, {
      policy: readPolicyText(text, "p"),
      now,
      expectedReportData,
      ...judgement,
    })
  ).codes;

/** A policy has an answer for each of its rules, and pins something where it can. */
function explained(text: string): void {
  const rules = explainPolicy(readPolicyText(text, "p"));
  deepEqual(
    rules.filter(({ state }) => state === "missing"),
    [],
  );
  ok(rules.some(({ state }) => state === "stated"));
}

const PIID = "3b".repeat(16);
function platform(change: Partial<{ ppid: string; piid: string; fmspc: string }> = {}) {
  const h = hierarchy("policy property", times);
  const spec = {
    ppid: "1a".repeat(16),
    sgxSvns: Array<number>(16).fill(5),
    pceSvn: 13,
    pceId: "0000",
    fmspc: "ca1550000000",
    piid: PIID,
    ...change,
  };
  const extension = h.pck.extensions.find(({ oid }) => oid === "1.2.840.113741.1.13.1")!;
  extension.value = sgxExtension(spec);
  h.tcbInfo.fmspc = spec.fmspc.toUpperCase();
  return { h, ...mint(h) };
}
const tdx = platform();
const td: Partial<TdSpec> = {
  mrTd: "a1".repeat(48),
  rtmr0: "a2".repeat(48),
  rtmr1: "a3".repeat(48),
  rtmr2: "a4".repeat(48),
  rtmr3: "a5".repeat(48),
  mrConfigId: "a6".repeat(48),
  mrOwner: "a7".repeat(48),
  mrOwnerConfig: "a8".repeat(48),
  mrServiceTd: "a9".repeat(48),
  reportData: nonce,
};
const quoteOf = (made: ReturnType<typeof platform>, fields: Partial<TdSpec> = {}): AnyEvidence => ({
  platform: "tdx",
  quote: issueQuote(made.h, made.pckChain, { ...td, ...fields }, "td15-v5"),
});
const judgeTd = (text: string, evidence: AnyEvidence, { collateral, trust }: Minted = tdx) =>
  judge(text, evidence, { collateral, trust });

/** Hexadecimal with one bit of one byte changed. */
const flipped = (hex: string, bit: number): string => {
  const bytes = Uint8Array.fromHex(hex);
  bytes[(bit >> 3) % bytes.length]! ^= 1 << (bit & 7);
  return bytes.toHex();
};
const pinnedOfTd = [
  "mrTd",
  "rtmr0",
  "rtmr1",
  "rtmr2",
  "rtmr3",
  "mrConfigId",
  "mrOwner",
  "mrOwnerConfig",
  "mrServiceTd",
  "reportData",
] as const;

for (const verified of [true, false]) {
  test(`a TD's, ${verified ? "with" : "without"} collateral: any bit of any register and identity`, async () => {
    const evidence = quoteOf(tdx);
    if (evidence.platform !== "tdx") throw new Error("not a quote");
    const genuine = verified ? await verifyQuote(evidence.quote, tdx.collateral, now, tdx.trust) : undefined;
    const text = policyFrom(evidence, genuine);
    deepEqual(await judgeTd(text, evidence), []);
    explained(text);
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...pinnedOfTd), fc.nat(383), async (name, bit) => {
        const codes = await judgeTd(text, quoteOf(tdx, { [name]: flipped(td[name]!, bit) }));
        notEqual(codes.length, 0, name);
      }),
      { numRuns: 60 },
    );
    // Attributes and extended features as a whole; of the module its signer and least version, so that a newer one is right.
    for (const change of [
      { tdAttributes: "0000005000000000" },
      { xfam: "e702000000000000" },
      { mrSignerSeam: "01".repeat(48) },
      { teeTcbSvn: `050102${"00".repeat(13)}` },
    ]) {
      notEqual((await judgeTd(text, quoteOf(tdx, change))).length, 0, JSON.stringify(change));
    }
  });
}

test("a TD's on another machine, another registration of it, another kind of platform", async () => {
  const text = policyFrom(quoteOf(tdx), undefined);
  for (const [change, codes] of [
    [{ ppid: "1b".repeat(16) }, ["policy/platform-identity"]],
    [{ piid: "3c".repeat(16) }, ["policy/platform-instance"]],
    [{ piid: undefined }, ["policy/platform-instance"]],
    [{ fmspc: "b0c06f000000" }, ["policy/fmspc"]],
  ] as const) {
    const other = platform(change as object);
    deepEqual(await judgeTd(text, quoteOf(other), other), codes);
  }
  const without = text
    .split("\n")
    .filter((line) => !/platformInstances/.test(line))
    .join("\n");
  const other = platform({ piid: "3c".repeat(16) });
  deepEqual(await judgeTd(without, quoteOf(other), other), []);
});

test("an enclave's", async () => {
  const h = hierarchy("policy property", times, "sgx");
  const made = mint(h);
  const enclave = (fields: Partial<TdSpec> = {}): AnyEvidence => ({
    platform: "tdx",
    quote: issueQuote(h, made.pckChain, { ...td, ...fields }, "sgx-v3"),
  });
  const text = policyFrom(enclave(), undefined);
  deepEqual(await judgeTd(text, enclave(), made), []);
  explained(text);
  deepEqual(await judgeTd(text, enclave({ reportData: "08".repeat(64) }), made), ["report-data/nonce"]);
});

/** A SEV-SNP guest in which everything is set that can be. */
function snp(change: (h: AmdHierarchy) => void = () => {}) {
  const h = amdHierarchy("Genoa", times);
  Object.assign(h.report, {
    version: 5,
    guestSvn: 7,
    familyId: "f1".repeat(16),
    imageId: "f2".repeat(16),
    hostData: "f3".repeat(32),
    idKeyDigest: "f4".repeat(48),
    authorKeyDigest: "f5".repeat(48),
    policy: 0x30000n | (1n << 20n),
    keyInfo: 1,
    reportData: nonce,
    platformInfo: 0x25n,
  });
  change(h);
  const { roots, collateral } = mintAmd(h);
  const evidence: AnyEvidence = { platform: "snp", report: issueReport(h), collateral };
  return { evidence, roots };
}
const judgeSnp = (text: string, { evidence, roots }: ReturnType<typeof snp>) =>
  judge(text, evidence, { amdRoots: roots });

for (const verified of [true, false]) {
  test(`a SEV-SNP guest's, ${verified ? "with" : "without"} collateral`, async () => {
    const made = snp();
    const { evidence, roots } = made;
    if (evidence.platform !== "snp") throw new Error("not a report");
    const genuine = verified
      ? await verifyReport(evidence.report, evidence.collateral!, now, { roots })
      : undefined;
    const text = policyFrom(evidence, genuine);
    deepEqual(await judgeSnp(text, made), []);
    explained(text);
    const changes: [name: string, change: (h: AmdHierarchy) => void][] = [
      ...(
        [
          "measurement",
          "hostData",
          "idKeyDigest",
          "authorKeyDigest",
          "familyId",
          "imageId",
          "reportData",
        ] as const
      ).map((name): [string, (h: AmdHierarchy) => void] => [
        name,
        (h) => (h.report[name] = flipped(h.report[name], 9)),
      ]),
      ["no ID block", (h) => (h.report.idKeyDigest = "00".repeat(48))],
      ["an older guest", (h) => (h.report.guestSvn = 6)],
      ["another privilege level", (h) => (h.report.vmpl = 1)],
      ["a migration agent", (h) => (h.report.policy |= 1n << 18n)],
      ["no single socket", (h) => (h.report.policy &= ~(1n << 20n))],
      ["debugging", (h) => (h.report.policy |= 1n << 19n)],
      ["aliases unchecked", (h) => (h.report.platformInfo = 0x05n)],
      ["an older committed TCB", (h) => (h.report.committedTcb = h.report.committedTcb.with(7, 218))],
      ["an older launch TCB", (h) => (h.report.launchTcb = h.report.launchTcb.with(6, 23))],
    ];
    for (const [name, change] of changes) notEqual((await judgeSnp(text, snp(change))).length, 0, name);
    // Another chip has a certificate of its own.
    const other = "ab".repeat(64);
    const codes = await judgeSnp(
      text,
      snp((h) => {
        h.report.chipId = other;
        h.endorsement.extensions.find(({ oid }) => oid.endsWith(".3704.1.4"))!.value =
          Uint8Array.fromHex(other);
      }),
    );
    deepEqual(codes, ["snp/chip"]);
  });
}

test("a SEV-SNP guest's without an ID block: one with a block is another", async () => {
  const plain = (h: AmdHierarchy) => {
    Object.assign(h.report, { idKeyDigest: "00".repeat(48), authorKeyDigest: "00".repeat(48), keyInfo: 0 });
  };
  const made = snp(plain);
  const text = policyFrom(made.evidence, undefined);
  deepEqual(await judgeSnp(text, made), []);
  deepEqual(
    await judgeSnp(
      text,
      snp((h) => {
        plain(h);
        h.report.idKeyDigest = "f4".repeat(48);
      }),
    ),
    ["snp/id-key"],
  );
  equal(text.includes(`idKeys: ["${"00".repeat(48)}"]`), true);
});
