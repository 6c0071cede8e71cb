// SPDX-License-Identifier: Apache-2.0
/**
 * The front as the program that images get, in a process of its own, with the descriptors that PID 1 gives it: a thousand
 * verifiers at once, and everybody who would keep them out.
 */
import { equal, ok } from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttp } from "node:http";
import http2 from "node:http2";
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type TLSSocket } from "node:tls";
import { frontService } from "@caisson/guest/front";
import { bundleGuest } from "@caisson/image/bundle";
import { writeFrontSetup } from "@caisson/protocol/front-setup";
import { tunnelTypes } from "@caisson/protocol/tunnel";
import { leafHash, verifyInclusion } from "@caisson/vocabulary/merkle";

/** As long as the emulated platform's quote takes. */
const quoteMs = 1_000;

interface Started {
  child: ChildProcess;
  port: number;
  quotes: string[];
}

/** Starts the front: setup over a pipe, a socket that listens, and PID 1's answers at a path of this test's. */
async function start(
  t: TestContext,
  quoted: () => Promise<unknown> = () => sleep(quoteMs),
): Promise<Started> {
  const place = mkdtempSync(join(tmpdir(), "caisson-front-"));
  const quotes: string[] = [];
  const guest = createHttp((request, response) => {
    void text(request).then(async (body) => {
      const { nonceRoot } = JSON.parse(body) as { nonceRoot: string };
      quotes.push(nonceRoot);
      await quoted();
      response.end(JSON.stringify({ root: nonceRoot }));
    });
  });
  const application = createHttp((request, response) => {
    request.resume();
    response.end("hello");
  });
  guest.listen(join(place, "channel.sock"));
  application.listen(0, "127.0.0.1");
  await Promise.all([once(guest, "listening"), once(application, "listening")]);

  const { code } = await bundleGuest("packages/front/src/main.ts");
  const parts = Buffer.from(code).toString("utf8").split("/run/channel.sock");
  equal(parts.length, 2, "the bundle names PID 1's socket once");
  writeFileSync(join(place, "front.mjs"), parts.join(join(place, "channel.sock")));
  const listening = createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1024 });
  await once(listening, "listening");
  const { port } = listening.address() as AddressInfo;
  const { fd } = (listening as unknown as { _handle: { fd: number } })._handle;
  const target = (application.address() as AddressInfo).port;
  const description = { port, service: "app", target, names: [], require: "tls" as const };
  const { arguments: words, environment } = frontService(description);
  const child = spawn(process.execPath, [...words.slice(1, -1), join(place, "front.mjs")], {
    stdio: ["pipe", fd, "pipe"],
    env: environment,
  });
  t.after(async () => {
    const ended = once(child, "exit");
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    else child.emit("exit");
    await ended;
    for (const server of [guest, application]) {
      server.closeAllConnections();
      server.close();
    }
    rmSync(place, { recursive: true });
  });
  const tls = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  child.stdin!.end(
    writeFrontSetup({
      tlsKey: tls.export({ format: "der", type: "pkcs8" }).toString("base64"),
      hpkeKey: Buffer.alloc(32, 7).toString("base64"),
      application: { host: "127.0.0.1", port: target },
      require: "tls",
      names: ["front.internal"],
    }),
  );
  const [said] = (await once(child.stderr!, "data")) as [Buffer];
  equal(said.toString(), "the front listens\n");
  listening.close();
  return { child, port, quotes };
}

async function open(port: number): Promise<TLSSocket> {
  const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] });
  await once(socket, "secureConnect");
  socket.on("error", () => socket.destroy());
  return socket;
}

/** One request over a connection of its own; the whole answer. */
async function ask(port: number, path: string): Promise<string> {
  const socket = await open(port);
  socket.write(`GET ${path} HTTP/1.1\r\nHost: front.internal\r\nConnection: close\r\n\r\n`);
  return text(socket);
}

const evidence = (nonce: string) => `/.well-known/caisson/evidence?nonce=${nonce}`;
const residentMiB = ({ pid }: ChildProcess): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;

