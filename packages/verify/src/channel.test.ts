// SPDX-License-Identifier: Apache-2.0
/** Evidence of a channel: the right one, and one wrong thing at a time. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { toHex } from "@caisson/vocabulary/bytes";
import { hpkeConfigOf, hpkeKeyOf, sessionEntry } from "@caisson/vocabulary/channel";
import fc from "fast-check";
import { type ChannelExpectation, verifyChannel } from "./channel.ts";
import { type ReportDataScheme, reportData } from "./evidence/report-data.ts";
import { readPolicy } from "./policy/policy.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const now = new Date("2026-06-01T00:00:00Z");
const register = "a1".repeat(48);
const registers = { mrtd: register, rtmr0: register, rtmr1: register, rtmr2: register };
const policy = readPolicy({
  version: "caisson/policy/v1",
  tcb: { minimumEvaluationNumber: "any" },
  platformIdentities: "any",
  runtimeEvents: "none",
  references: [registers],
});
const described = hierarchy("channel", times, "tdx");
const { collateral, trust, pckChain } = mint(described);
const judgement = { policy, now, trust, collateral };

const sha256 = (...parts: readonly (Uint8Array | number[])[]): Uint8Array => {
  const sum = createHash("sha256");
  for (const part of parts) sum.update(Uint8Array.from(part));
  return new Uint8Array(sum.digest());
};
/** RFC 6962, section 2.1: the tree's hash and the path of an entry. */
const split = (n: number): number => 2 ** Math.ceil(Math.log2(n) - 1);
const root = (d: Uint8Array[]): Uint8Array =>
  d.length === 1
    ? sha256([0], d[0]!)
    : sha256([1], root(d.slice(0, split(d.length))), root(d.slice(split(d.length))));
function path(m: number, d: Uint8Array[]): Uint8Array[] {
  if (d.length === 1) return [];
  const k = split(d.length);
  return m < k
    ? [...path(m, d.slice(0, k)), root(d.slice(k))]
    : [...path(m - k, d.slice(k)), root(d.slice(0, k))];
}

const nonces = Array.from({ length: 5 }, (_, i) => new Uint8Array(32).fill(i + 1));
const tlsKey = new Uint8Array(32).fill(0x71);
const hpkeConfig = hpkeConfigOf(new Uint8Array(32).fill(0x72));

interface Change {
  scheme?: ReportDataScheme;
  /** What the quote binds. */
  bound?: Record<string, Uint8Array>;
  /** What the document says that it binds, where that is something else. */
  stated?: Record<string, Uint8Array>;
  nonce?: object;
  expected?: Partial<ChannelExpectation>;
  td?: object;
}

async function answer({ scheme = "caisson/channel/v1", bound, stated, nonce, td }: Change): Promise<object> {
  const fields = bound ?? { nonceRoot: root(nonces), tlsKey, hpkeConfig };
  const data = await reportData(scheme, fields as Parameters<typeof reportData>[1]);
  const quote = issueQuote(
    described,
    pckChain,
    { mrTd: register, ...registers, rtmr3: "00".repeat(48), reportData: toHex(data), ...td },
    "td15-v5",
  );
  const named = Object.entries(stated ?? fields).map(([name, value]) => [name, toHex(value)] as const);
  return {
    version: "caisson/channel-evidence/v1",
    evidence: {
      version: "caisson/evidence/v1",
      platform: "tdx",
      quote: Buffer.from(quote).toString("base64"),
      runtimeEvents: [],
      reportData: { scheme, fields: Object.fromEntries(named) },
    },
    nonce: { index: 3, count: 5, path: path(3, nonces).map(toHex), ...nonce },
  };
}
const bytesOf = (document: unknown) => new TextEncoder().encode(JSON.stringify(document));

async function judge(change: Change) {
  const expected = { nonce: nonces[3]!, tlsKey, ...change.expected };
  const { report, keys } = await verifyChannel(bytesOf(await answer(change)), expected, judgement);
  return { verdict: report.verdict, codes: report.codes, keys };
}

test("a connection that ends in the guest is accepted, with its keys", async () => {
  deepEqual(await judge({}), { verdict: "accepted", codes: [], keys: { tlsKey, hpkeConfig } });
});

test("every nonce of a tree is accepted at its place, a lone one by itself", async () => {
  for (let count = 1; count <= 9; count++) {
    const all = Array.from({ length: count }, (_, i) => new Uint8Array(32).fill(0x80 + i));
    for (const [index, nonce] of all.entries()) {
      const place = { index, count, path: path(index, all).map(toHex) };
      const bound = { nonceRoot: root(all), tlsKey, hpkeConfig };
      const { codes } = await judge({ bound, nonce: place, expected: { nonce } });
      deepEqual(codes, [], `${index} of ${count}`);
    }
  }
});

