// SPDX-License-Identifier: Apache-2.0
/**
 * Our verifier as the native peers are measured: a process of its own, one quote with its collateral again and again, and its
 * processor time for each in ms. `node ours.ts QUOTE COLLATERAL SECONDS ROUNDS`
 */
import { readFileSync } from "node:fs";
import { intelRoot, readCollateral, verifyQuote } from "@caisson/verify";

const [quotePath, collateralPath, seconds, rounds] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
];
const quote = new Uint8Array(readFileSync(quotePath));
const collateral = readCollateral(JSON.parse(readFileSync(collateralPath, "utf8")));
const now = new Date(Number(seconds) * 1000);

async function check(times: number): Promise<void> {
  for (let i = 0; i < times; i++) await verifyQuote(quote, collateral, now, intelRoot);
}

// V8 compiles for longer than a native program warms its caches.
await check(1000);
const start = process.cpuUsage();
await check(Number(rounds));
const { user, system } = process.cpuUsage(start);
console.log("ours", (user + system) / 1000 / Number(rounds));
