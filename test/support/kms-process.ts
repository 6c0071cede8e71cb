// SPDX-License-Identifier: Apache-2.0
/** `caisson kms serve` as a process of a test's own, and a guest that asks it for keys. */
import { type ChildProcess, spawn } from "node:child_process";
import type { TestContext } from "node:test";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import type { Machine } from "@caisson/kms/testing/machine";

/** The commands' entry, for the Node that runs the tests. */
export const cli = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;

export interface Replica {
  port: number;
  /** http://127.0.0.1:PORT */
  url: string;
  identityKey: string;
  process: ChildProcess;
}

/** Starts one on the data directory and waits until it serves; it ends with the test. `env` is added to this process's. */
export async function startReplica(
  t: TestContext,
  data: string,
  more: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Replica> {
  const args = ["kms", "serve", "--data", data, "--listen", "127.0.0.1:0", "--development", "--json"];
  const child = spawn(process.execPath, [cli, ...args, ...more], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  t.after(() => child.kill("SIGKILL"));
  let text = "";
  for await (const chunk of child.stdout) {
    text += chunk;
    if (text.endsWith("}\n")) break;
  }
  const { url, identityKey } = JSON.parse(text) as { url: string; identityKey: string };
  return { port: Number(new URL(url).port), url, identityKey, process: child };
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