const other = new Uint8Array(32).fill(0x99);
for (const [name, change, codes, hasKeys] of [
  [
    "TLS ends elsewhere: sealed requests still reach it",
    { expected: { tlsKey: other } },
    ["channel/tls-key"],
    true,
  ],
  ["the nonce of another client", { expected: { nonce: nonces[2]! } }, ["channel/nonce-path"], false],
  ["a wrong path", { nonce: { path: path(2, nonces).map(toHex) } }, ["channel/nonce-path"], false],
  ["another place", { nonce: { index: 2 } }, ["channel/nonce-path"], false],
  ["another size", { nonce: { count: 3 } }, ["channel/nonce-path"], false],
  ["an empty path", { nonce: { path: [] } }, ["channel/nonce-path"], false],
  [
    "ten hashes too many",
    { nonce: { path: Array.from({ length: 10 }, () => "ab".repeat(32)) } },
    ["channel/nonce-path"],
    false,
  ],
  [
    "the nonce as the root itself",
    { bound: { nonceRoot: nonces[3]!, tlsKey, hpkeConfig }, nonce: { index: 0, count: 1, path: [] } },
    ["channel/nonce-path"],
    false,
  ],
  [
    "an application's own evidence",
    { scheme: "caisson/app/v1", bound: { nonce: root(nonces) } },
    ["report-data/no-nonce", "channel/not-stated"],
    false,
  ],
  [
    "keys that the quote does not bind",
    { stated: { nonceRoot: root(nonces), tlsKey: other, hpkeConfig }, expected: { tlsKey: other } },
    ["report-data/preimage"],
    false,
  ],
  [
    "another suite",
    { bound: { nonceRoot: root(nonces), tlsKey, hpkeConfig: hpkeConfig.with(40, 1) } },
    ["channel/hpke-key"],
    false,
  ],
  [
    "two keys in one configuration",
    {
      bound: { nonceRoot: root(nonces), tlsKey, hpkeConfig: Uint8Array.from([...hpkeConfig, ...hpkeConfig]) },
    },
    ["channel/hpke-key"],
    false,
  ],
  ["another machine", { td: { rtmr2: "b2".repeat(48) } }, ["registers/rtmr2", "registers/no-match"], false],
] as [string, Change, string[], boolean][]) {
  test(`refused: ${name}`, async () => {
    const result = await judge(change);
    equal(result.verdict, "rejected");
    deepEqual(
      codes.filter((code) => !(result.codes as string[]).includes(code)),
      [],
      result.codes.join(" "),
    );
    equal(result.keys !== undefined, hasKeys);
  });
}

test("a session that the caller names has to be the one that the quote answers", async () => {
  const exporter = new Uint8Array(32).fill(0xe1);
  const all = [...nonces.slice(0, 3), sessionEntry(nonces[3]!, exporter), nonces[4]!];
  const change = {
    bound: { nonceRoot: root(all), tlsKey, hpkeConfig },
    nonce: { path: path(3, all).map(toHex) },
  };
  deepEqual(await judge({ ...change, expected: { exporter } }), {
    verdict: "accepted",
    codes: [],
    keys: { tlsKey, hpkeConfig },
  });
  // Another session, one that the caller does not name, and a quote for a nonce alone where a session is wanted.
  deepEqual((await judge({ ...change, expected: { exporter: other } })).codes, ["channel/session"]);
  deepEqual((await judge(change)).codes, ["channel/nonce-path"]);
  deepEqual(await judge({ expected: { exporter } }), {
    verdict: "rejected",
    codes: ["channel/session"],
    keys: undefined,
  });
  // Nor does a nonce that was made from both lead there: entries of sessions are longer than nonces.
  const forged = sha256(sessionEntry(nonces[3]!, exporter));
  const relayed = [...nonces.slice(0, 3), forged, nonces[4]!];
  const bound = { nonceRoot: root(relayed), tlsKey, hpkeConfig };
  const { codes } = await judge({
    bound,
    nonce: { path: path(3, relayed).map(toHex) },
    expected: { exporter },
  });
  deepEqual(codes, ["channel/session"]);
});

test("where only sealed requests are sent, the TLS key is not asked for", async () => {
  const { report, keys } = await verifyChannel(bytesOf(await answer({})), { nonce: nonces[3]! }, judgement);
  equal(report.verdict, "accepted");
  equal(report.checks.find(({ id }) => id === "channel/tls")?.outcome, "not-checked");
  deepEqual(keys, { tlsKey, hpkeConfig });
});

test("what is not such a document is malformed: eleven levels, other members, cut off, not JSON", async () => {
  const good = (await answer({})) as { nonce: { path: string[] }; evidence: object };
  const eleven = {
    ...good,
    nonce: { ...good.nonce, path: Array.from({ length: 11 }, () => "00".repeat(32)) },
  };
  for (const document of [
    eleven,
    { ...good, more: 1 },
    { ...good, version: "v2" },
    good.evidence,
    [],
    null,
  ]) {
    await rejects(verifyChannel(bytesOf(document), { nonce: nonces[3]! }, judgement), {
      code: "evidence/malformed",
    });
  }
  const whole = bytesOf(good);
  await fc.assert(
    fc.asyncProperty(fc.nat(whole.length - 1), (end) =>
      rejects(verifyChannel(whole.subarray(0, end), { nonce: nonces[3]! }, judgement), {
        code: "evidence/malformed",
      }),
    ),
    { numRuns: 30 },
  );
  await rejects(verifyChannel(new Uint8Array(5 << 20), { nonce: nonces[3]! }, judgement), {
    code: "evidence/size",
  });
});

