// SPDX-License-Identifier: Apache-2.0
/** A KMS over HTTP, from its start to its end: connections, restarts and shutdown. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { httpPost } from "@caisson/guest/key-client";
import { keyReleaseVersion } from "@caisson/protocol/key-release";
import { type Kms, type KmsOptions, startKms } from "./server.ts";
import { readOnlySqlite } from "./store/sqlite.ts";
import { verifyReleaseLog } from "./store/verify.ts";
import { keysFrom, testKms } from "./testing/kms.ts";
import { Machine } from "./testing/machine.ts";

const machine = new Machine(Date.now());

const start = (t: TestContext, options: Partial<KmsOptions> = {}) => testKms(t, { app: machine }, options);

test("a guest gets its keys over HTTP, the same ones every time", async (t) => {
  const kms = await start(t);
  const [first, second] = [await keysFrom(kms, machine), await keysFrom(kms, machine)];
  deepEqual(first.applicationKey, second.applicationKey);
  deepEqual(first.instanceKey, second.instanceKey);
  equal(first.app, machine.app);
});

/** Passes connections on to a KMS, and counts them; `closeIdle` ends those that are open. */
async function counted(t: TestContext, kms: Kms) {
  const open = new Set<Socket>();
  const seen = { connections: 0 };
  const proxy = createServer((socket) => {
    seen.connections += 1;
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    const onward = connect(Number(new URL(kms.url).port), "127.0.0.1");
    for (const end of [socket, onward]) end.on("error", () => {});
    socket.pipe(onward).pipe(socket);
  });
  await new Promise<void>((resolve) => void proxy.listen(0, "127.0.0.1", resolve));
  const closeIdle = () => {
    for (const socket of open) socket.destroy();
    open.clear();
  };
  t.after(() => {
    closeIdle();
    proxy.close();
  });
  return { seen, open, closeIdle, url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` };
}

test("hello and release share a connection; where that is gone, the release takes a new one", async (t) => {
  const kms = await start(t);
  const { seen, closeIdle, url } = await counted(t, kms);
  const state = machine.booted(kms.identityKey);
  for (const [meanwhile, connections] of [
    [() => {}, 1],
    [closeIdle, 3],
  ] as const) {
    const keys = await keysFrom({ ...kms, url }, machine, {
      evidence: (reportData) => {
        meanwhile();
        return machine.evidence(state, reportData);
      },
    });
    equal(keys.app, machine.app);
    equal(seen.connections, connections);
  }
});

test("the KMS ends a connection with the answer to its release, also where that is no", {
  timeout: 60_000,
}, async (t) => {
  const kms = await start(t);
  const key = "00".repeat(32);
  const unknownNonce = { version: keyReleaseVersion, nonce: key, ephemeralKey: key, evidence: {} };
  for (const body of [JSON.stringify(unknownNonce), "{}"]) {
    const options = { method: "POST", body, headers: { connection: "keep-alive" } };
    const answer = await fetch(`${kms.url}/v1/release`, options);
    await answer.arrayBuffer();
    // What is malformed may come again on its connection; it is one of its sender's share, and gives way when idle.
    deepEqual(
      [answer.status, answer.headers.get("connection")],
      body === "{}" ? [400, "keep-alive"] : [403, "close"],
    );
  }
  const { open, url } = await counted(t, kms);
  await keysFrom({ ...kms, url }, machine);
  // The connection of a machine that has its keys.
  while (!t.signal.aborted && open.size > 0) await sleep(10);
});

test("a clock that was set back: what was issued before is refused, and whoever has that time gets keys", async (t) => {
  const clock = { now: Date.now() };
  const kms = await start(t, { now: () => clock.now });
  const keys = (meanwhile = () => {}) =>
    keysFrom(kms, machine, {
      evidence: (reportData) => {
        meanwhile();
        return machine.evidence(machine.booted(kms.identityKey), reportData);
      },
      now: () => clock.now,
    });
  await keys();
  await rejects(
    keys(() => {
      clock.now -= 600_000;
    }),
    { code: "keys/denied", denial: "nonce/expired" },
  );
  // A guest that agreed on the time uses no keys of a KMS that is ten minutes behind; one that is as wrong does.
  await rejects(keysFrom(kms, machine), { code: "keys/time" });
  await keys();
  clock.now += 600_000;
  await keysFrom(kms, machine);
  const log = readOnlySqlite(join(kms.data, "release-log.sqlite"));
  const report = await verifyReleaseLog(log, { identity: kms.identityKey });
  equal(report.released, 4);
});

test("health says who it is", async (t) => {
  const kms = await start(t);
  const health = await (await fetch(`${kms.url}/healthz`)).json();
  deepEqual(health, { status: "ok", identityKey: kms.identityKey });
});

test("identity and keys survive a restart", async (t) => {
  const kms = await start(t);
  const before = await keysFrom(kms, machine);
  await kms.close();
  const { data, policies } = kms;
  const again = await startKms({ data, policies, host: "127.0.0.1", port: 0, development: true });
  t.after(() => again.close());
  equal(again.identityKey, kms.identityKey);
  deepEqual((await keysFrom(again, machine)).applicationKey, before.applicationKey);
  const log = readOnlySqlite(join(kms.data, "release-log.sqlite"));
  equal((await verifyReleaseLog(log, { identity: kms.identityKey })).released, 2);
});

test("a request that never ends does not hold up shutdown for long", async (t) => {
  const kms = await start(t);
  const socket = connect(Number(new URL(kms.url).port), "127.0.0.1");
  await new Promise((resolve) => socket.once("connect", resolve));
  socket.write("POST /v1/release HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n{");
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.on("error", () => {});
  // It says that it has the request's head.
  await once(socket, "data");
  socket.resume();
  const started = performance.now();
  await kms.close();
  await closed;
  const ms = performance.now() - started;
  // It was given its time (timers may fire a little early), and not more.
  equal(ms > 1900 && ms < 8000, true, `${ms} ms`);
});

test("a request that is under way at shutdown gets its answer", async (t) => {
  const kms = await start(t);
  const post = httpPost(kms.url, 10_000);
  const closing: Promise<void>[] = [];
  const keys = await keysFrom(kms, machine, {
    post: async (path, body) => {
      const answer = post(path, body);
      if (path === "/v1/release") {
        // Long enough for the request to arrive, and not for evidence to be verified and logged.
        await new Promise((resolve) => setTimeout(resolve, 1));
        closing.push(kms.close());
      }
      return answer;
    },
  }).catch((error: unknown) => (error as { code: string }).code);
  await Promise.all(closing);
  // Either it arrived in time, and the answer is whole; or it was not accepted any more.
  if (typeof keys === "string") equal(keys, "keys/unreachable");
  else equal(keys.applicationKey.length, 32);
});

test("a port that is taken is an error that says so", async (t) => {
  const kms = await start(t);
  await rejects(start(t, { port: Number(new URL(kms.url).port) }), {
    code: "kms/listen",
    kind: "unavailable",
  });
});
