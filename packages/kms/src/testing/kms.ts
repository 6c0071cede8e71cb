// SPDX-License-Identifier: Apache-2.0
/** A KMS over HTTP, for tests of what it says to whoever connects. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { httpPost, type KeyRequest, requestKeys } from "@caisson/guest/key-client";
import { createRootSecret } from "../root-secret.ts";
import { type Kms, type KmsOptions, startKms } from "../server.ts";
import type { Machine } from "./machine.ts";

export interface TestKms extends Kms {
  data: string;
  /** A file for each machine, by its name. */
  policies: string;
  /** What it logged. */
  lines: string[];
}

/** Starts one that has a policy for each of these machines; it ends with the test. */
export async function testKms(
  t: TestContext,
  machines: Readonly<Record<string, Machine>>,
  options: Partial<KmsOptions> = {},
): Promise<TestKms> {
  const directory = mkdtempSync(join(tmpdir(), "caisson-kms-"));
  const [data, policies] = [join(directory, "data"), join(directory, "policies")];
  mkdirSync(policies);
  for (const [name, machine] of Object.entries(machines)) {
    writeFileSync(join(policies, `${name}.json`), JSON.stringify(machine.policyFile()));
  }
  createRootSecret(data);
  const lines: string[] = [];
  const kms = await startKms({
    data,
    policies,
    host: "127.0.0.1",
    port: 0,
    development: true,
    log: (line) => lines.push(line),
    ...options,
  });
  t.after(async () => {
    await kms.close();
    rmSync(directory, { recursive: true });
  });
  return { ...kms, data, policies, lines };
}

/** The keys that a machine in good order gets over HTTP, by this machine's clock; `changes` are of what it asks with. */
export function keysFrom(
  { url, identityKey }: Pick<Kms, "url" | "identityKey">,
  machine: Machine,
  changes: Partial<KeyRequest> = {},
) {
  const state = machine.booted(identityKey);
  return requestKeys({
    post: httpPost(url, 10_000),
    identityKey: Uint8Array.fromHex(identityKey),
    evidence: (reportData) => machine.evidence(state, reportData),
    now: Date.now,
    toleranceMs: 2000,
    ...changes,
  });
}

/** What a KMS answers to this body. */
export async function post(url: string, body: string | Uint8Array, path = "/v1/release") {
  const response = await fetch(`${url}${path}`, { method: "POST", body: body as BodyInit });
  return { status: response.status, body: (await response.json()) as unknown };
}

/** A sample of the metrics page; undefined where it is not there. */
export async function metric({ url }: Pick<Kms, "url">, name: string): Promise<number | undefined> {
  const page = await (await fetch(`${url}/metrics`)).text();
  const found = page.split("\n").find((line) => line.startsWith(`${name} `));
  return found === undefined ? undefined : Number(found.slice(name.length));
}
