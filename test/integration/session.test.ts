// SPDX-License-Identifier: Apache-2.0
/**
 * What a session has started when it fails is ended, whatever else fails on the way, and the reason is the first. A state
 * directory has one session at a time.
 */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { once } from "node:events";
import { symlinkSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { Manifest } from "@caisson/image";
import { type SessionOptions, startSession } from "@caisson/machine/session";
import { StateBusyError } from "@caisson/machine/state";
import type { TimeSource } from "@caisson/nts";
import { plainService } from "@caisson/protocol/testing/service";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

/** A session that has all but its machine. */
function optionsOf(t: TestContext): SessionOptions {
  const image = temporaryDirectory("session", t);
  const app = { name: "one", services: { one: plainService() }, networks: {}, volumes: {} };
  const manifest = {
    name: "one",
    commandLine: "console=ttyS0",
    kernel: { file: "kernel" },
    rootfs: { file: "rootfs" },
    firmware: { emulated: { code: { file: "code" }, variables: { file: "variables" } } },
    guest: { app, time: { secure_time: false } },
  } as unknown as Manifest;
  const references = Object.fromEntries(
    ["mrtd", "rtmr0", "rtmr1", "rtmr2"].map((name) => [name, "00".repeat(48)]),
  );
  return { image, manifest, shape: { vcpus: 1, memory: 512 }, references, state: join(image, "state") };
}

test("a session that cannot start leaves no time server and no KMS behind", async (t) => {
  let kms = "";
  let timePort = 0;
  await rejects(
    startSession({
      ...optionsOf(t),
      hooks: {
        timeServers: [{ operator: "alpha" }],
        kms: async (at) => {
          kms = at;
          return { url: at, close: () => Promise.reject(new Error("it does not end")) };
        },
        instance: (instance) => {
          timePort = (instance.time as { sources: TimeSource[] }).sources[0]!.kePort;
          return instance;
        },
        machine: () => {
          throw new Error("there is no such machine");
        },
      },
    }),
    { message: "there is no such machine" },
  );
  for (const port of [timePort, Number(new URL(kms).port)]) {
    const [error] = await once(connect({ port, host: "127.0.0.1" }), "error");
    equal(error.code, "ECONNREFUSED");
  }
});

test("a second session on one state directory is refused, by whatever path, until the first is gone", async (t) => {
  const options = optionsOf(t);
  const linked = join(options.image, "linked");
  symlinkSync("state", linked);
  const refusals: unknown[] = [];
  const one = (): Promise<unknown> =>
    startSession({
      ...options,
      hooks: {
        kms: async (url) => {
          for (const state of [options.state!, linked]) {
            refusals.push(await startSession({ ...options, state }).catch((error: unknown) => error));
          }
          return { url, close: async () => {} };
        },
        machine: () => {
          throw new Error("there is no such machine");
        },
      },
    });
  for (let round = 1; round <= 2; round++) {
    await rejects(one(), { message: "there is no such machine" });
    deepEqual(
      refusals.map((error) => error instanceof StateBusyError && error.code),
      Array(2 * round).fill("up/busy"),
    );
  }
});
