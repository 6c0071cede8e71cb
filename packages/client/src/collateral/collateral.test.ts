// SPDX-License-Identifier: Apache-2.0
/** Fetching collateral from a server that has every quirk and every fault that real ones have shown. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { amdHierarchy, issueReport, mintAmd } from "@caisson/simulated/amd-pki";
import { serveCollateral } from "@caisson/simulated/collateral-server";
import { type Hierarchy, hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { type AnyEvidence, verifyGenuine } from "@caisson/verify";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { collateralFor, fetchIntel, intelPlatformOf } from "./collateral.ts";
import { directoryStore } from "./directory-store.ts";
import { sourceBase } from "./intel.ts";
import type { CollateralStore } from "./kept.ts";

const times = { issued: new Date("2026-06-01T00:00:00Z"), expires: new Date("2026-07-01T00:00:00Z") };
const now = new Date("2026-06-05T00:00:00Z");
const FMSPC = "CA1550000000";

/** The same hierarchy with another evaluation number, or other dates. */
function minted(change: (h: Hierarchy) => void = () => {}) {
  const h = hierarchy("collateral", times);
  change(h);
  return { h, ...mint(h) };
}
const standard = minted();
const numbered = (number: number, issueDate = "2026-06-01T00:00:00Z") =>
  minted(({ tcbInfo, qeIdentity }) => {
    Object.assign(tcbInfo, { tcbEvaluationDataNumber: number, issueDate });
    Object.assign(qeIdentity, { tcbEvaluationDataNumber: number, issueDate });
  }).collateral;
const trust = standard.trust;
const quote = issueQuote(standard.h, standard.pckChain);
const evidence: AnyEvidence = { platform: "tdx", quote };
const served = { [`${FMSPC}/standard`]: standard.collateral, [`${FMSPC}/early`]: numbered(19) };

async function start(
  t: TestContext,
  ...[intel = served, amd, quirks]: Partial<Parameters<typeof serveCollateral>>
) {
  const server = await serveCollateral(intel, amd, quirks);
  t.after(() => server.close());
  return server;
}
function memory(): CollateralStore & { entries: Map<string, string> } {
  const entries = new Map<string, string>();
  return {
    entries,
    read: async (name) => entries.get(name),
    write: async (name, text) => void entries.set(name, text),
  };
}
const noSleep = { sleep: async () => {}, onWait: () => {} };

test("a quote's collateral from a PCCS makes the quote genuine", async (t) => {
  const server = await start(t);
  deepEqual(intelPlatformOf(quote), { tee: "tdx", fmspc: FMSPC.toLowerCase(), ca: "platform" });
  const { collateral, provenance } = await collateralFor(evidence, { from: server.url, now, trust });
  deepEqual(collateral, standard.collateral);
  deepEqual(server.asked, [
    `/tdx/certification/v4/tcb?fmspc=${FMSPC}&update=standard`,
    "/tdx/certification/v4/qe/identity?update=standard",
    "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
    "/sgx/certification/v4/rootcacrl",
  ]);
  deepEqual(
    provenance.map(({ from, number }) => [from, number]),
    [
      ["source", 18],
      ["source", 18],
      ["source", undefined],
      ["source", undefined],
    ],
  );
  equal((await verifyGenuine(evidence, { now, trust, collateral: collateral! })).verdict, "accepted");
});

test("PCS itself is asked at its own addresses; the root CRL comes from elsewhere", async () => {
  const asked: string[] = [];
  const fetch = async (url: string) => {
    asked.push(url);
    throw new TypeError("no network in tests");
  };
  await rejects(collateralFor(evidence, { now, fetch }), {
    code: "collateral/unreachable",
    kind: "unavailable",
  });
  deepEqual(asked, [
    `https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=${FMSPC}&update=standard`,
  ]);
});

