// SPDX-License-Identifier: Apache-2.0
/**
 * Verification: one quote with its collateral, cold (everything is verified) and warm (the collateral was verified
 * before), against @phala/dcap-qvl (JavaScript), @phala/dcap-qvl-web (Rust as WASM) and, where cargo and go are there, the
 * native dcap-qvl and go-tdx-guest in the same run, and against the signature checks alone, which nobody can do without.
 *
 * The evidence is a real TDX quote where the vectors are present, else a synthetic one under the test root. Times
 * are processor time, and the verifiers take turns, so that they mean the same on a busy machine.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { gzipSync } from "node:zlib";
import type { Row } from "@caisson/cli/commands/bench";
import { fold, runtimeEventDigest } from "@caisson/measure";
import { TestKey } from "@caisson/simulated/p256";
import {
  type Collateral,
  intelRoot,
  readPolicy,
  type TrustAnchor,
  verifyCollateral,
  verifyEvidence,
  verifyQuote,
} from "@caisson/verify";
import * as nodeCrypto from "@caisson/verify/crypto.node";
import * as webCrypto from "@caisson/verify/crypto.web";
import { buildEvidence } from "@caisson/verify/testing/evidence";
import { toHex } from "@caisson/vocabulary/bytes";
import { limits } from "@caisson/vocabulary/limits";
import { initSync, js_verify } from "@phala/dcap-qvl-web";
import { build } from "esbuild";
import { nativePeers } from "./peer/native.ts";

const vectors = new URL("../../shared/vectors/dcap-qvl/", import.meta.url);
const ROUNDS = 16;
/** Rounds that are not counted: some 400 runs of each task, until V8 compiles no more of any of them. */
const WARM_UP = 16;
/** Runs in a row: the clock's resolution may be that of the scheduler, and caches are another task's at first. */
const BATCH = 25;
const MEMORY_ROUNDS = 100_000;
const NATIVE_ROUNDS = 2000;
/**
 * What nobody can do without. Cold, in a process that has verified before: the signatures of PCK; two CRLs; TCB info, QE
 * identity; QE report, quote (those of root, PCK CA and TCB signer are remembered, and so are keys). Warm: those of PCK,
 * QE report, quote. A platform and a quote that were never seen need two keys more: PCK, attestation.
 */
const COLD = { signatures: 7, keys: 0 };
const WARM = { signatures: 3, keys: 0 };
const NEW_KEYS = 2;
/** What the first verification of a process does beside: root, PCK CA and TCB signer, and their keys. */
const FIRST = { signatures: 3, keys: 5 };

interface Evidence {
  name: string;
  quote: Uint8Array;
  collateral: Collateral;
  now: Date;
  trust: TrustAnchor;
}

function evidence(): Evidence {
  if (!existsSync(vectors))
    return {
      name: "SYNTHETIC quote: without the vectors no real one is measured, and no peer, whose only root is Intel's",
      ...buildEvidence({ format: "td10-v4" }),
    };
  return {
    name: "real TDX quote",
    quote: new Uint8Array(readFileSync(new URL("tdx_quote", vectors))),
    collateral: JSON.parse(readFileSync(new URL("tdx_quote_collateral.json", vectors), "utf8")),
    now: new Date("2025-06-20"),
    trust: intelRoot,
  };
}

/** Mean milliseconds of processor time of each of several tasks that take turns. */
async function race<K extends string>(tasks: Record<K, () => unknown>): Promise<Record<K, number>> {
  const names = Object.keys(tasks) as K[];
  const spent = Object.fromEntries(names.map((name) => [name, 0])) as Record<K, number>;
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    for (const name of names) {
      const start = process.cpuUsage();
      for (let i = 0; i < BATCH; i++) await tasks[name]();
      const { user, system } = process.cpuUsage(start);
      if (round >= 0) spent[name] += (user + system) / 1000;
    }
  }
  return Object.fromEntries(names.map((name) => [name, spent[name] / (ROUNDS * BATCH)])) as Record<K, number>;
}

type Peer = (quote: Uint8Array, collateral: Collateral, seconds: number) => unknown;

