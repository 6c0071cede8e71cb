// SPDX-License-Identifier: Apache-2.0
/** Three answers: genuine, not genuine, and that nobody can tell from this collateral. */
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { hierarchy, mint } from "@caisson/simulated/pki";
import type { Collateral } from "./intel/collateral.ts";
import type { Report } from "./report.ts";
import { buildEvidence, type RefusalCase, times } from "./testing/evidence.ts";
import { expectedVerdict } from "./testing/expected-verdict.ts";
import { refusals } from "./testing/refusals.ts";
import { buildSnp, snpRefusals } from "./testing/snp-refusals.ts";
import { verifyGenuine } from "./verify.ts";

async function judge(
  change: Omit<RefusalCase, "name" | "code">,
  collateral?: (own: Collateral) => Collateral | undefined,
): Promise<Report> {
  const { quote, collateral: own, now, trust } = buildEvidence(change);
  const given = collateral === undefined ? own : collateral(own);
  return verifyGenuine({ platform: "tdx", quote }, { now, trust, ...(given && { collateral: given }) });
}

const other = mint(hierarchy("another root", times)).collateral;
const undetermined: [name: string, code: string, Promise<Report>][] = [
  ["no collateral", "collateral/missing", judge({}, () => undefined)],
  [
    "collateral without a part",
    "collateral/malformed",
    judge({}, ({ pck_crl: _, ...rest }) => rest as Collateral),
  ],
  ["a CRL that is cut", "der/malformed", judge({}, (own) => ({ ...own, pck_crl: own.pck_crl.slice(0, -2) }))],
  [
    "a chain that is not one",
    "pem/malformed",
    judge({}, (own) => ({ ...own, tcb_info_issuer_chain: "-----BEGIN CERTIFICATE-----x" })),
  ],
  [
    "a changed TCB info",
    "tcb-info/signature",
    judge({}, (own) => ({ ...own, tcb_info: `${own.tcb_info} ` })),
  ],
  [
    "expired collateral",
    "tcb-info/expired",
    judge({ before: (h) => void (h.tcbInfo.nextUpdate = "2026-02-01T00:00:00Z") }),
  ],
  ["collateral under another root", "chain/untrusted-root", judge({}, () => other)],
  [
    "another platform's TCB info",
    "tcb-info/fmspc",
    judge({ before: (h) => void (h.tcbInfo.fmspc = "00606a000000") }),
  ],
  ["SGX's collateral", "tcb-info/tee", judge({}, () => mint(hierarchy("refusals", times, "sgx")).collateral)],
];
for (const [name, code, report] of undetermined) {
  test(`cannot tell: ${name}`, async () => {
    const { verdict, codes } = await report;
    deepEqual([verdict, codes], ["undetermined", [code]]);
  });
}

const flipped = (at: number) => (bytes: Uint8Array) => {
  const copy = bytes.slice();
  copy[at]! ^= 1;
  return copy;
};
/** Where the signature data of a quote of version 5 with a TD 1.5 begins. */
const signatureData = 48 + 6 + 648 + 4;
/** Nothing vouches for these, and something is wrong with them all the same: whatever would vouch for them. */
const flaws: [name: string, code: string, change: Omit<RefusalCase, "name" | "code">][] = [
  ["a changed body", "quote/signature", { quote: flipped(600) }],
  ["another attestation key", "qe/report-data", { quote: flipped(signatureData + 64) }],
  ["a QE report that was changed", "qe/signature", { quote: flipped(signatureData + 128 + 6 + 64) }],
  [
    "certificates under another root",
    "chain/untrusted-root",
    { chain: () => mint(hierarchy("another root", times)).pckChain },
  ],
];
/** One check has one refusal: that of the quote's own certificates stands for that of another's. */
const vagueOf = (one: string, code: string) =>
  one === code || one !== "chain/untrusted-root" || !code.startsWith("chain/");
const vagueness: [name: string, codes: string[], collateral: (own: Collateral) => Collateral | undefined][] =
  [
    ["no collateral", ["collateral/missing"], () => undefined],
    ["a list that is cut", ["der/malformed"], (own) => ({ ...own, pck_crl: own.pck_crl.slice(0, -2) })],
    ["another's collateral", ["chain/untrusted-root"], () => other],
  ];
