// SPDX-License-Identifier: Apache-2.0
/** `caisson kms serve` as a process of a test's own, and a guest that asks it for keys. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { createRootSecret } from "@caisson/kms";
import type { Machine } from "@caisson/kms/testing/machine";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

/** The commands' entry, for the Node that runs the tests. */
export const cli = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;

export interface Replica {
  port: number;
  /** http://127.0.0.1:PORT */
  url: string;
  identityKey: string;
  process: ChildProcess;
  /** What it wrote to stderr so far. */
  log: () => string;
}

/** A directory with a new KMS's secret and a policy for each of `machines`; removed after the test. */
export function kmsFiles(t: TestContext, machines: readonly Machine[]): { data: string; policies: string } {
  const path = temporaryDirectory("kms", t);
  const policies = join(path, "policies");
  mkdirSync(policies);
  for (const [i, one] of machines.entries()) {
    writeFileSync(join(policies, `${i}.json`), JSON.stringify(one.policyFile()));
  }
  createRootSecret(join(path, "data"));
  return { data: join(path, "data"), policies };
}

/**
 * Starts one on the data directory and waits until it serves; it ends with the test, which shows what it wrote where it
 * failed. `env` is added to this process's.
 */
export async function startReplica(
  t: TestContext,
  data: string,
  more: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Replica> {
  const args = ["kms", "serve", "--data", data, "--listen", "127.0.0.1:0", "--development", "--json"];
  const child = spawn(process.execPath, [cli, ...args, ...more], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  let log = "";
  child.stderr.on("data", (chunk: Buffer) => {
    log += chunk;
  });
  t.after(() => {
    child.kill("SIGKILL");
    if (!t.passed) process.stderr.write(log);
  });
  let text = "";
  for await (const chunk of child.stdout) {
    text += chunk;
    if (text.endsWith("}\n")) break;
  }
  const { url, identityKey } = JSON.parse(text) as { url: string; identityKey: string };
  return { port: Number(new URL(url).port), url, identityKey, process: child, log: () => log };
}

/** The keys of a guest that booted in good order, whose clock is `now` (ms). */
export const exchange = (
  url: string,
  identityKey: string,
  guest: Machine,
  now: () => number = Date.now,
  post = httpPost(url, 20_000),
) =>
  requestKeys({
    post,
    identityKey: Uint8Array.fromHex(identityKey),
    evidence: (reportData) => guest.evidence(guest.booted(identityKey), reportData),
    now,
    toleranceMs: 5000,
  });
