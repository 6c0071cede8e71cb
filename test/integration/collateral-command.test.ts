// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson collateral fetch` and `verify --collateral fetch` as a user runs them, against a server on the loopback with
 * the real collateral of a real quote, on a day on which it was valid: the command's clock is set back before it
 * starts.
 */
import { deepEqual, equal, match } from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { testGuest, testPlatform } from "@caisson/client/testing/guest";
import { serveCollateral } from "@caisson/simulated/collateral-server";
import type { Collateral } from "@caisson/verify";

const vectors = new URL("../../../shared/vectors/dcap-qvl/", import.meta.url);
const skip = existsSync(vectors) ? false : "../shared/vectors is absent";
const main = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;
const day = Date.parse("2025-06-20T12:00:00Z");
const clock = `data:text/javascript,${encodeURIComponent(
  `const past = ${day} - Date.now(); const now = Date.now; Date.now = () => now() + past;
   globalThis.Date = class extends Date { constructor(...a) { super(...(a.length === 0 ? [now() + past] : a)); } };`,
)}`;

async function begin(t: TestContext) {
  const place = mkdtempSync(join(tmpdir(), "caisson-collateral-command-"));
  const collateral = JSON.parse(
    readFileSync(new URL("tdx_quote_collateral.json", vectors), "utf8"),
  ) as Collateral;
  const { fmspc } = JSON.parse(collateral.tcb_info) as { fmspc: string };
  const server = await serveCollateral({ [`${fmspc.toUpperCase()}/standard`]: collateral });
  t.after(async () => {
    await server.close();
    rmSync(place, { recursive: true });
  });
  const run = async (...args: string[]) => {
    const child = spawn(process.execPath, ["--import", clock, main, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, CAISSON_CACHE: join(place, "cache") },
    });
    const status = new Promise<number | null>((resolve) => void child.once("exit", resolve));
    const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
    return { status: await status, out, err };
  };
  return { place, server, collateral, run };
}
const quote = new URL("tdx_quote", vectors).pathname;

test("fetched, verified, kept; stapled to the evidence, which then needs nothing else", {
  skip,
}, async (t) => {
  const { place, server, collateral, run } = await begin(t);
  const fetched = await run("collateral", "fetch", quote, "--from", server.url);
  equal(fetched.status, 0, fetched.err);
  deepEqual((JSON.parse(fetched.out) as Collateral).tcb_info, collateral.tcb_info);
  match(fetched.err, /fetched; number \d+; issued 2025-06-\d\d, valid until 2025-07-\d\d; from http/);
  equal(server.asked.length, 4);
  equal(readdirSync(join(place, "cache", "collateral")).length > 0, true);

  const whole = join(place, "stapled.json");
  const stapled = await run("collateral", "fetch", quote, "--from", server.url, "--staple", "-o", whole);
  equal(stapled.status, 0, stapled.err);
  equal(server.asked.length, 4, "what is kept is not asked for again");
  const judged = await run("verify", whole);
  equal(judged.status, 0, judged.err);
  match(judged.out, /^GENUINE/m);
});

test("judged with what is fetched; without a server, what is kept; without either, nobody can tell", {
  skip,
}, async (t) => {
  const { server, run } = await begin(t);
  const source = ["--collateral", "fetch", "--collateral-source", server.url];
  const without = await run("verify", quote, ...source, "--offline");
  equal(without.status, 75, without.err);
  match(without.err, /collateral\/offline/);
  equal((await run("verify", quote, ...source)).status, 0);
  server.quirks = { status: 404 };
  equal((await run("verify", quote, ...source)).status, 0);
  equal((await run("verify", quote, ...source, "--offline")).status, 0);
  equal((await run("verify", quote)).status, 20);
});

test("advice by Intel's two sets, and the place in a list of one's own", { skip }, async (t) => {
  const { place, server, collateral, run } = await begin(t);
  const fmspc = [...server.intel.keys()][0]!.split("/")[0]!;
  server.intel.set(`${fmspc}/early`, collateral);
  const source = ["--collateral", "fetch", "--collateral-source", server.url];
  const shown = JSON.parse((await run("verify", quote, ...source, "--json")).out) as {
    platform: { ppid: string };
  };
  const places = join(place, "places.txt");
  writeFileSync(places, `# ours\n${shown.platform.ppid} rack 7\n`);
  const advised = await run("tcb", quote, ...source, "--places", places, "--json");
  equal(advised.status, 0, advised.err);
  const { sets, place: found } = JSON.parse(advised.out) as {
    sets: { set: string; accepted: boolean }[];
    place: unknown;
  };
  deepEqual(
    sets.map(({ set, accepted }) => [set, accepted]),
    [
      ["standard", true],
      ["early", true],
    ],
  );
  match(JSON.stringify(found), /rack 7/);
  equal(
    server.asked.some((path) => path.includes("update=early")),
    true,
  );
});

test("what cannot be stapled, or fetched, is said", { skip }, async (t) => {
  const { server, run } = await begin(t);
  const without = await run(
    "collateral",
    "fetch",
    "--fmspc",
    "B0C06F000000",
    "--from",
    server.url,
    "--staple",
  );
  deepEqual([without.status, /--staple puts collateral into evidence/.test(without.err)], [2, true]);
  server.quirks = { body: "html" };
  const lying = await run("collateral", "fetch", quote, "--from", server.url);
  equal(lying.status, 30);
  match(lying.err, /collateral\/answer/);
});

test("fetched for evidence that came over a front's own connection", async (t) => {
  const platform = testPlatform();
  const guest = await testGuest(platform, (_, response) => response.end("here"));
  const { collateral, trust } = platform.judgement;
  const { fmspc } = JSON.parse(collateral.tcb_info) as { fmspc: string };
  const server = await serveCollateral({ [`${fmspc.toUpperCase()}/standard`]: collateral });
  const place = mkdtempSync(join(tmpdir(), "caisson-collateral-front-"));
  t.after(async () => {
    guest.close();
    await server.close();
    rmSync(place, { recursive: true });
  });
  // The root of the test's platform stands in Intel's place, in the command's process alone.
  const root = Buffer.from(trust.rootKey).toString("hex");
  const patch = new URL("../support/patched-module.ts", import.meta.url).href;
  const roots = `data:text/javascript,${encodeURIComponent(
    `import { patchModule } from "${patch}"; patchModule("/packages/verify/src/intel/roots.ts",
     (source) => source.replace(/rootKey: fromHex\\([\\s\\S]*?\\)!/, 'rootKey: fromHex("${root}")!'));`,
  )}`;
  writeFileSync(join(place, "policy.json"), JSON.stringify(platform.written));
  const judged = [
    "--policy",
    join(place, "policy.json"),
    "--collateral",
    "fetch",
    "--collateral-source",
    server.url,
  ];
  const child = spawn(
    process.execPath,
    ["--import", roots, main, "verify", "--from", guest.url, ...judged, "--cache", join(place, "cache")],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const status = new Promise<number | null>((resolve) => void child.once("exit", resolve));
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  equal(await status, 0, err + out);
  match(out, /this connection ends in the guest/);
  equal(server.asked.length, 4);
});