test("a flipped bit anywhere but in the quote is refused or malformed, never accepted", async () => {
  const text = bytesOf(await answer({}));
  // Those of quotes have a test of their own, which knows what of a quote counts.
  const [from, to] = ['quote":', "runtimeEvents"].map((word) => Buffer.from(text).indexOf(word)) as [
    number,
    number,
  ];
  await fc.assert(
    fc.asyncProperty(fc.nat(text.length - 1 - (to - from)), fc.nat(7), async (place, bit) => {
      const at = place < from ? place : place + to - from;
      const changed = text.with(at, text[at]! ^ (1 << bit));
      const verdict = await verifyChannel(changed, { nonce: nonces[3]!, tlsKey }, judgement).then(
        ({ report }) => report.verdict,
        (error: { code?: string }) => error.code,
      );
      // Hexadecimal may be written in capitals: the same document, then.
      const same = bit === 5 && /[a-f]/i.test(String.fromCharCode(text[at]!));
      equal(verdict === "accepted" && !same, false, `byte ${at}, bit ${bit}`);
    }),
    { numRuns: 60 },
  );
});

test("a key configuration is that of its key, and nothing else is", () => {
  const key = new Uint8Array(32).fill(7);
  deepEqual(hpkeKeyOf(hpkeConfigOf(key)), key);
  equal(hpkeConfigOf(key).length, 41);
  for (const at of [0, 1, 2, 35, 36, 37, 38, 39, 40]) {
    const config = hpkeConfigOf(key);
    equal(hpkeKeyOf(config.with(at, config[at]! ^ 1)), undefined, `byte ${at}`);
  }
});

const { collateral: elsewhere } = mint(hierarchy("another root", times, "tdx"));
const ofPlatform = (fmspc: string) => {
  const platform = hierarchy("channel", times, "tdx");
  platform.tcbInfo.fmspc = fmspc;
  return mint(platform).collateral;
};
for (const [name, stapled, codes, at] of [
  ["collateral that the guest carries", collateral, []],
  ["none", undefined, ["collateral/missing"]],
  ["altered", { ...collateral, tcb_info: `${collateral.tcb_info} ` }, ["tcb-info/signature"]],
  [
    "with another's signature",
    { ...collateral, qe_identity_signature: collateral.tcb_info_signature },
    ["qe-identity/signature"],
  ],
  ["another platform's", ofPlatform("00606a000000"), ["tcb-info/fmspc"]],
  ["under another root", elsewhere, ["chain/untrusted-root"]],
  ["expired", collateral, ["chain/expired"], new Date(times.expires.getTime() + 1000)],
  ["not yet valid", collateral, ["chain/not-yet-valid"], new Date(times.issued.getTime() - 1000)],
  ["without a list", { ...collateral, root_ca_crl: "00" }, ["der/malformed"]],
] as const) {
  test(`stapled: ${name}`, async () => {
    const document = (await answer({})) as { evidence: object };
    const bytes = bytesOf({ ...document, evidence: { ...document.evidence, collateral: stapled } });
    const { collateral: _, ...without } = judgement;
    const expected = { nonce: nonces[3]!, tlsKey };
    const { report, keys } = await verifyChannel(bytes, expected, { ...without, ...(at && { now: at }) });
    deepEqual(
      [report.verdict, report.codes, keys !== undefined],
      [codes.length === 0 ? "accepted" : "undetermined", codes, codes.length === 0],
    );
    // What the verifier brings goes first: nothing that is stapled makes it worse.
    const own = await verifyChannel(bytes, expected, judgement);
    equal(own.report.verdict, "accepted");
  });
}

test("what is certain wins: another's nonce and another TLS key, though nothing vouches for the quote", async () => {
  const { collateral: _, ...without } = judgement;
  const ask = async (expected: Partial<ChannelExpectation>) =>
    verifyChannel(bytesOf(await answer({})), { nonce: nonces[3]!, tlsKey, ...expected }, without);
  for (const [expected, code] of [
    [{ nonce: nonces[2]! }, "channel/nonce-path"],
    [{ tlsKey: other }, "channel/tls-key"],
  ] as const) {
    const { report, keys } = await ask(expected);
    deepEqual([report.verdict, report.codes, keys], ["rejected", ["collateral/missing", code], undefined]);
  }
  equal((await ask({})).report.verdict, "undetermined");
});

test("stapled: what is not a document of collateral is not evidence", async () => {
  const document = (await answer({})) as { evidence: object };
  for (const stapled of [null, "", [], {}, { ...collateral, ocsp: "" }]) {
    const bytes = bytesOf({ ...document, evidence: { ...document.evidence, collateral: stapled } });
    await rejects(verifyChannel(bytes, { nonce: nonces[3]! }, judgement), { code: "evidence/malformed" });
  }
});
