// SPDX-License-Identifier: Apache-2.0
/**
 * Verification beyond one quote: a SEV-SNP report against go-sev-guest, a fleet of 10,000 quotes of 500 platforms that share
 * their collateral, and both verifiers in a browser. Times are processor time but for the browser's, whose clock is the wall's;
 * there the two take turns.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Row } from "@caisson/cli/commands/bench";
import { forBrowsers } from "@caisson/page";
import { TestKey } from "@caisson/simulated/p256";
import { hierarchy, mint, sgxExtension } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { type AmdRoot, amdRoots, verifyCollateral, verifyQuote, verifyReport } from "@caisson/verify";
import * as crypto from "@caisson/verify/crypto.node";
import { pemToDer } from "@caisson/verify/pem";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { nativeSnpPeer } from "./peer/native.ts";

const vectors = new URL("../../shared/vectors/", import.meta.url);
const there = existsSync(vectors);
const read = (path: string) => new Uint8Array(readFileSync(new URL(path, vectors)));
const ROUNDS = 400;

async function spent(work: () => Promise<unknown>, rounds = 1): Promise<number> {
  for (let i = 0; i < rounds / 4; i++) await work();
  const start = process.cpuUsage();
  for (let i = 0; i < rounds; i++) await work();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000 / rounds;
}

async function* snp(): AsyncIterable<Row> {
  if (!there) {
    yield { name: "SEV-SNP is NOT measured", unit: "ms", ours: Number.NaN, note: "the vectors are absent" };
    return;
  }
  const report = read("attestation-rs/snp/test-report.bin");
  const [ask, ark] = pemToDer(new TextDecoder().decode(read("go-sev-guest/ask_ark_milan.pem")));
  const endorsement = read("attestation-rs/snp/test-vcek.der");
  const now = new Date("2024-06-01T00:00:00Z");
  const collateral = { endorsement, chain: [ask!, ark!] };
  const trust: { roots: readonly AmdRoot[]; revocation: "any" } = { roots: amdRoots, revocation: "any" };
  const ours = await spent(() => verifyReport(report, collateral, now, trust), ROUNDS);
  yield { name: "SEV-SNP report and its chain (a real Milan)", unit: "ms", ours, note: "chain remembered" };
  const scratch = mkdtempSync(join(tmpdir(), "caisson-bench-"));
  try {
    const peer = nativeSnpPeer(scratch, report, [endorsement, ask!, ark!], now.getTime() / 1000, ROUNDS);
    for (const [name, time] of peer.ms) {
      yield {
        name: `  against native ${name} 0.15.0`,
        unit: "ms",
        ours,
        peer: time,
        note: "it verifies the chain each time",
      };
    }
    for (const reason of peer.missing)
      yield { name: "  a native peer is NOT measured", unit: "ms", ours, note: reason };
  } finally {
    rmSync(scratch, { recursive: true });
  }
  // What nobody can do without: the report's signature, under a key that is new.
  const key = await crypto.importP384(
    new Uint8Array(
      (await import("node:crypto"))
        .generateKeyPairSync("ec", { namedCurve: "secp384r1" })
        .publicKey.export({ type: "spki", format: "der" }),
    ).slice(-97),
  );
  const check = await spent(
    () => crypto.verifyP384(key!, new Uint8Array(96).fill(1), report.subarray(0, 0x2a0)),
    ROUNDS,
  );
  yield { name: "  against one P-384 check", unit: "ms", ours, limit: check };
}

const PLATFORMS = 500;
const QUOTES = 20;

/** Quotes of many platforms of one kind, each with a PCK certificate and an attestation key of its own. */
function mintFleet() {
  const h = hierarchy("fleet", {
    issued: new Date("2026-01-01T00:00:00Z"),
    expires: new Date("2027-01-01T00:00:00Z"),
  });
  const { collateral, trust } = mint(h);
  const extension = h.pck.extensions.find(({ oid }) => oid === "1.2.840.113741.1.13.1")!;
  const quotes: Uint8Array[] = [];
  for (let i = 0; i < PLATFORMS; i++) {
    const ppid = i.toString(16).padStart(32, "0");
    extension.value = sgxExtension({
      ppid,
      sgxSvns: Array<number>(16).fill(5),
      pceSvn: 13,
      pceId: "0000",
      fmspc: "ca1550000000",
    });
    h.keys.pck = TestKey.derive("fleet", `pck ${i}`);
    h.keys.attestation = TestKey.derive("fleet", `attestation ${i}`);
    h.pck.key = h.keys.pck;
    const { pckChain } = mint(h);
    for (let j = 0; j < QUOTES; j++) {
      const reportData = `${i.toString(16).padStart(8, "0")}${j.toString(16).padStart(120, "0")}`;
      quotes.push(issueQuote(h, pckChain, { reportData }, "td15-v5"));
    }
  }
  return { quotes, collateral, trust };
}

