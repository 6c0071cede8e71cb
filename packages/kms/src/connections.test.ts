// SPDX-License-Identifier: Apache-2.0
/** How much one address, and the network around it, may take of a KMS. */
import { deepEqual, equal, match } from "node:assert/strict";
import { connect, type Socket } from "node:net";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { httpPost } from "@caisson/guest/key-client";
import { keyReleaseVersion } from "@caisson/protocol/key-release";
import type { Kms, KmsOptions } from "./server.ts";
import { keysFrom, post, testKms } from "./testing/kms.ts";
import { Machine } from "./testing/machine.ts";

const machine = new Machine(Date.now());

const start = (t: TestContext, options: Partial<KmsOptions> = {}) => testKms(t, { app: machine }, options);

/** What a GET from another address of this host answers. */
function getFrom(address: string, kms: Kms, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const port = Number(new URL(kms.url).port);
    const socket = connect({ port, host: "127.0.0.1", localAddress: address }, () =>
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`),
    );
    let answer = "";
    socket.setEncoding("latin1").on("data", (text: string) => {
      answer += text;
    });
    socket.on("error", reject).on("close", () => resolve(answer));
  });
}

test("one address cannot ask more often than its rate", async (t) => {
  const kms = await start(t, { perAddress: { perSecond: 1, burst: 2 } });
  const hello = JSON.stringify({ version: keyReleaseVersion });
  const statuses = [];
  for (let i = 0; i < 3; i++) statuses.push((await post(kms.url, hello, "/v1/hello")).status);
  deepEqual(statuses, [200, 200, 429]);
  const paths = ["/v1/log/head", "/nothing", "/healthz", "/metrics"];
  for (const path of paths) equal((await fetch(`${kms.url}${path}`)).status, 429, path);
  // Counted, but the log is not for everyone to fill.
  const page = await getFrom("127.0.0.2", kms, "/metrics");
  equal(page.includes('code="http/rate-limited"} 5'), true);
  equal(kms.lines.join().includes("rate-limited"), false);
});

/** What a client gets that sends these bytes at once, until the KMS closes the connection. */
function sendAll(kms: Kms, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connect(Number(new URL(kms.url).port), "127.0.0.1", () => socket.write(bytes));
    socket.setEncoding("latin1").on("data", (text: string) => {
      answer += text;
    });
    socket.on("error", () => {}).on("close", () => resolve(answer));
  });
}

test("a connection that asks again before it has its answer is closed: answers do not pile up", async (t) => {
  const kms = await start(t);
  const request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  const answers = (text: string) => text.split("HTTP/1.1 200").length - 1;
  equal(answers(await sendAll(kms, request)), 1);
  const piled = request.replace("close", "keep-alive").repeat(1000);
  equal(answers(await sendAll(kms, piled)) <= 1, true);
});

/** A connection from an address of this host; `bytes` is the beginning of a request. */
function hold(kms: Kms, from: string, bytes = "POST /v1/hello HTTP/1.1\r\n"): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect({ port: Number(new URL(kms.url).port), host: "127.0.0.1", localAddress: from });
    socket.on("error", () => {}).resume();
    socket.once("connect", () => socket.write(bytes, () => resolve(socket)));
  });
}

const closed = (socket: Socket) =>
  socket.destroyed ? undefined : new Promise((resolve) => socket.once("close", resolve));

test("one address has a share of the connections: of its own, the one that is idle for longest gives way", async (t) => {
  const kms = await start(t, { perAddress: { perSecond: 5, burst: 3 } });
  const other = await hold(kms, "127.0.1.2");
  const held = [];
  for (let i = 0; i < 5; i++) held.push(await hold(kms, "127.0.0.1"));
  await Promise.all([closed(held[0]!), closed(held[1]!)]);
  deepEqual(
    [other, ...held].map(({ destroyed }) => destroyed),
    [false, true, true, false, false, false],
  );
});

test("all 512 connections are held by many addresses: one of theirs gives way, and newcomers are served", async (t) => {
  const kms = await start(t);
  // Four networks, 13 addresses each, more than there is room for; they say nothing more than a beginning.
  const held = await Promise.all(
    Array.from({ length: 640 }, (_, i) => hold(kms, `127.10.${i % 4}.${1 + ((i >> 2) % 13)}`)),
  );
  for (let i = 0; i < 20; i++) match(await getFrom(`127.20.${i}.1`, kms, "/healthz"), /^HTTP\/1.1 200 /);
  equal(held.filter(({ destroyed }) => !destroyed).length <= 512, true);
  for (const socket of held) socket.destroy();
});

test("a request that has arrived is answered although its sender opens more connections than he may", async (t) => {
  const kms = await start(t, { perAddress: { perSecond: 50, burst: 3 } });
  const post = httpPost(kms.url, 10_000);
  const keys = await keysFrom(kms, machine, {
    post: async (path, body) => {
      const answer = post(path, body);
      if (path === "/v1/release") for (let i = 0; i < 8; i++) await hold(kms, "127.0.0.1");
      return answer;
    },
  });
  equal(keys.applicationKey.length, 32);
});

test("86 MiB of bodies that never end: their networks lose some, and a slow guest is answered", async (t) => {
  const kms = await start(t);
  const begin = (length: number) => `POST /v1/hello HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n`;
  const [head, tail] = [`{"version":${" ".repeat(1_000_000)}`, `"${keyReleaseVersion}"}`];
  const guest = await hold(kms, "127.20.0.1", begin(head.length + tail.length) + head);
  const answer = new Promise<string>((resolve) => guest.setEncoding("latin1").once("data", resolve));
  // Smaller than the guest's: it is the sum over a network that counts.
  const bytes = begin(700_000) + " ".repeat(699_999);
  const held = await Promise.all(
    Array.from({ length: 129 }, (_, i) => hold(kms, `127.10.${i % 3}.${1 + (i % 10)}`, bytes)),
  );
  const lost = () => held.filter(({ destroyed }) => destroyed).length;
  for (const limit = Date.now() + 60_000; lost() < 34 && Date.now() < limit; ) await sleep(20);
  equal(lost() >= 34 && lost() <= 40, true, `${lost()} of 129 were closed`);
  guest.write(tail);
  match(await answer, /^HTTP\/1.1 200 /);
  for (const socket of held) socket.destroy();
});