for (const [name, quirks] of [
  ["lists in PEM", { crl: "pem" }],
  ["lists in hexadecimal", { crl: "hex" }],
  ["lists in hexadecimal with quotes", { crl: "quoted-hex" }],
  ["lists in base64", { crl: "base64" }],
  ["headers that are encoded twice", { chain: "twice" }],
  ["headers with spaces for line breaks", { chain: "spaces" }],
  ["the header of API v3", { oldHeader: true }],
  ["an FMSPC in upper case alone", { upperCaseOnly: true }],
  ["a busy server that says for how long", { status: 429, retryAfter: "1", times: 2 }],
  ["a busy server that does not", { status: 503, times: 3 }],
] as const) {
  test(`read all the same: ${name}`, async (t) => {
    const server = await start(t, served, [], { ...quirks });
    const { collateral } = await collateralFor(evidence, { from: server.url, now, trust, ...noSleep });
    deepEqual(
      JSON.stringify(collateral).replaceAll(/\\n| /g, ""),
      JSON.stringify(standard.collateral).replaceAll(/\\n| /g, ""),
    );
  });
}

for (const [name, quirks, code, kind, message = /./] of [
  ["an unknown platform", { status: 404 }, "collateral/not-served", "input"],
  ["a number that is gone", { status: 410 }, "collateral/not-served", "input"],
  ["a PCCS that got nothing from Intel", { status: 502 }, "collateral/not-served", "unavailable"],
  ["a server that stays busy", { status: 429, retryAfter: "100" }, "collateral/busy", "unavailable"],
  [
    "a server that is busy, and to be asked at once",
    { status: 429, retryAfter: "0" },
    "collateral/busy",
    "unavailable",
  ],
  ["a cut body", { body: "cut" }, "collateral/answer", "input"],
  ["a body without bound", { body: "oversized" }, "collateral/answer", "input", /more than 1048576 bytes/],
  ["a proxy's page", { body: "html" }, "collateral/answer", "input"],
  ["a wrong content length", { body: "wrong-length" }, "collateral/unreachable", "unavailable"],
] as const) {
  test(`refused: ${name}`, async (t) => {
    const server = await start(t, served, [], { ...quirks });
    const store = memory();
    await rejects(collateralFor(evidence, { from: server.url, now, trust, store, ...noSleep }), {
      code,
      kind,
      message,
    });
    equal(store.entries.size, 0, "nothing of it is kept");
  });
}

test("a redirect is not followed, even to a server that has everything", async (t) => {
  const elsewhere = await start(t);
  const server = await start(t, served, [], { redirect: elsewhere.url });
  await rejects(collateralFor(evidence, { from: server.url, now, trust }), {
    code: "collateral/unreachable",
    kind: "unavailable",
  });
  deepEqual(elsewhere.asked, []);
});

test("a server that never answers is left after its time", async (t) => {
  const server = await start(t, served, [], { body: "hang" });
  const fetch = (url: string) => globalThis.fetch(url, { signal: AbortSignal.timeout(200) });
  await rejects(collateralFor(evidence, { from: server.url, now, trust, fetch }), {
    code: "collateral/unreachable",
  });
});

test("what does not verify is not kept: another root, another platform's signature, a clock 31 days ahead", async (t) => {
  const store = memory();
  const other = mint(hierarchy("somebody else", times)).collateral;
  const forged = await start(t, { [`${FMSPC}/standard`]: other });
  await rejects(collateralFor(evidence, { from: forged.url, now, trust, store }), {
    code: "collateral/answer",
  });
  const server = await start(t);
  const later = new Date("2026-07-06T00:00:00Z");
  await rejects(collateralFor(evidence, { from: server.url, now: later, trust, store }), (error: Error) => {
    match(error.message, /does not verify/);
    return true;
  });
  equal(store.entries.size, 0);
});

test("sets: standard, early, by number; TCB info and QE identity are asked for alike", async (t) => {
  const server = await start(t, { ...served, [`${FMSPC}/17`]: numbered(17) });
  const number = async (update: "standard" | "early" | number) =>
    (await collateralFor(evidence, { from: server.url, now, trust, update })).provenance.map(
      (one) => one.number,
    );
  deepEqual(await number("early"), [19, 19, undefined, undefined]);
  deepEqual(await number(17), [17, 17, undefined, undefined]);
  ok(server.asked.includes("/tdx/certification/v4/qe/identity?tcbEvaluationDataNumber=17"));
  await rejects(number(3), { code: "collateral/not-served" });
});

