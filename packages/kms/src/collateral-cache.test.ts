import { deepEqual, equal, notEqual, rejects, throws } from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { type Collateral, readEvidenceDocument } from "@caisson/verify";
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
  const own = loadCollateral(
    directory(t, { "platform.json": JSON.stringify(reissued(19)), "README.md": "" }),
  );
  deepEqual([...own.keys()], ["ca1550000000"]);
  equal(await numberOf(new CollateralCache()), 18);
  equal(await numberOf(new CollateralCache(own)), 19);
  equal(await numberOf(new CollateralCache(own), bare), 19);
});

test("own collateral for other platforms is left alone", async () => {
  const own = new Map([["00906ea10000", reissued(19)]]);
  equal(await numberOf(new CollateralCache(own)), 18);
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

for (const [name, files] of [
  ["no JSON", { "x.json": "{" }],
  ["a missing part", { "x.json": JSON.stringify({ ...brought, pck_crl: undefined }) }],
] as const) {
  test(`a directory is refused: ${name}`, (t) => {
    throws(() => loadCollateral(directory(t, files)), { code: "collateral/malformed" });
  });
}

test("a directory that is not there is refused", () => {
  throws(() => loadCollateral(join(tmpdir(), "caisson-no-such-directory")), { code: "collateral/malformed" });
});
