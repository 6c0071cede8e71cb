// SPDX-License-Identifier: Apache-2.0
/** Clients that hold a connection without sending a request. The limits are the real ones, so this takes 10 s. */
import { deepEqual, equal, match } from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import test from "node:test";
import { setImmediate as immediate, setTimeout as sleep } from "node:timers/promises";
import { keyReleaseVersion } from "@caisson/protocol/key-release";
import { testKms } from "./testing/kms.ts";
import { Machine } from "./testing/machine.ts";

const slow: { name: string; begin: string; drip: string; seconds: number }[] = [
  { name: "says nothing", begin: "", drip: "", seconds: 2 },
  {
    name: "drips headers",
    begin: "POST /v1/release HTTP/1.1\r\nHost: x\r\n",
    drip: "A: b\r\n",
    seconds: 10,
  },
  {
    name: "drips a body",
    begin: "POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
    drip: "{",
    seconds: 10,
  },
];

test("connections that send nothing in 2 s, no whole request in 10 s, are closed; others are served meanwhile", async (t) => {
  const kms = await testKms(t, { app: new Machine(Date.now()) });
  const held = slow.map(({ name, begin, drip, seconds }) => {
    const started = performance.now();
    return new Promise<{ name: string; seconds: number; ms: number }>((resolve) => {
      const socket = connect(Number(new URL(kms.url).port), "127.0.0.1", () => socket.write(begin));
      const timer = setInterval(() => socket.write(drip), 400);
      socket.resume();
      socket.on("error", () => {});
      socket.on("close", () => {
        clearInterval(timer);
        resolve({ name, seconds, ms: performance.now() - started });
      });
    });
  });
  const hello = JSON.stringify({ version: keyReleaseVersion });
  const served: Promise<number>[] = [];
  const timer = setInterval(() => {
    served.push(fetch(`${kms.url}/v1/hello`, { method: "POST", body: hello }).then(({ status }) => status));
  }, 2000);
  const closed = await Promise.all(held);
  clearInterval(timer);
  for (const { name, seconds, ms } of closed) {
    equal(ms > 900 * seconds && ms < 1000 * seconds + 6000, true, `${name}: ${ms} ms`);
  }
  equal(served.length >= 3, true);
  deepEqual(new Set(await Promise.all(served)), new Set([200]));
});

test("a KMS that was held up answers who has sent meanwhile", async (t) => {
  const kms = await testKms(t, { app: new Machine(Date.now()) });
  const socket = connect(Number(new URL(kms.url).port), "127.0.0.1");
  await once(socket, "connect");
  await sleep(100);
  // What comes next in a turn of the loop are timers.
  await immediate();
  socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2500);
  const [answer] = (await once(socket, "data")) as [Buffer];
  match(answer.toString(), /^HTTP\/1.1 200 /);
});