test("kept until a third of its validity is left, then asked for; until it expires where nobody answers", async (t) => {
  const server = await start(t);
  const store = memory();
  const at = async (day: string, more: object = {}) => {
    server.asked.length = 0;
    const { provenance } = await collateralFor(evidence, {
      from: server.url,
      now: new Date(`${day}T00:00:00Z`),
      trust,
      store,
      ...more,
    });
    return provenance[0]!;
  };
  equal((await at("2026-06-05")).from, "source");
  equal((await at("2026-06-19")).from, "cache");
  equal(server.asked.length, 0);
  equal((await at("2026-06-22")).from, "source");
  server.quirks = { status: 404 };
  const kept = await at("2026-06-25");
  match(`${kept.from}: ${kept.because}`, /^cache: .*404/);
  equal((await at("2026-06-30", { offline: true })).from, "cache");
  equal(server.asked.length, 0);
  await rejects(at("2026-07-02", { offline: true }), { code: "collateral/offline", kind: "unavailable" });
  await rejects(at("2026-07-02"), { code: "collateral/not-served" });
});

test("offline without anything kept", async () => {
  const fetch = async () => Promise.reject(new Error("must not be asked"));
  await rejects(collateralFor(evidence, { now, trust, fetch, offline: true, store: memory() }), {
    code: "collateral/offline",
  });
});

test("a lower number, or an older document, never takes the place of what is kept", async (t) => {
  const server = await start(t, { [`${FMSPC}/standard`]: numbered(19) });
  const store = memory();
  const options = { from: server.url, trust, store };
  await collateralFor(evidence, { ...options, now });
  const due = new Date("2026-06-25T00:00:00Z");
  for (const older of [numbered(18, "2026-06-20T00:00:00Z"), numbered(19, "2026-05-31T00:00:00Z")]) {
    server.intel.set(`${FMSPC}/standard`, older);
    const { provenance } = await collateralFor(evidence, { ...options, now: due });
    deepEqual([provenance[0]!.from, provenance[0]!.number], ["cache", 19]);
    match(provenance[0]!.because!, /serves an older one/);
  }
});