for (const [flaw, code, change] of flaws) {
  for (const [vague, codes, collateral] of vagueness) {
    test(`what is certain wins: ${flaw} beside ${vague}`, async () => {
      const { verdict, codes: found } = await judge(change, collateral);
      equal(verdict, "rejected");
      deepEqual([...found].sort(), [...new Set([...codes, code])].filter((one) => vagueOf(one, code)).sort());
    });
  }
}
test("what is certain wins: not on a day on which certificates have expired, which is not a forgery", async () => {
  const { quote, collateral, trust } = buildEvidence({});
  const late = new Date(times.expires.getTime() + 365 * 86_400_000);
  const judged = async (bytes: Uint8Array) =>
    verifyGenuine({ platform: "tdx", quote: bytes }, { now: late, trust, collateral });
  equal((await judged(quote)).verdict, "undetermined");
  const changed = await judged(flipped(600)(quote));
  deepEqual([changed.verdict, changed.codes], ["rejected", ["chain/expired", "quote/signature"]]);
});

const rejected: [name: string, code: string, Promise<Report>][] = [
  [
    "quote and collateral under another root",
    "chain/untrusted-root",
    judge({ chain: () => mint(hierarchy("another root", times)).pckChain }, () => other),
  ],
  ["a changed quote", "quote/signature", judge({ quote: flipped(600) })],
  [
    "what is not a quote, whatever the collateral",
    "quote/version",
    judge({ quote: () => new Uint8Array(1000) }, () => undefined),
  ],
  [
    "a chain under another root",
    "chain/untrusted-root",
    judge({ chain: () => mint(hierarchy("another root", times)).pckChain }),
  ],
  [
    "a revoked PCK CA",
    "certificate/revoked",
    judge({ before: (h) => h.rootCrl.revoked.push(h.pckCa.serial) }),
  ],
  [
    "a revoked platform",
    "certificate/revoked",
    judge({ before: (h) => h.pckCrl.revoked.push(h.pck.serial) }),
  ],
];
for (const [name, code, report] of rejected) {
  test(`not genuine: ${name}`, async () => {
    const { verdict, codes } = await report;
    deepEqual([verdict, codes], ["rejected", [code]]);
  });
}

test("every refusal of a quote has the answer that its cause asks for", async () => {
  const wrong: string[] = [];
  for (const refusal of refusals) {
    const { verdict, codes } = await judge(refusal);
    deepEqual(codes, [refusal.code], refusal.name);
    if (verdict !== expectedVerdict(refusal.code, refusal.name)) {
      wrong.push(`${verdict}: ${refusal.code}: ${refusal.name}`);
    }
  }
  deepEqual(wrong, []);
});

test("every refusal of a SEV-SNP report has the answer that its cause asks for", async () => {
  const wrong: string[] = [];
  for (const refusal of snpRefusals) {
    const { report, collateral: amdCollateral, now, roots: amdRoots } = buildSnp(refusal);
    const evidence = { platform: "snp", report } as const;
    const { verdict } = await verifyGenuine(evidence, { now, amdRoots, amdCollateral });
    if (verdict !== expectedVerdict(refusal.code, refusal.name)) {
      wrong.push(`${verdict}: ${refusal.code}: ${refusal.name}`);
    }
  }
  deepEqual(wrong, []);
});

test("what should be zero in a report: changed by somebody it is forged, signed by AMD's key nobody can tell", async () => {
  const { report, collateral: amdCollateral, now, roots: amdRoots } = buildSnp({});
  const changed = await verifyGenuine(
    { platform: "snp", report: report.with(0x4c, 1) },
    { now, amdRoots, amdCollateral },
  );
  deepEqual([changed.verdict, changed.codes], ["rejected", ["snp/signature"]]);
  const signed = buildSnp({ before: (h) => void (h.report.policy |= 1n << 30n) });
  const { verdict, codes } = await verifyGenuine(
    { platform: "snp", report: signed.report },
    { now: signed.now, amdRoots: signed.roots, amdCollateral: signed.collateral },
  );
  deepEqual([verdict, codes], ["undetermined", ["snp/reserved"]]);
});

test("genuine: the unchanged quote", async () => equal((await judge({})).verdict, "accepted"));
