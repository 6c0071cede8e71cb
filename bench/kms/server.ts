// SPDX-License-Identifier: Apache-2.0
/** A KMS as a process of its own, started from the command line, and guests that are simulated here. */
import { type ChildProcess, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { withPatience } from "@caisson/guest/patience";
import type { Machine } from "@caisson/kms/testing/machine";

const cli = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;

export interface Server {
  url: string;
  identityKey: string;
  /** Where Node's inspector listens, which is not there before it is asked for: its presence costs 2 to 4 %. */
  inspector: () => Promise<string>;
  process: ChildProcess;
}

/** `policies`: a directory; without one, what operators signed. */
export async function serve(data: string, policies: string | undefined, ...more: string[]): Promise<Server> {
  const files = policies === undefined ? [] : ["--policy-dir", policies];
  const args = ["kms", "serve", "--data", data, ...files, "--listen", "127.0.0.1:0"];
  const common = ["--development", "--json"];
  const child = spawn(process.execPath, ["--inspect-port=127.0.0.1:0", cli, ...args, ...common, ...more], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const document = await read(child.stdout, /^\{[^]*\}\n$/);
  let inspector: Promise<string> | undefined;
  const inspect = () => {
    const address = read(child.stderr, /ws:\/\/\S+/);
    child.kill("SIGUSR1");
    return address;
  };
  child.stderr.resume();
  return {
    ...(JSON.parse(document) as { url: string; identityKey: string }),
    inspector: () => (inspector ??= inspect()),
    process: child,
  };
}

/** The first match in what a process writes. */
function read(stream: Readable, pattern: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const more = (chunk: Buffer) => {
      text += chunk;
      const found = pattern.exec(text)?.[0];
      if (found === undefined) return;
      stream.off("data", more);
      resolve(found);
    };
    stream.on("data", more);
    stream.once("end", () => reject(new Error(`the KMS ended: ${text}`)));
  });
}

/** Values of the KMS's own metrics. */
export async function metrics(url: string): Promise<(name: string) => number> {
  const page = await (await fetch(`${url}/metrics`)).text();
  return (name) => Number(new RegExp(`^${name} (.+)$`, "m").exec(page)?.[1]);
}

/** No part of the run takes longer than this, in ms: on a slow or busy machine it measures fewer releases, and says so. */
export const longest = 60_000;

/**
 * Releases keys to `count` guests, `width` at a time, each from the next of the servers; the times from request to
 * answer, in ms: of as many as there was time for.
 */
export async function load(
  servers: Server | readonly Server[],
  machines: readonly Machine[],
  count: number,
  width: number,
): Promise<number[]> {
  const times: number[] = [];
  const balanced = [servers].flat() as Server[];
  let next = 0;
  const until = performance.now() + longest;
  const worker = async () => {
    while (next < count && performance.now() < until) {
      const server = balanced[next % balanced.length]!;
      const machine = machines[next++ % machines.length]!;
      // As a guest: it asks again where this machine had no time for its connection.
      await withPatience(() => {
        // One connection for the hello and the release of a boot.
        const post = httpPost(server.url, 60_000);
        return requestKeys({
          post: async (path, body) => {
            const started = performance.now();
            const answer = await post(path, body);
            if (path === "/v1/release") times.push(performance.now() - started);
            return answer;
          },
          identityKey: Uint8Array.fromHex(server.identityKey),
          evidence: (reportData) => machine.evidence(machine.booted(server.identityKey), reportData),
          now: Date.now,
          toleranceMs: 60_000,
        });
      });
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return times.sort((a, b) => a - b);
}