test("1,000 verifiers at once: each finds its nonce, under two quotes at most", {
  timeout: 120_000,
}, async (t) => {
  const asked = Promise.withResolvers<void>();
  const { port, quotes } = await start(t, () => asked.promise);
  const nonceOf = (i: number) => i.toString(16).padStart(64, "0");
  const reading: Promise<string>[] = [];
  const asks = async (i: number) => {
    const socket = await open(port);
    socket.write(`GET ${evidence(nonceOf(i))} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    reading[i] = text(socket);
  };
  // In small lots, and each asks at once: the front gives up who takes long to shake hands or to ask.
  for (let i = 0; i < 1000; i += 50) await Promise.all(Array.from({ length: 50 }, (_, n) => asks(i + n)));
  // The first quote ends when the front has read all of them, as it has when it answers one that connected later.
  await ask(port, "/");
  asked.resolve();
  const answers = await Promise.all(reading);
  ok(quotes.length <= 2, `${quotes.length} quotes`);
  for (const [i, answer] of answers.entries()) {
    const { evidence: quoted, nonce } = JSON.parse(answer.slice(answer.indexOf("\r\n\r\n")));
    ok(quotes.includes(quoted.root));
    const path = nonce.path.map((hash: string) => Uint8Array.fromHex(hash));
    const leaf = { index: nonce.index, leaf: await leafHash(Uint8Array.fromHex(nonceOf(i))) };
    equal(
      await verifyInclusion(leaf, { size: nonce.count, root: Uint8Array.fromHex(quoted.root) }, path),
      true,
    );
  }
});

test("half-open, slow, oversized and endless connections all at once: others are served, and memory is bounded", {
  timeout: 180_000,
}, async (t) => {
  const { port, child } = await start(t);
  const held: Socket[] = [];
  const timers: NodeJS.Timeout[] = [];
  t.after(() => {
    for (const timer of timers) clearInterval(timer);
    for (const socket of held) socket.destroy();
  });
  const keep = <Kind extends Socket>(socket: Kind): Kind => {
    socket.on("error", () => socket.destroy());
    held.push(socket);
    return socket;
  };
  const every = (ms: number, work: () => void) => void timers.push(setInterval(work, ms));
  // More than the front holds at all, and none says a word.
  for (let i = 0; i < 4_500; i++) {
    keep(connectTcp(port, "127.0.0.1"));
    if (i % 100 === 0) await sleep(5);
  }
  const heads = await Promise.all(Array.from({ length: 50 }, async () => keep(await open(port))));
  for (const socket of heads) socket.write("GET / HTTP/1.1\r\nHost: a\r\nX: ");
  every(200, () => heads.map((socket) => socket.writable && socket.write("a")));
  // Sealed requests of 16 MiB that never end, and bodies that are not such a request.
  const uploads = await Promise.all(Array.from({ length: 20 }, async () => keep(await open(port))));
  for (const socket of uploads) {
    socket.write(
      `POST /.well-known/caisson/tunnel HTTP/1.1\r\nHost: a\r\nContent-Type: ${tunnelTypes.request}\r\nContent-Length: 16000000\r\n\r\n`,
    );
  }
  const piece = Buffer.alloc(256 << 10, 1);
  every(50, () =>
    uploads.map((socket) => socket.writable && socket.writableLength < 1 << 20 && socket.write(piece)),
  );
  const large = await Promise.all(Array.from({ length: 10 }, async () => keep(await open(port))));
  for (const socket of large) socket.write(`GET / HTTP/1.1\r\nHost: a\r\nX: ${"a".repeat(1 << 20)}\r\n\r\n`);
  const sessions = Array.from({ length: 5 }, () => {
    const made = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
    made.on("error", () => undefined);
    t.after(() => made.destroy());
    return made;
  });
  every(10, () => {
    for (const one of sessions.filter(({ destroyed, closed }) => !destroyed && !closed)) {
      for (let i = 0; i < 20; i++) {
        const stream = one.request({ ":path": "/" });
        stream.on("error", () => undefined);
        stream.close(http2.constants.NGHTTP2_CANCEL);
      }
    }
  });
  for (let i = 0; i < 10; i++) {
    const limit = AbortSignal.timeout(60_000);
    const answer = await Promise.race([
      ask(port, i % 2 === 0 ? "/" : evidence(`${i}`.repeat(64))),
      once(limit, "abort"),
    ]);
    ok(
      typeof answer === "string" && answer.startsWith("HTTP/1.1 200"),
      `request ${i}: ${String(answer).slice(0, 80)}`,
    );
  }
  equal(child.exitCode, null);
  ok(residentMiB(child) < 700, `${residentMiB(child)} MiB`);
});

test("a setup that is none ends it at once, before anybody is served", { timeout: 60_000 }, async () => {
  const socket = createServer().listen(0, "127.0.0.1");
  await once(socket, "listening");
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  const main = new URL("../../packages/front/src/main.ts", import.meta.url).pathname;
  for (const setup of ["", "{}", "not JSON"]) {
    const child = spawn(process.execPath, [main], { stdio: ["pipe", fd, "ignore"] });
    child.stdin!.end(setup);
    const [code] = (await once(child, "exit")) as [number];
    ok(code > 0, setup);
  }
  socket.close();
});