async function* fleet(): AsyncIterable<Row> {
  const { quotes, collateral, trust } = mintFleet();
  const now = new Date("2026-06-01T00:00:00Z");
  const verified = await verifyCollateral(collateral, now, trust);
  const ids = new Set<string>();
  const total = await spent(async () => {
    for (const quote of quotes) ids.add((await verifyQuote(quote, verified, now, trust)).pck.ppid);
  });
  if (ids.size !== PLATFORMS) throw new Error(`${ids.size} platforms`);
  const some = quotes.filter((_, i) => i % 40 === 0);
  const alone = await spent(async () => {
    for (const quote of some) await verifyQuote(quote, collateral, now, trust);
  });
  const key = TestKey.derive("bench", "key");
  const data = new Uint8Array(600);
  const signature = key.sign(data);
  const imported = await crypto.importP256(key.publicKey);
  const check = await spent(() => crypto.verifyP256(imported!, signature, data), ROUNDS);
  const name = `a fleet: ${quotes.length} quotes of ${PLATFORMS} platforms`;
  yield {
    name,
    unit: "s",
    ours: total / 1000,
    peer: (alone / some.length) * quotes.length * 0.001,
    note: `peer: each with its collateral verified anew, from ${some.length} of them`,
  };
  yield {
    name: "  against its signature checks alone",
    unit: "s",
    ours: total / 1000,
    limit: (3 * check * quotes.length) / 1000,
    note: "3 P-256 for each",
  };
  yield {
    name: "  quotes a second, one core",
    unit: "/s",
    ours: (quotes.length / total) * 1000,
    limit: 1000 / (3 * check),
  };
}

/** Both verifiers as one module, which times them in turns. */
const inBrowser = `
import { intelRoot, verifyQuote, verifyCollateral } from "@caisson/verify";
import { initSync, js_verify } from "@phala/dcap-qvl-web";
window.race = async ({ quote, collateral, at, wasm }) => {
  const bytes = (text) => Uint8Array.fromBase64(text);
  initSync({ module: bytes(wasm) });
  const now = new Date(at);
  const own = bytes(quote);
  const verified = await verifyCollateral(collateral, now, intelRoot);
  const tasks = {
    cold: () => verifyQuote(own, collateral, now, intelRoot),
    warm: () => verifyQuote(own, verified, now, intelRoot),
    wasm: () => js_verify(own, collateral, BigInt(at / 1000)),
  };
  const spent = { cold: 0, warm: 0, wasm: 0 };
  for (let round = -4; round < 8; round++) {
    for (const name of Object.keys(tasks)) {
      const start = performance.now();
      for (let i = 0; i < 20; i++) await tasks[name]();
      if (round >= 0) spent[name] += performance.now() - start;
    }
  }
  return Object.fromEntries(Object.entries(spent).map(([name, ms]) => [name, ms / 160]));
};
`;

async function* browser(): AsyncIterable<Row> {
  if (!there || !existsSync("/usr/bin/chromium")) {
    yield {
      name: "browsers are NOT measured",
      unit: "ms",
      ours: Number.NaN,
      note: "no vectors, or no Chromium",
    };
    return;
  }
  const { outputFiles } = await build({
    stdin: { contents: inBrowser, resolveDir: new URL("./", import.meta.url).pathname },
    ...forBrowsers,
  });
  const server = createServer((request, response) => {
    const code = request.url === "/bundle.js";
    response.setHeader("content-type", code ? "text/javascript" : "text/html");
    response.end(
      code ? outputFiles[0]!.text : '<!doctype html><script type="module" src="/bundle.js"></script>',
    );
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const chromium_ = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  try {
    const tab = await chromium_.newPage();
    await tab.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await tab.waitForFunction("window.race !== undefined");
    const wasm = readFileSync(new URL(import.meta.resolve("@phala/dcap-qvl-web/dcap-qvl-web_bg.wasm")));
    const input = {
      quote: Buffer.from(read("dcap-qvl/tdx_quote")).toString("base64"),
      collateral: JSON.parse(new TextDecoder().decode(read("dcap-qvl/tdx_quote_collateral.json"))) as object,
      at: Date.parse("2025-06-20"),
      wasm: wasm.toString("base64"),
    };
    const ms = (await tab.evaluate(`window.race(${JSON.stringify(input)})`)) as Record<
      "cold" | "warm" | "wasm",
      number
    >;
    const peer = "peer: dcap-qvl as WASM in the same page";
    yield {
      name: `in Chromium ${chromium_.version().split(".")[0]}: a real TDX quote, cold`,
      unit: "ms",
      ours: ms.cold,
      peer: ms.wasm,
      note: peer,
    };
    yield {
      name: "  warm (collateral verified before)",
      unit: "ms",
      ours: ms.warm,
      peer: ms.wasm,
      note: peer,
    };
  } finally {
    await chromium_.close();
    server.close();
  }
}

export async function* run(): AsyncIterable<Row> {
  yield* snp();
  yield* fleet();
  yield* browser();
}