test("a damaged or foreign entry of the store is asked for again", async (t) => {
  const place = temporaryDirectory("collateral", t);
  const server = await start(t);
  const store = directoryStore(place);
  const options = { from: server.url, now, trust, store };
  await collateralFor(evidence, options);
  const file = join(place, "tcb/tdx", FMSPC.toLowerCase(), "standard.json");
  ok(existsSync(file));
  deepEqual(readdirSync(join(place, "crl")), ["platform.json"], "no temporary file is left");
  writeFileSync(file, '{"url":"x"');
  equal((await collateralFor(evidence, options)).provenance[0]!.from, "source");
  // Signed by somebody else: it does not verify, and all is asked for anew.
  const text = await store.read("root-crl");
  await store.write("root-crl", text!.replace(/"der":"(..)/, '"der":"00'));
  server.asked.length = 0;
  await collateralFor(evidence, options);
  equal(server.asked.length, 4);
  await rejects(directoryStore(file).write("../escape", ""), RangeError);
  await rejects(directoryStore(file).write("a", ""), { code: "collateral/store" });
});

test("two questions at once are one request", async (t) => {
  const server = await start(t);
  const platform = intelPlatformOf(quote);
  const [one, two] = await Promise.all(
    [1, 2].map(() => fetchIntel(platform, { from: server.url, now, trust })),
  );
  deepEqual(one!.collateral, two!.collateral);
  equal(server.asked.length, 4);
});

test("addresses of sources", () => {
  equal(sourceBase("https://pccs.example:8081"), "https://pccs.example:8081");
  equal(sourceBase("https://a.example/x/sgx/certification/v4/"), "https://a.example/x");
  for (const wrong of ["pccs.example", "ftp://x/", "https://x/?y"])
    throws(() => sourceBase(wrong), { code: "collateral/source" });
});

const amdTimes = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
function amdServer(product: "Milan" | "Turin", version = 3, kind: "vcek" | "vlek" = "vcek") {
  const h = amdHierarchy(product, amdTimes, kind);
  h.report.version = version;
  const { roots, collateral, document } = mintAmd(h);
  const chipId = product === "Turin" ? h.report.chipId.slice(0, 16) : h.report.chipId;
  const query =
    product === "Turin"
      ? "?fmcSPL=03&blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"
      : "?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219";
  const documents = {
    product,
    kind,
    chipId,
    query,
    endorsement: collateral.endorsement,
    chain: document.chain,
    crl: collateral.crl,
  };
  return {
    h,
    roots,
    documents,
    collateral,
    evidence: { platform: "snp", report: issueReport(h) } as AnyEvidence,
  };
}

for (const [product, version] of [
  ["Milan", 2],
  ["Milan", 3],
  ["Turin", 3],
] as const) {
  test(`AMD: certificate, chain and list of a ${product}, report version ${version}`, async (t) => {
    const { roots, documents, evidence: report } = amdServer(product, version);
    const server = await start(t, {}, [documents]);
    const store = memory();
    const options = { from: server.url, now, roots, store };
    const fetched = await collateralFor(report, options);
    const judged = await verifyGenuine(report, {
      now,
      amdCollateral: fetched.amdCollateral!,
      amdRoots: roots,
    });
    equal(judged.verdict, "accepted");
    match(server.asked[0]!, new RegExp(`^/vcek/v1/${product}/[0-9a-f]+\\?`));
    server.asked.length = 0;
    deepEqual((await collateralFor(report, options)).document, fetched.document);
    equal(server.asked.length, 0);
  });
}

test("AMD: a limited request is waited for; what was asked is said", async (t) => {
  const { roots, documents, evidence: report } = amdServer("Milan");
  const server = await start(t, {}, [documents], { status: 429, times: 2 });
  const waits: number[] = [];
  await collateralFor(report, {
    from: server.url,
    now,
    roots,
    sleep: async () => {},
    onWait: (_, ms) => waits.push(ms),
  });
  deepEqual(waits, [2000, 4000]);
});

test("AMD: a masked chip, an unsigned report, a VLEK that did not come along", async () => {
  for (const change of [
    (h: ReturnType<typeof amdHierarchy>) => (h.report.chipId = "00".repeat(64)),
    (h: ReturnType<typeof amdHierarchy>) => (h.report.keyInfo = 7 << 2),
    (h: ReturnType<typeof amdHierarchy>) => (h.report.keyInfo = 1 << 2),
  ]) {
    const h = amdHierarchy("Milan", amdTimes);
    change(h);
    const report: AnyEvidence = { platform: "snp", report: issueReport(h) };
    await rejects(collateralFor(report, { now }), { code: "collateral/platform", kind: "unsupported" });
  }
});

test("AMD: a VLEK that came along gets its chain and list", async (t) => {
  const { roots, documents, evidence: report, collateral } = amdServer("Milan", 3, "vlek");
  const server = await start(t, {}, [documents]);
  const brought = { ...report, collateral: { endorsement: collateral.endorsement } } as AnyEvidence;
  const { amdCollateral } = await collateralFor(brought, { from: server.url, now, roots });
  equal(
    (await verifyGenuine(brought, { now, amdCollateral: amdCollateral!, amdRoots: roots })).verdict,
    "accepted",
  );
  deepEqual(server.asked, ["/vlek/v1/Milan/cert_chain", "/vlek/v1/Milan/crl"]);
});

test("AMD: a chain that does not end at AMD's root is not kept", async (t) => {
  const { documents, evidence: report } = amdServer("Milan");
  const server = await start(t, {}, [documents]);
  const store = memory();
  await rejects(collateralFor(report, { from: server.url, now, store }), { code: "collateral/answer" });
  equal(store.entries.size, 0);
});
