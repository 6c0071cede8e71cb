// SPDX-License-Identifier: Apache-2.0
/** Collateral that renews itself, from a server on the loopback that speaks as a PCCS does. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { serveCollateral } from "@caisson/simulated/collateral-server";
import { type Evidence, readEvidenceDocument } from "@caisson/verify";
import { CollateralSource, type CollateralSourceOptions } from "./collateral-source.ts";
import { Machine } from "./testing/machine.ts";

const day = 24 * 3600 * 1000;
/** For what is waited for. */
const limited = { timeout: 60_000 };
const start = Date.parse("2026-06-01T12:00:00Z");
const FMSPC = "CA1550000000";
const machineAt = (now: number) => {
  const machine = new Machine(now);
  const { collateral } = machine.booted("00".repeat(32));
  return { machine, collateral: collateral! };
};
const first = machineAt(start);
const trust = { name: "simulated root", rootKey: Uint8Array.fromHex(first.machine.root) };

async function evidenceOf(machine: Machine): Promise<Evidence> {
  const document = await machine.evidence(machine.booted("00".repeat(32)), new Uint8Array(64));
  return readEvidenceDocument(document);
}
const evidence = await evidenceOf(first.machine);

async function begin(t: TestContext, options: Partial<CollateralSourceOptions> = {}) {
  const directory = mkdtempSync(join(tmpdir(), "caisson-kms-source-"));
  const server = await serveCollateral({ [`${FMSPC}/standard`]: first.collateral });
  const clock = { now: start };
  const lines: string[] = [];
  const results: string[] = [];
  const open = (more: Partial<CollateralSourceOptions> = {}) => {
    const source = new CollateralSource({
      from: server.url,
      directory,
      now: () => clock.now,
      say: (event, fields) => lines.push(`${event} ${JSON.stringify(fields)}`),
      count: (result) => results.push(result),
      ...options,
      ...more,
      limits: { firstMs: 60_000, ...options.limits, ...more.limits },
    });
    t.after(() => source.stop());
    return source;
  };
  t.after(async () => {
    await server.close();
    rmSync(directory, { recursive: true });
  });
  const numberOf = async (source: CollateralSource, which = evidence) =>
    (await source.find(which, trust, new Date(clock.now)))?.at(clock.now, trust).tcbInfo
      .tcbEvaluationDataNumber;
  return { server, clock, lines, results, open, numberOf };
}

test("a source that says nothing is waited for once, not by every guest", limited, async (t) => {
  const { server, open, numberOf } = await begin(t);
  server.quirks = { body: "hang" };
  const source = open({ limits: { firstMs: 200 } });
  equal(await numberOf(source), undefined);
  let waited = true;
  const next = Promise.all(Array.from({ length: 20 }, () => numberOf(source)));
  // What does not wait for a timer has ended before one that is over already.
  await Promise.race([next.then(() => (waited = false)), sleep(150)]);
  equal(waited, false);
  deepEqual(new Set(await next), new Set([undefined]));
});

test("the first evidence of a platform waits for its collateral; the next ones cost no request", async (t) => {
  const { server, results, lines, open, numberOf } = await begin(t);
  const source = open();
  equal(source.validUntil, undefined);
  equal(await numberOf(source), 18);
  equal(server.asked.length, 4);
  deepEqual(await Promise.all([numberOf(source), numberOf(source)]), [18, 18]);
  await source.renew();
  equal(server.asked.length, 4);
  deepEqual(results, ["renewed", "unchanged"]);
  equal(source.platforms, 1);
  equal(source.validUntil, start + 30 * day);
  match(
    lines.join("\n"),
    /^collateral-renewed \{"fmspc":"ca1550000000","expires":"2026-07-01T12:00:00.000Z"\}$/,
  );
});

test("renewed in the last third of its validity, from then on in force", async (t) => {
  const { server, clock, open } = await begin(t);
  const source = open();
  await source.find(evidence, trust, new Date(clock.now));
  clock.now += 19 * day;
  await source.renew();
  equal(server.asked.length, 4, "nothing is due");
  clock.now += 2 * day;
  server.intel.set(`${FMSPC}/standard`, machineAt(clock.now).collateral);
  await source.renew();
  equal(server.asked.length, 8);
  equal(source.validUntil, clock.now + 30 * day);
});

