// SPDX-License-Identifier: Apache-2.0
/** Two sets of collateral, the verifier's and the evidence's: which of them a quote and a report are judged with. */
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { amdHierarchy, issueReport, mintAmd } from "@caisson/simulated/amd-pki";
import { type Hierarchy, hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { verifyGenuine } from "../verify.ts";
import { type Collateral, verifyCollateral } from "./collateral.ts";

const day = 86_400_000;
const start = Date.parse("2026-06-01T00:00:00Z");
const at = (days: number) => new Date(start + days * day);
/** Root and certificates live for a year; documents and lists of a day live for thirty. */
function madeOn(days: number, change: (h: Hierarchy) => void = () => {}) {
  const h = hierarchy("fresher", { issued: at(-100), expires: at(265) });
  const [issued, until] = [at(days), at(days + 30)];
  const iso = (date: Date) => `${date.toISOString().slice(0, 19)}Z`;
  for (const document of [h.tcbInfo, h.qeIdentity]) {
    Object.assign(document, { issueDate: iso(issued), nextUpdate: iso(until) });
  }
  for (const list of [h.rootCrl, h.pckCrl]) Object.assign(list, { thisUpdate: issued, nextUpdate: until });
  change(h);
  return mint(h);
}
const first = madeOn(0);
const { trust } = first;
const quote = issueQuote(hierarchy("fresher", { issued: at(-100), expires: at(265) }), first.pckChain);
const newer = "the evidence's, which is newer than the verifier's own";

async function judge(own: Collateral | undefined, brought: Collateral | undefined, days: number) {
  const evidence = { platform: "tdx" as const, quote, ...(brought && { collateral: brought }) };
  const { verdict, codes, checks } = await verifyGenuine(evidence, {
    now: at(days),
    trust,
    ...(own && { collateral: own }),
  });
  const used = checks.find(({ id }) => id === "collateral/format")?.actual;
  return [verdict, codes.join(), used === newer ? "evidence's" : "own"];
}
const later = madeOn(20).collateral;
const own = first.collateral;

test("the verifier's has expired, the evidence's is newer and valid", async () => {
  deepEqual(await judge(own, undefined, 35), ["undetermined", "crl/expired", "own"]);
  deepEqual(await judge(own, later, 35), ["accepted", "", "evidence's"]);
});

test("both are valid: the newer one; of equals the verifier's", async () => {
  deepEqual(await judge(own, later, 25), ["accepted", "", "evidence's"]);
  deepEqual(await judge(later, own, 25), ["accepted", "", "own"]);
  deepEqual(await judge(own, own, 25), ["accepted", "", "own"]);
});

test("newer collateral that says that the platform is bad counts", async () => {
  const revoked = madeOn(20, (h) => h.pckCrl.revoked.push(h.pck.serial)).collateral;
  deepEqual((await judge(own, revoked, 25)).slice(0, 2), ["rejected", "certificate/revoked"]);
});

test("an older one never goes first, however much longer it is valid, and an expired one never", async () => {
  const long = madeOn(-10, (h) => {
    for (const document of [h.tcbInfo, h.qeIdentity]) document.nextUpdate = "2026-12-01T00:00:00Z";
    for (const list of [h.rootCrl, h.pckCrl]) list.nextUpdate = at(180);
  }).collateral;
  deepEqual(await judge(own, long, 35), ["undetermined", "crl/expired", "own"]);
  deepEqual(await judge(own, later, 55), ["undetermined", "crl/expired", "own"]);
});

/** Every part by itself from before the verifier's, beside a newer rest: what a host would do to hide a revocation. */
const parts: [string, (h: Hierarchy) => void][] = [
  ["the TCB info", (h) => void (h.tcbInfo.issueDate = "2026-05-20T00:00:00Z")],
  ["the QE identity", (h) => void (h.qeIdentity.issueDate = "2026-05-20T00:00:00Z")],
  ["the root's list", (h) => void (h.rootCrl.thisUpdate = at(-12))],
  ["the list of PCK certificates", (h) => void (h.pckCrl.thisUpdate = at(-12))],
  ["the number of the TCB info", (h) => void (h.tcbInfo.tcbEvaluationDataNumber = 17)],
  ["the number of the QE identity", (h) => void (h.qeIdentity.tcbEvaluationDataNumber = 17)],
  ["another platform's", (h) => void (h.tcbInfo.fmspc = "00606a000000")],
];
for (const [name, change] of parts) {
  test(`${name} is older, all else newer: the verifier's own, expired or not`, async () => {
    const mixed = madeOn(20, change).collateral;
    deepEqual(await judge(own, mixed, 25), ["accepted", "", "own"]);
    deepEqual(await judge(own, mixed, 35), ["undetermined", "crl/expired", "own"]);
  });
}

test("what does not verify, or cannot be read, is left aside", async () => {
  const wrong: Collateral[] = [
    { ...later, tcb_info_signature: own.tcb_info_signature },
    { ...later, pck_crl: `${later.pck_crl.slice(0, -2)}00` },
    { ...later, tcb_info: "{" },
    { ...later, tcb_info: "{}" },
    { ...later, qe_identity: '{"issueDate":1}' },
    { ...later, root_ca_crl: "00" },
  ];
  const stranger = mint(hierarchy("stranger", { issued: at(20), expires: at(50) })).collateral;
  for (const brought of [...wrong, stranger]) {
    deepEqual(await judge(own, brought, 25), ["accepted", "", "own"]);
    deepEqual(await judge(own, brought, 35), ["undetermined", "crl/expired", "own"]);
  }
});

test("verified collateral is its keeper's, and stays", async () => {
  const kept = await verifyCollateral(own, at(1), trust);
  const evidence = { platform: "tdx" as const, quote, collateral: later };
  const { codes } = await verifyGenuine(evidence, { now: at(35), trust, collateral: kept });
  deepEqual(codes, ["crl/expired"]);
});

test("AMD's list: the evidence's in place of an expired one, if it is not from before it", async () => {
  const h = amdHierarchy("Genoa", { issued: at(-100), expires: at(265) });
  const listOf = (from: number, until: number) => {
    Object.assign(h.crl, { thisUpdate: at(from), nextUpdate: at(until) });
    return mintAmd(h).collateral;
  };
  const [old, fresh, older] = [listOf(0, 30), listOf(20, 50), listOf(-1, 100)];
  const { roots } = mintAmd(h);
  const report = issueReport(h);
  const judgeSnp = async (collateral: typeof old, days: number) => {
    const evidence = { platform: "snp" as const, report, collateral };
    return (
      await verifyGenuine(evidence, { now: at(days), amdCollateral: old, amdRoots: roots })
    ).codes.join();
  };
  equal(await judgeSnp(fresh, 35), "");
  equal(await judgeSnp(older, 35), "crl/expired");
  equal(await judgeSnp({ ...fresh, crl: fresh.crl.with(-1, fresh.crl.at(-1)! ^ 1) }, 25), "");
  equal(await judgeSnp({ ...fresh, crl: fresh.crl.with(-1, fresh.crl.at(-1)! ^ 1) }, 35), "crl/signature");
  equal(await judgeSnp({ ...fresh, crl: new Uint8Array([1]) }, 35), "crl/expired");
});
