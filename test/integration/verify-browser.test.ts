// SPDX-License-Identifier: Apache-2.0
/**
 * The verifier in a browser: `measure` and `verify` bundled as a relying party would, without polyfills, small, and
 * giving the same verdicts in Chromium as in Node.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { buildEvidence } from "@caisson/verify/testing/evidence";
import { toHex } from "@caisson/vocabulary/bytes";
import { browserBundle } from "../support/browser-bundle.ts";
import { browserPage } from "../support/browser-page.ts";

const vectors = new URL("../../../shared/vectors/dcap-qvl/", import.meta.url);
/** Bytes of the bundle after gzip, at most. */
const BUNDLE_LIMIT = 62_000;

/** Everything of both packages, as one ES module for browsers. */
const bundle = () =>
  browserBundle("cli", 'export * from "@caisson/measure"; export * from "@caisson/verify";');

test("the bundle needs nothing of Node and is small", async (t) => {
  const code = await bundle();
  // esbuild fails on `node:` imports for browsers; globals of Node would only fail when they are reached.
  for (const name of ["Buffer", "process", "require"])
    equal(new RegExp(`\\b${name}\\b`).test(code), false, name);
  const size = gzipSync(code, { level: 9 }).length;
  t.diagnostic(`${size} bytes after gzip, ${code.length} before`);
  ok(size <= BUNDLE_LIMIT, `${size} bytes`);
});

interface Input {
  quote: string;
  collateral: object;
  at: number;
  rootKey: string;
}

/** What the page runs; it sees only the bundle. */
const page = `
import * as caisson from "/bundle.js";
window.judge = async ({ quote, collateral, at, rootKey }) => {
  const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
  const trust = rootKey === "" ? caisson.intelRoot : { name: "test root", rootKey: bytes(rootKey) };
  const evidence = { platform: "tdx", quote: bytes(quote), collateral };
  const report = await caisson.verifyGenuine(evidence, { now: new Date(at), trust });
  return { verdict: report.verdict, codes: report.codes, status: report.platform?.tcbStatus };
};
`;

test("in Chromium: a right quote is accepted, a forged one is not", { timeout: 120_000 }, async (t) => {
  const run = await browserPage(t, await bundle(), page);
  const judge = (input: Input) => run(input) as Promise<{ verdict: string; codes: string[] }>;

  const synthetic = (change: Parameters<typeof buildEvidence>[0]): Input => {
    const { quote, collateral, now, trust } = buildEvidence(change);
    return { quote: toHex(quote), collateral, at: now.getTime(), rootKey: toHex(trust.rootKey) };
  };
  const accepted = { verdict: "accepted", codes: [], status: "UpToDate" };
  for (const format of ["td15-v5", "td10-v4", "sgx-v3"] as const) {
    deepEqual(await judge(synthetic({ format })), accepted);
  }
  const forged = synthetic({
    quote: (quote) => {
      const copy = Uint8Array.from(quote);
      copy[48 + 136]! ^= 1; // MRTD
      return copy;
    },
  });
  deepEqual((await judge(forged)).codes, ["quote/signature"]);
  deepEqual((await judge(synthetic({ before: (h) => void h.pckCrl.revoked.push(h.pck.serial) }))).codes, [
    "certificate/revoked",
  ]);

  if (!existsSync(vectors))
    return t.diagnostic("no real quote: the vectors are not here (../shared/vectors)");
  const real: Input = {
    quote: toHex(readFileSync(new URL("tdx_quote", vectors))),
    collateral: JSON.parse(readFileSync(new URL("tdx_quote_collateral.json", vectors), "utf8")),
    at: Date.parse("2025-06-20"),
    rootKey: "",
  };
  deepEqual(await judge(real), accepted);
  const changed = `${real.quote.slice(0, 1000)}${real.quote[1000] === "0" ? "1" : "0"}${real.quote.slice(1001)}`;
  deepEqual((await judge({ ...real, quote: changed })).codes, ["quote/signature"]);
  return undefined;
});
