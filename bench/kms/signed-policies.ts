// SPDX-License-Identifier: Apache-2.0
/**
 * What a KMS costs that has policies of many applications, all of which operators signed: its start, a change at one
 * replica, the same change at another that follows it, and a release beside them.
 *
 * The policies are put into the store as requests leave them (one request for each would take hours); what reads them,
 * and every change that is measured, is the KMS's own.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { Agent, get } from "node:http";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Row } from "@caisson/cli/commands/bench";
import { createRootSecret, openLogStore, openRootSecret, operatorEnvelope, sendRequest } from "@caisson/kms";
import type { Machine } from "@caisson/kms/testing/machine";
import { writeSignedPolicies } from "@caisson/kms/testing/signed-policies";
import { writeEnvelope } from "@caisson/releases";
import { type Signer, signedBy, signer } from "@caisson/releases/testing/signers";
import { besideFirst, median } from "../figures/figures.ts";
import { load, metrics, type Server, serve } from "./server.ts";

/** Changes that are measured, and as many again while another client asks all the time. */
const changes = 4;
const releases = { warmUp: 500, measured: 1000, atATime: 8 };

/** `databases` gives one of its own for each count, the first of which the others are beside; none: a file. */
export async function* signedPolicies(
  what: string,
  given: { directory: string; counts: readonly number[]; machines: readonly Machine[] },
  databases: () => readonly string[],
): AsyncIterable<Row> {
  const { directory, counts, machines } = given;
  yield* besideFirst(
    counts,
    (count) => costOf(join(directory, `signed-${what}-${count}`), count, machines, databases()),
    [
      ["processor time of the start", "ms", "start"],
      ["resident memory after the start", "MiB", "memory"],
      ["processor time of a release", "ms", "release"],
      ["a change, from request to answer", "ms", "written"],
      ["processor time of a change at another replica", "ms", "followed"],
      ["longest wait for an answer there meanwhile", "ms", "stall"],
      ["resident memory after changes", "MiB", "later"],
    ],
    (text, count) => `${what}: ${text}, ${count} signed policies`,
  );
}

async function costOf(
  data: string,
  count: number,
  machines: readonly Machine[],
  databases: readonly string[],
) {
  createRootSecret(data);
  const store = await openLogStore(data, databases, openRootSecret(data, { development: true }));
  const others = Array.from({ length: count - 1 }, () => randomBytes(20).toHex());
  const [machine] = machines;
  const file = machine!.policyFile();
  const policyOf = (app: string) => JSON.stringify(app === machine!.app ? file : policyOfOthers(file, app));
  await writeSignedPolicies(store, [machine!.app, ...others], policyOf);
  await store.close();

  const operator = signer("operator");
  const operators = join(data, "operators.json");
  writeFileSync(operators, JSON.stringify({ keys: [operator.publicKey], threshold: 1 }));
  const options = ["--operators", operators, "--rate-per-address", "100000"];
  const database = databases.flatMap((url) => ["--database", url]);
  const servers: Server[] = [];
  try {
    for (let i = 0; i < 2; i++) servers.push(await serve(data, undefined, ...options, ...database));
    const [one, other] = servers as [Server, Server];
    const started = await metrics(one.url);
    await load(one, machines, releases.warmUp, releases.atATime);
    const before = await metrics(one.url);
    const times = await load(one, machines, releases.measured, releases.atATime);
    const after = await metrics(one.url);
    const change = async () => {
      const app = randomBytes(20).toHex();
      const policy = policyOf(app);
      const envelope = signedPolicy(operator, { kms: one.identityKey, app, policy });
      const taken = reloaded(other);
      const began = performance.now();
      await sendRequest(one.url, envelope);
      const written = performance.now() - began;
      await taken;
      return written;
    };
    // What is compiled and read for the first change is not a cost of the others.
    await change();
    const written: number[] = [];
    const unfollowed = await metrics(other.url);
    for (let i = 0; i < changes; i++) written.push(await change());
    const followed = await metrics(other.url);
    const stalls: number[] = [];
    for (let i = 0; i < changes; i++) stalls.push(await longestWait(other, change));
    return {
      start: 1000 * started(processor),
      memory: resident(started),
      release: (1000 * (after(processor) - before(processor))) / times.length,
      written: median(written),
      followed: (1000 * (followed(processor) - unfollowed(processor))) / changes,
      stall: median(stalls),
      later: resident(await metrics(other.url)),
    };
  } finally {
    for (const { process } of servers) {
      process.kill();
      await once(process, "exit");
    }
  }
}

const processor = "process_cpu_seconds_total";
const resident = (value: (name: string) => number) => value("process_resident_memory_bytes") / 2 ** 20;

/** As the policy file of a machine, of another application, whose image has measurements of its own. */
export function policyOfOthers(file: Record<string, unknown>, app: string): object {
  const [mrtd, rtmr0, rtmr1, rtmr2] = Array.from({ length: 4 }, () => randomBytes(48).toHex());
  const references = [{ name: "image", mrtd, rtmr0, rtmr1, rtmr2 }];
  return { ...file, app, policy: { ...(file.policy as object), references } };
}

/** What an operator sends who signs alone. */
function signedPolicy(operator: Signer, asked: { kms: string; app: string; policy: string }): object {
  const envelope = operatorEnvelope({
    version: "caisson/kms-request/v1",
    action: "policy/set",
    expires: Date.now() + 3_600_000,
    replaces: 0,
    ...asked,
  });
  return writeEnvelope(signedBy(envelope, operator));
}

/** Once a replica says that other policies are in force. */
function reloaded({ process: { stderr } }: Server): Promise<void> {
  return new Promise((resolve) => {
    let text = "";
    const more = (chunk: Buffer) => {
      text += chunk;
      if (!text.includes('"event":"reloaded"')) return;
      stderr!.off("data", more);
      resolve();
    };
    stderr!.on("data", more);
  });
}

/** The longest that a client waits who asks one thing after the other while `work` goes on, in ms. */
async function longestWait({ url }: Server, work: () => Promise<unknown>): Promise<number> {
  const agent = new Agent({ keepAlive: true });
  const ask = () =>
    new Promise<void>((resolve, reject) => {
      get(`${url}/healthz`, { agent }, (response) => response.resume().once("end", resolve)).on(
        "error",
        reject,
      );
    });
  let longest = 0;
  let done = false;
  const working = work().finally(() => {
    done = true;
  });
  while (!done) {
    const began = performance.now();
    await ask();
    longest = Math.max(longest, performance.now() - began);
    await setTimeout(5);
  }
  await working;
  agent.destroy();
  return longest;
}
