// SPDX-License-Identifier: Apache-2.0
/** Evidence is what the machine says, and what the host gave to go with it, unread. */
import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import type { Instance } from "@caisson/protocol/instance";
import type { RuntimeLog } from "./event-log.ts";
import { attester } from "./evidence.ts";
import type { PlatformAdapter } from "./platform.ts";

const platform = {
  name: "emulated",
  quote: async (reportData: Uint8Array) => reportData,
  bootLog: async () => Uint8Array.of(1),
} as unknown as PlatformAdapter;
const log = { events: [] } as unknown as RuntimeLog;
const claim = { scheme: "raw", fields: { data: "00" } } as const;

test("release and collateral are carried as the host gave them, and left out where it gave none", async () => {
  let given: Partial<Instance> | undefined;
  const attest = attester(platform, log, () => given);
  const bare = await attest(Uint8Array.of(2), claim);
  deepEqual(bare, {
    version: "caisson/evidence/v1",
    platform: "emulated",
    quote: "Ag==",
    bootLog: "AQ==",
    runtimeEvents: [],
    reportData: claim,
  });
  given = { seed: "5a".repeat(20), secrets: {} };
  deepEqual(await attest(Uint8Array.of(2), claim), bare);
  given = { ...given, release: { any: "thing" }, collateral: { another: "thing" } };
  const { release, collateral } = given;
  deepEqual(await attest(Uint8Array.of(2), claim), { ...bare, release, collateral });
});
