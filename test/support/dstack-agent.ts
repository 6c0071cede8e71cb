// SPDX-License-Identifier: Apache-2.0
/**
 * The guest agent's sockets as a service sees them, over a machine that only the tests know, for the SDKs of dstack. Its
 * quotes are those of a simulated platform, under the test root.
 */
import type { Server } from "node:http";
import { serveDstack } from "@caisson/guest/dstack";
import { bootLog, quoteOver } from "@caisson/guest/testing/trusted-domain";
import { plainService } from "@caisson/protocol/testing/service";
import { buildEvidence, now } from "@caisson/verify/testing/evidence";
import { ours, theirs, type Verdict } from "./quote-oracle.ts";

/** What our verifier and dstack's say of a quote of that machine. */
export async function judge(quote: Uint8Array): Promise<[ours: Verdict, theirs: Verdict]> {
  const { collateral } = buildEvidence({});
  return [await ours(quote, collateral, now), theirs(quote, collateral, now)];
}

const context = {
  config: { app: { name: "shop", services: { web: plainService() }, networks: {}, volumes: {} } },
  platform: {
    name: "tdx",
    quote: async (reportData: Uint8Array) => quoteOver(reportData),
    bootLog: () => Promise.resolve(bootLog()),
  },
  appId: new Uint8Array(20).fill(1),
  instanceId: new Uint8Array(20).fill(2),
  keys: { root: new Uint8Array(32).fill(7), kms: "ab" },
  events: () => [{ name: "app-id", payload: new Uint8Array(20).fill(1) }],
} as unknown as Parameters<typeof serveDstack>[0];

/** Serves both APIs at each of these paths; the caller closes the servers. */
export function serveAgent(...paths: readonly string[]): Promise<Server[]> {
  const owner = { user: process.getuid!(), group: process.getgid!(), shared: true };
  return Promise.all(paths.map((path) => serveDstack(context, path, owner)));
}
