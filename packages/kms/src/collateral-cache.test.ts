// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notEqual, rejects } from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { type Collateral, intelRoot, readEvidenceDocument } from "@caisson/verify";
import { CollateralCache, loadCollateral } from "./collateral-cache.ts";
import { Machine } from "./testing/machine.ts";

const now = Date.parse("2026-06-01T12:00:00Z");
const at = new Date(now);
const machine = new Machine(now);
const trust = { name: "simulated root", rootKey: Uint8Array.fromHex(machine.root) };
const state = machine.booted("00".repeat(32));
const evidence = readEvidenceDocument(await machine.evidence(state, new Uint8Array(64)));
const { collateral: brought, ...bare } = evidence;

/** The machine's collateral, issued a second time with another evaluation number. */
function reissued(number: number): Collateral {
  const other = new Machine(now);
  other.hierarchy.tcbInfo.tcbEvaluationDataNumber = number;
  other.remint();
  return other.booted("00".repeat(32)).collateral!;
}

function directory(t: TestContext, files: Record<string, string>): string {
  const path = mkdtempSync(join(tmpdir(), "caisson-kms-collateral-"));
  t.after(() => rmSync(path, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
  return path;
}

const numberOf = async (cache: CollateralCache, which = evidence) =>
  (await cache.find(which, trust, at))?.at(now, trust).tcbInfo.tcbEvaluationDataNumber;

test("what the evidence brings is verified once and used again", async () => {
  const cache = new CollateralCache();
  const first = await cache.find(evidence, trust, at);
  equal(await cache.find(structuredClone(evidence), trust, at), first);
  equal(await new CollateralCache().find(bare, trust, at), undefined);
});

test("own collateral for the platform goes before what the evidence brings", async (t) => {
  const files = { "platform.json": JSON.stringify(reissued(19)), "README.md": "" };
  const own = await loadCollateral(directory(t, files), [intelRoot, trust], at, false);
  deepEqual([...own.keys()], [`${machine.root} ca1550000000`]);
  equal(
    new CollateralCache(own).validUntil,
    (await new CollateralCache().find(evidence, trust, at))?.validUntil,
  );
  equal(await numberOf(new CollateralCache()), 18);
  equal(await numberOf(new CollateralCache(own)), 19);
  equal(await numberOf(new CollateralCache(own), bare), 19);
});

test("own collateral for another platform, or under another root, is left alone", async (t) => {
  const path = directory(t, { "platform.json": JSON.stringify(reissued(19)) });
  const [verified] = (await loadCollateral(path, [trust], at, false)).values();
  equal(await numberOf(new CollateralCache(new Map([[`${machine.root} 00906ea10000`, verified!]]))), 18);
  equal((await loadCollateral(path, [intelRoot], at, false)).size, 0);
});

test("of what guests bring, 64 sets are kept: those that were used last", async () => {
  const cache = new CollateralCache();
  const first = await cache.find(evidence, trust, at);
  // Space after the last certificate means nothing, and makes other collateral of the same.
  const padded = (n: number) => ({
    ...evidence,
    collateral: { ...brought!, pck_crl_issuer_chain: brought!.pck_crl_issuer_chain + "\n".repeat(n) },
  });
  const second = await cache.find(padded(1), trust, at);
  for (let n = 2; n < 65; n++) {
    await cache.find(padded(n), trust, at);
    if (n === 40) equal(await cache.find(evidence, trust, at), first);
  }
  equal(await cache.find(evidence, trust, at), first);
  notEqual(await cache.find(padded(1), trust, at), second);
});

test("collateral that does not verify is not kept, and changed collateral is not taken for what was kept", async () => {
  const cache = new CollateralCache();
  await cache.find(evidence, trust, at);
  const changed = { ...brought!, tcb_info: brought!.tcb_info.replace('"UpToDate"', '"OutOfDate"') };
  notEqual(changed.tcb_info, brought!.tcb_info);
  for (let i = 0; i < 2; i++) {
    await rejects(cache.find({ ...evidence, collateral: changed }, trust, at), {
      code: "tcb-info/signature",
    });
  }
});

test("what was verified under one root is not taken for another", async () => {
  const cache = new CollateralCache();
  await cache.find(evidence, trust, at);
  const other = { name: "another root", rootKey: Uint8Array.fromHex(`04${"11".repeat(64)}`) };
  await rejects(cache.find(evidence, other, at), { code: "chain/untrusted-root" });
});

const good = JSON.stringify(brought);
const refusals: { name: string; files: Record<string, string>; now?: number; code?: string }[] = [
  { name: "no JSON", files: { "x.json": "{" } },
  { name: "a missing part", files: { "x.json": JSON.stringify({ ...brought, pck_crl: undefined }) } },
  { name: "no document at all", files: { "README.md": "" } },
  { name: "a signature that does not fit", files: { "x.json": good.replace("UpToDate", "OutOfDate") } },
  { name: "expired", files: { "x.json": good }, now: now + 40 * 24 * 3600 * 1000 },
  {
    name: "two documents for one platform",
    files: { "x.json": good, "y.json": good },
    code: "collateral/duplicate",
  },
];
for (const { name, files, now: time = now, code = "collateral/malformed" } of refusals) {
  test(`a directory is refused: ${name}`, async (t) => {
    await rejects(loadCollateral(directory(t, files), [intelRoot, trust], new Date(time), false), { code });
  });
}

test("a directory that is not there is refused", async () => {
  const path = join(tmpdir(), "caisson-no-such-directory");
  await rejects(loadCollateral(path, [trust], at, false), { code: "collateral/malformed" });
});
