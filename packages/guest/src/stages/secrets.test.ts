// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { test } from "node:test";
import { plainService } from "@caisson/protocol/testing/service";
import { withSecrets } from "../services/prepare.ts";
import type { Context } from "../stage.ts";
import { secrets } from "./secrets.ts";

const utf8 = (value: string) => new TextEncoder().encode(value);
const declares = [{ name: "DB_URL" }, { name: "TOKEN", environment: "API_TOKEN" }];

/** A machine whose application declares secrets, and what its KMS gave. */
function machine(given?: Record<string, string>) {
  const measured: [string, string][] = [];
  const app = { name: "a", services: { a: plainService({ secrets: declares }) }, networks: {}, volumes: {} };
  const values = new Map(Object.entries(given ?? {}).map(([name, value]) => [name, utf8(value)]));
  const context = {
    config: { app },
    ...(given !== undefined && { secrets: { hash: "ab".repeat(32), values } }),
    measure: async (name: string, payload: Uint8Array) => void measured.push([name, payload.toHex()]),
  } as unknown as Context;
  return { context, measured };
}

test("the document is measured before anything gets a secret, and the console gets names alone", async () => {
  const { context, measured } = machine({ DB_URL: "postgres://u:hunter2@db", TOKEN: "t" });
  const note = await secrets.run(context);
  deepEqual(measured, [["secrets", "ab".repeat(32)]]);
  equal(note?.includes("hunter2"), false);
});

for (const [name, given, reason] of [
  ["none", undefined, "secrets/missing"],
  ["one too few", { TOKEN: "t" }, "secrets/names"],
  ["one too many", { DB_URL: "x", TOKEN: "t", MORE: "m" }, "secrets/names"],
  ["other names", { DB_URL: "x", token: "t" }, "secrets/names"],
] as const) {
  test(`the boot stops, and nothing is measured: ${name}`, async () => {
    const { context, measured } = machine(given);
    await rejects(secrets.run(context), { reason });
    deepEqual(measured, []);
  });
}

test("a variable has a secret only where the description asks for that", () => {
  const { context } = machine({ DB_URL: "x", TOKEN: "t0ken" });
  const { environment } = withSecrets(context, plainService({ secrets: declares, environment: { A: "b" } }));
  deepEqual(environment, { A: "b", API_TOKEN: "t0ken" });
});

test("what no variable can hold is refused", () => {
  const service = plainService({ secrets: declares });
  const given = (token: Uint8Array) => ({
    secrets: { hash: "", values: new Map([["TOKEN", token]]) },
  });
  throws(() => withSecrets(given(utf8("a\0b")), service), { reason: "secrets/environment" });
  throws(() => withSecrets(given(Uint8Array.of(0xff)), service), { reason: "secrets/environment" });
});