/** The peers know Intel's root only: without the real quote they are not measured. */
function peers(real: boolean): { js: Peer; wasm: Peer } | undefined {
  if (!real) return undefined;
  const js = createRequire(import.meta.url)("@phala/dcap-qvl") as { verify: Peer };
  initSync({
    module: readFileSync(new URL(import.meta.resolve("@phala/dcap-qvl-web/dcap-qvl-web_bg.wasm"))),
  });
  return {
    js: (...args) => js.verify(...args),
    wasm: (quote, collateral, seconds) => js_verify(quote, collateral, BigInt(seconds)),
  };
}

const nativeNames: Readonly<Record<string, string>> = {
  ring: "dcap-qvl 0.7.1 (Rust, ring)",
  rustcrypto: "dcap-qvl 0.7.1 (Rust, rustcrypto)",
  "go-tdx-guest": "go-tdx-guest 0.3.1",
};

function withScratch<T>(work: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), "caisson-bench-"));
  try {
    return work(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The import of one P-256 key, and one check with it. */
async function signatureCost(crypto: typeof nodeCrypto | typeof webCrypto) {
  const key = TestKey.derive("bench", "key");
  const data = new Uint8Array(600);
  const signature = key.sign(data);
  const imported = await crypto.importP256(key.publicKey);
  return {
    key: () => crypto.importP256(key.publicKey),
    check: () => crypto.verifyP256(imported as never, signature, data),
  };
}

/** Bytes of `measure` and `verify` as a browser gets them. */
async function bundleSize(): Promise<number> {
  const result = await build({
    stdin: {
      contents: 'export * from "@caisson/measure"; export * from "@caisson/verify";',
      resolveDir: new URL("../packages/cli/", import.meta.url).pathname,
    },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    platform: "browser",
  });
  return gzipSync(result.outputFiles[0]!.text, { level: 9 }).length;
}

const EVENTS = [100, limits.runtimeEvents] as const;
/** 4,096 of them within 100 ms. */
const EVENT_LIMIT_US = 25;

/** Microseconds that one runtime event more costs, from evidence with few to evidence with as many as are read. */
async function eventCost(): Promise<number> {
  const policy = readPolicy({
    version: "caisson/policy/v1",
    events: { sequence: ["first"], afterBoundary: "any" },
  });
  const times = [];
  for (const count of EVENTS) {
    const runtimeEvents = Array.from({ length: count }, (_, i) => ({
      name: i === 0 ? "first" : `event-${i}`,
      payload: new Uint8Array(32).fill(i),
    }));
    const digests = runtimeEvents.map(({ name, payload }) => runtimeEventDigest(name, payload));
    const rtmr3 = await fold(await Promise.all(digests));
    const { quote, collateral, now, trust } = buildEvidence({
      format: "td10-v4",
      td: { rtmr3: toHex(rtmr3) },
    });
    const evidence = { platform: "tdx", quote, runtimeEvents } as const;
    const verified = await verifyCollateral(collateral, now, trust);
    const judge = () =>
      verifyEvidence({ ...evidence, runtimeEvents }, { policy, now, trust, collateral: verified });
    const replayed = (await judge()).checks.find(({ id }) => id === "events/boundary");
    if (replayed?.outcome !== "not-checked") throw new Error("the events do not replay");
    for (let i = 0; i < 5; i++) await judge();
    const start = process.cpuUsage();
    for (let i = 0; i < 10; i++) await judge();
    const { user, system } = process.cpuUsage(start);
    times.push((user + system) / 10);
  }
  return (times[1]! - times[0]!) / (EVENTS[1] - EVENTS[0]);
}

type Milliseconds<Name extends string> = Readonly<Record<Name, number>>;

/** The same quote by JavaScript and WASM in this process, and by programs of their own. */
async function* againstPeers(
  quote: Uint8Array,
  collateral: Collateral,
  seconds: number,
  ms: Milliseconds<"cold" | "js" | "wasm" | "key">,
): AsyncIterable<Row> {
  yield { name: "  against @phala/dcap-qvl (JavaScript)", unit: "ms", ours: ms.cold, peer: ms.js };
  yield { name: "  against @phala/dcap-qvl-web (WASM)", unit: "ms", ours: ms.cold, peer: ms.wasm };
  const native = withScratch((scratch) => nativePeers(scratch, quote, collateral, seconds, NATIVE_ROUNDS));
  const { ours: alone, ...times } = Object.fromEntries(native.ms);
  if (alone === undefined) throw new Error(native.missing.join("; "));
  const ours = alone + NEW_KEYS * ms.key;
  const note = `each in a process of its own; ours with ${NEW_KEYS} keys more, as for another platform`;
  for (const [peer, time] of Object.entries(times)) {
    yield { name: `  against native ${nativeNames[peer] ?? peer}`, unit: "ms", ours, peer: time, note };
  }
  for (const reason of native.missing) {
    yield { name: "  a native peer is NOT measured", unit: "ms", ours, note: reason };
  }
}

/** Beside what its signature checks cost by themselves. */
function* againstSignatures(ms: Milliseconds<"cold" | "warm" | "check" | "key">): Iterable<Row> {
  yield {
    name: "verify, the first time in a process (sum of the above)",
    unit: "ms",
    ours: ms.cold + FIRST.signatures * ms.check + FIRST.keys * ms.key,
  };
  const [cold, warm] = [COLD, WARM].map(({ signatures, keys }) => signatures * ms.check + keys * ms.key) as [
    number,
    number,
  ];
  yield {
    name: "  against its signature checks alone",
    unit: "ms",
    ours: ms.cold,
    limit: cold,
    note: `${COLD.signatures} P-256, ${COLD.keys} keys`,
  };
  yield { name: "verify, warm (collateral verified before)", unit: "ms", ours: ms.warm };
  yield {
    name: "  against its signature checks alone",
    unit: "ms",
    ours: ms.warm,
    limit: warm,
    note: `${WARM.signatures} P-256, ${WARM.keys} keys`,
  };
  yield {
    name: "verifications a second, warm, one core",
    unit: "/s",
    ours: 1000 / ms.warm,
    limit: 1000 / warm,
  };
}

/** What is still held after many more verifications. */
async function* heapRows(verify: () => Promise<unknown>): AsyncIterable<Row> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const heap = () => {
    collect();
    return process.memoryUsage().heapUsed / 1e6;
  };
  for (let i = 0; i < 1000; i++) await verify();
  const before = heap();
  for (let i = 0; i < MEMORY_ROUNDS; i++) await verify();
  yield {
    name: `heap after ${MEMORY_ROUNDS} verifications more`,
    unit: "MB",
    ours: heap(),
    peer: before,
    note: "peer: before them",
  };
}

export async function* run(): AsyncIterable<Row> {
  const { name, quote, collateral, now, trust } = evidence();
  const seconds = now.getTime() / 1000;
  const verified = await verifyCollateral(collateral, now, trust);
  const others = peers(trust === intelRoot);
  const [node, web] = [await signatureCost(nodeCrypto), await signatureCost(webCrypto)];
  const tasks = {
    cold: () => verifyQuote(quote, collateral, now, trust),
    warm: () => verifyQuote(quote, verified, now, trust),
    check: node.check,
    key: node.key,
    webCheck: web.check,
    webKey: web.key,
    js: () => others?.js(quote, collateral, seconds),
    wasm: () => others?.wasm(quote, collateral, seconds),
  };
  const ms = await race(tasks);
  yield { name: `verify, cold (${name})`, unit: "ms", ours: ms.cold };
  if (others !== undefined) yield* againstPeers(quote, collateral, seconds, ms);
  yield* againstSignatures(ms);
  yield {
    name: `one runtime event more, up to ${limits.runtimeEvents}`,
    unit: "µs",
    ours: await eventCost(),
    limit: EVENT_LIMIT_US,
    note: "limit: a whole log within 100 ms",
  };
  yield {
    name: "one P-256 check, fresh key",
    unit: "ms",
    ours: ms.check + ms.key,
    peer: ms.webCheck + ms.webKey,
    note: "peer: WebCrypto",
  };
  yield {
    name: "browser bundle of measure + verify, gzip",
    unit: "kB",
    ours: (await bundleSize()) / 1000,
    limit: 62,
  };
  yield* heapRows(tasks.warm);
}