test("a source that fails leaves what is there, until that expires; then nothing is extended", async (t) => {
  const { server, clock, lines, results, open, numberOf } = await begin(t);
  const source = open();
  equal(await numberOf(source), 18);
  clock.now += 25 * day;
  server.quirks = { status: 404 };
  await source.renew();
  equal(await numberOf(source), 18);
  equal(results.at(-1), "failed");
  match(lines.at(-1)!, /^collateral-not-renewed .*404.*"expires":"2026-07-01/);
  clock.now += 7 * day;
  await source.renew();
  match(lines.at(-1)!, /^collateral-not-renewed .*collateral\/not-served/);
  const old = await source.find(evidence, trust, new Date(clock.now));
  let code: unknown;
  try {
    old!.at(clock.now, trust);
  } catch (error) {
    ({ code } = error as { code?: unknown });
  }
  match(String(code), /expired/);
});

test("an older set, or one that somebody else signed, takes no place", async (t) => {
  const { server, clock, results, open, numberOf } = await begin(t);
  const source = open();
  equal(await numberOf(source), 18);
  clock.now += 25 * day;
  const older = new Machine(clock.now);
  older.hierarchy.tcbInfo.tcbEvaluationDataNumber = 17;
  older.remint();
  server.intel.set(`${FMSPC}/standard`, older.booted("00".repeat(32)).collateral!);
  await source.renew();
  equal(await numberOf(source), 18);
  server.intel.set(`${FMSPC}/standard`, { ...first.collateral, tcb_info_signature: "00".repeat(64) });
  await source.renew();
  equal(await numberOf(source), 18);
  equal(results.at(-1), "failed");
});

test("what was fetched outlives the process", async (t) => {
  const { server, open, numberOf } = await begin(t);
  equal(await numberOf(open()), 18);
  server.quirks = { status: 503 };
  equal(await numberOf(open()), 18);
  equal(server.asked.length, 4);
});

test("a source that hangs holds up a release for a bounded time, and the end of the process not at all", async (t) => {
  const { server, lines, open, numberOf } = await begin(t, { limits: { firstMs: 50 } });
  server.quirks = { body: "hang" };
  const source = open();
  equal(await numberOf(source), undefined);
  await source.stop();
  deepEqual(lines, []);
});

test(
  "a busy source is waited for behind the scenes, and what failed is asked again by itself",
  limited,
  async (t) => {
    const { server, open, results, numberOf } = await begin(t, { limits: { retryMs: 20, patienceMs: 0 } });
    server.quirks = { status: 429, times: 2 };
    const source = open();
    equal(await numberOf(source), undefined);
    while (!t.signal.aborted && results.at(-1) !== "renewed") await sleep(10);
    deepEqual(results, ["failed", "failed", "renewed"]);
    equal(await numberOf(source), 18);
  },
);

test("what is fresh is looked at again and again", limited, async (t) => {
  const { clock, server, open, numberOf } = await begin(t, { limits: { everyMs: 10 } });
  const source = open();
  await numberOf(source);
  clock.now += 21 * day;
  server.intel.set(`${FMSPC}/standard`, machineAt(clock.now).collateral);
  while (!t.signal.aborted && source.validUntil !== clock.now + 30 * day) await sleep(10);
});

test("nothing is asked for what anybody can make up: another root, a broken chain, no chain, no quote", async (t) => {
  const { server, open } = await begin(t);
  const source = open();
  const now = new Date(start);
  const elsewhere = {
    name: "another",
    rootKey: trust.rootKey.map((byte, i) => (i === 64 ? byte ^ 1 : byte)),
  };
  equal(await source.find(evidence, elsewhere, now), undefined);
  // Some byte within the PEM of the leaf, which the quote's end carries first.
  const at = Buffer.from(evidence.quote).indexOf("-----BEGIN CERTIFICATE-----") + 400;
  const broken = evidence.quote.with(at, evidence.quote[at]! === 0x41 ? 0x42 : 0x41);
  equal(await source.find({ ...evidence, quote: broken }, trust, now), undefined);
  equal(await source.find({ ...evidence, quote: evidence.quote.subarray(0, 700) }, trust, now), undefined);
  equal(await source.find({ ...evidence, quote: new Uint8Array(3) }, trust, now), undefined);
  equal(await source.find(evidence, trust, new Date(start + 365 * 30 * day)), undefined);
  equal(server.asked.length, 0);
});

test("kinds of platform are bounded; those that policies name are fetched at once", async (t) => {
  const { server, open, numberOf } = await begin(t, { limits: { platforms: 2 } });
  const source = open();
  source.expect([
    { fmspc: "ca1550000000", trust },
    { fmspc: "ca1550000000", trust },
    { fmspc: "00906ea10000", trust },
    { fmspc: "00a06ea10000", trust },
  ]);
  equal(source.platforms, 2);
  await source.renew();
  ok(server.asked.some((path) => path.includes("fmspc=00906EA10000")));
  equal(
    server.asked.some((path) => path.includes("00A06EA10000")),
    false,
  );
  equal(await numberOf(source), 18);
});
