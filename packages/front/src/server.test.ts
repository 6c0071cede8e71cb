// SPDX-License-Identifier: Apache-2.0
/** The front before an application of a test: what passes, what is answered here, and what nobody gets through. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import http2 from "node:http2";
import https from "node:https";
import { connect as connectTcp, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import fc from "fast-check";
import { ask, certificate, client, connected, echo, field, heard, raw, start } from "./testing/front.ts";

test("a request passes with method, path, body and fields; its answer with status, fields and body", async (t) => {
  const { port } = await start(t, (request, response) => {
    response.writeHead(418, "Teapot", [
      ["set-cookie", "a=1"],
      ["set-cookie", "b=2"],
      ["x-own", "yes"],
      ["caisson-verdict", "forged"],
    ]);
    request.pipe(response);
  });
  const answer = await ask(port, "/a%20b?c=d", { method: "PUT", headers: { "x-a": "1" }, body: "hello" });
  deepEqual([answer.status, answer.body.toString()], [418, "hello"]);
  deepEqual(answer.headers["set-cookie"], ["a=1", "b=2"]);
  equal(answer.headers["x-own"], "yes");
  equal(answer.headers["caisson-verdict"], undefined);
});

test("what says where a request comes from is the front's, however a client writes it", async (t) => {
  const { port } = await start(t, echo);
  const forged = {
    "Caisson-Channel": "tunnel",
    caisson_channel: "tunnel",
    "X-Forwarded-For": "192.0.2.1",
    x_forwarded_proto: "http",
    Forwarded: "for=192.0.2.1",
    "X-Real-IP": "192.0.2.1",
    Connection: "x-secret, authorization, keep-alive",
    "X-Secret": "1",
    Authorization: "Bearer a",
    Host: "guest.example",
  };
  const { raw: got } = heard(await ask(port, "/", { headers: forged }));
  deepEqual(field(got, "caisson-channel"), ["tls"]);
  deepEqual(field(got, "x-forwarded-for"), ["127.0.0.1"]);
  deepEqual(field(got, "x-forwarded-proto"), ["https"]);
  deepEqual(field(got, "x-forwarded-host"), ["guest.example"]);
  deepEqual(field(got, "host"), ["guest.example"]);
  for (const name of ["caisson_channel", "x_forwarded_proto", "forwarded", "x-real-ip", "x-secret"]) {
    deepEqual(field(got, name), [], name);
  }
  deepEqual(field(got, "authorization"), ["Bearer a"], "a client does not take a field away behind a check");
});

for (const [name, request] of [
  [
    "Content-Length and Transfer-Encoding",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
  ],
  [
    "two lengths",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
  ],
  [
    "a list of lengths",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 40\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
  ],
  [
    "a transfer coding that is not chunked at the end",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
  ],
  [
    "chunked by another name",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
  ],
  [
    "white space before the colon",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
  ],
  [
    "a folded line",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n Transfer-Encoding: chunked\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
  ],
  ["a bare line feed", "GET / HTTP/1.1\nHost: a\n\nGET /smuggled HTTP/1.1\nHost: a\n\n"],
  ["a bare carriage return in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: b\rGET /smuggled HTTP/1.1\r\n\r\n"],
  ["two hosts", "GET /smuggled HTTP/1.1\r\nConnection: close\r\nHost: a\r\nHost: b\r\n\r\n"],
  ["no host", "GET /smuggled HTTP/1.1\r\n\r\n"],
  ["a host that is a path", "GET /smuggled HTTP/1.1\r\nConnection: close\r\nHost: a/b\r\n\r\n"],
  [
    "an absolute target",
    "GET http://other.example/smuggled HTTP/1.1\r\nConnection: close\r\nHost: a\r\n\r\n",
  ],
  ["CONNECT", "CONNECT smuggled:80 HTTP/1.1\r\nHost: a\r\n\r\n"],
  ["a target without a slash", "GET smuggled HTTP/1.1\r\nHost: a\r\n\r\n"],
  [
    "a chunk whose size overflows",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nGET /smuggled HTTP/1.1\r\n\r\n",
  ],
  ["NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"],
  ["HTTP/2's preface without its agreement", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
] as const) {
  test(`not smuggled to the application: ${name}`, async (t) => {
    const urls: string[] = [];
    const { port } = await start(t, (request, response) => {
      urls.push(request.url!);
      request.resume();
      response.end("ok");
    });
    const answer = await raw(port, request);
    equal(urls.filter((url) => url.includes("smuggled")).length, 0, urls.join(" "));
    match(answer, /^(HTTP\/1.1 400|$)/);
  });
}

test("a GET with a chunked body ends where it ends", async (t) => {
  const seen: string[] = [];
  const { port } = await start(t, async (request, response) => {
    seen.push(`${request.url} ${await text(request)}`);
    response.end("ok");
  });
  const inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
  await raw(
    port,
    `GET /one HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`,
  );
  deepEqual(seen, [`/one ${inner}`]);
});

test("random requests: whatever the front passes on is one request with a path that it checked", async (t) => {
  const urls: string[] = [];
  const { port, front } = await start(t, (request, response) => {
    urls.push(request.url!);
    request.resume();
    response.end();
  });
  const piece = fc.constantFrom(
    "GET ",
    "POST ",
    "/a",
    " HTTP/1.1",
    "\r\n",
    "\n",
    "\r",
    "Host: a",
    "Content-Length: 3",
    "Transfer-Encoding: chunked",
    "0",
    "abc",
    " ",
    "\t",
    "\0",
    ":",
    "Ehbp-Encapsulated-Key: 00",
    "Upgrade: websocket",
    "Connection: upgrade",
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 30 }), async (pieces) => {
      await raw(port, pieces.join(""), { forMs: 60 });
      for (const url of urls) match(url, /^\/[^\s#]*$/);
    }),
    { numRuns: 60 },
  );
  equal(front.server.listening, true);
  equal((await ask(port, "/")).status, 200);
});

test("HTTP/2: cookies are one field, a request without a body has none, and answers pass", async (t) => {
  const { port } = await start(t, echo);
  const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  t.after(() => session.destroy());
  const call = (headers: http2.OutgoingHttpHeaders, body?: string): Promise<string> => {
    const stream = session.request(headers, { endStream: body === undefined });
    if (body !== undefined) stream.end(body);
    return text(stream);
  };
  const first = JSON.parse(await call({ ":path": "/x", cookie: ["a=1", "b=2"], "x-forwarded-for": "9" }));
  deepEqual(field(first.raw, "cookie"), ["a=1; b=2"]);
  deepEqual(field(first.raw, "x-forwarded-for"), ["127.0.0.1"]);
  deepEqual([field(first.raw, "transfer-encoding"), first.method, first.url], [[], "GET", "/x"]);
  const second = JSON.parse(await call({ ":path": "/y", ":method": "POST" }, "hello"));
  deepEqual([second.body, field(second.raw, "transfer-encoding")], ["hello", ["chunked"]]);
});

test("HTTP/2: an authority and another host are not one request's", async (t) => {
  let asked = 0;
  const { port } = await start(t, (_, response) => {
    asked++;
    response.end("ok");
  });
  const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  t.after(() => session.destroy());
  const status = (host: string) =>
    new Promise<number>((resolve) => {
      const stream = session.request({ ":path": "/", ":authority": "a.example", host });
      stream.once("response", (headers) => resolve(headers[":status"]!)).resume();
    });
  deepEqual([await status("a.example"), await status("b.example"), asked], [200, 400, 1]);
});

test("a stream's beginning arrives before its end, and a client that leaves ends it", {
  timeout: 60_000,
}, async (t) => {
  const gone = Promise.withResolvers<void>();
  const { port } = await start(t, (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    setTimeout(() => response.write("data: 1\n\n"), 100);
    response.once("close", () => gone.resolve());
  });
  const request = https.get({ host: "127.0.0.1", port, agent: client });
  const [response] = (await once(request, "response")) as [IncomingMessage];
  const [piece] = (await once(response, "data")) as [Buffer];
  equal(piece.toString(), "data: 1\n\n");
  request.on("error", () => {});
  request.destroy();
  await gone.promise;
});

test("an answer that breaks off is not whole for the client", async (t) => {
  const { port } = await start(t, (_, response) => {
    response.writeHead(200);
    response.write("half");
    setTimeout(() => response.destroy(), 50);
  });
  await rejects(ask(port, "/"));
});

test("WebSockets pass through TLS, and nothing else is upgraded", async (t) => {
  const { port, behind } = await start(t, echo);
  behind.on("upgrade", (request: IncomingMessage, socket: Socket) => {
    const accept = createHash("sha1")
      .update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest("base64");
    socket.write(
      `HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    socket.pipe(socket);
  });
  const head =
    "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
  const got = await raw(port, `${head}Upgrade: websocket\r\n\r\nping-pong`, { until: /ping-pong$/ });
  match(got, /^HTTP\/1.1 101 /);
  match(got, /Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/i);
  match(await raw(port, `${head}Upgrade: h2c\r\nConnection: close\r\n\r\n`), /^HTTP\/1.1 200 /);
});

test("a client that asks for a WebSocket and does not wait leaves no request at the application", {
  timeout: 60_000,
}, async (t) => {
  const { port, behind } = await start(t, echo);
  const closed = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  behind.on("upgrade", (_, socket: Socket) => {
    socket
      .resume()
      .once("end", () => closed.resolve())
      .once("error", () => undefined);
    asked.resolve();
  });
  const client = await connected(port);
  client.write(
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  await asked.promise;
  client.destroy();
  await closed.promise;
});

test("more requests than the application may have at once are refused, not kept waiting", {
  timeout: 60_000,
}, async (t) => {
  const { port } = await start(
    t,
    ({ url }, response) => (url === "/stream" ? response.write("on") : response.end("ok")),
    {
      limits: { requests: 2 },
    },
  );
  const streams = await Promise.all([connected(port), connected(port)]);
  for (const stream of streams) {
    stream.write("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    await once(stream, "data");
  }
  equal((await ask(port, "/")).status, 503);
  for (const stream of streams) stream.destroy();
  while (!t.signal.aborted && (await ask(port, "/")).status === 503) await sleep(10);
  equal((await ask(port, "/")).status, 200);
});

test("trailers of an answer pass over HTTP/1.1 and HTTP/2; what is about its framing does not", async (t) => {
  const { port } = await start(t, (_, response) => {
    response.writeHead(200, { trailer: "grpc-status" });
    response.write("body");
    response.addTrailers([
      ["grpc-status", "0"],
      ["Set-Cookie", "a=b"],
    ]);
    response.end();
  });
  match(
    await raw(port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    /\r\n0\r\ngrpc-status: 0\r\n\r\n$/,
  );
  const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  t.after(() => session.destroy());
  const stream = session.request({ ":path": "/" });
  const [trailers] = (await once(stream.resume(), "trailers")) as [object];
  deepEqual(Object.entries(trailers), [["grpc-status", "0"]]);
});

test("TLS 1.3 alone, with the attested key; a ticket resumes nothing", async (t) => {
  const { port } = await start(t, echo);
  const options = { host: "127.0.0.1", port, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] };
  let session: Buffer | undefined;
  const first = tls.connect(options);
  first.on("session", (given) => (session = given));
  await once(first, "secureConnect");
  equal(first.getProtocol(), "TLSv1.3");
  deepEqual(
    new X509Certificate(certificate).publicKey.export({ format: "der", type: "spki" }),
    first.getPeerX509Certificate()!.publicKey.export({ format: "der", type: "spki" }),
  );
  first.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await once(first, "data");
  await sleep(100);
  first.destroy();
  const second = tls.connect({ ...options, ...(session && { session }) });
  await once(second, "secureConnect");
  equal(second.isSessionReused(), false);
  second.destroy();
  const old = tls.connect({ ...options, maxVersion: "TLSv1.2" });
  await rejects(once(old, "secureConnect"));
});

test("pages of other origins may ask the front, not the application through it", async (t) => {
  const { port } = await start(t, echo);
  const preflight = await ask(port, "/.well-known/caisson/tunnel", {
    method: "OPTIONS",
    headers: { origin: "https://page.example" },
  });
  deepEqual([preflight.status, preflight.headers["access-control-allow-origin"]], [204, "*"]);
  equal(
    (await ask(port, "/", { headers: { origin: "https://page.example" } })).headers[
      "access-control-allow-origin"
    ],
    undefined,
  );
});

test("half-open, silent and slow connections keep nobody out", async (t) => {
  const { port } = await start(t, echo, { limits: { connections: 60, handshakeMs: 1_000, headMs: 1_000 } });
  const held: Socket[] = [];
  for (let i = 0; i < 100; i++) {
    const socket = connectTcp(port, "127.0.0.1");
    socket.on("error", () => {});
    held.push(socket);
  }
  const slow = tls.connect({
    host: "127.0.0.1",
    port,
    rejectUnauthorized: false,
    ALPNProtocols: ["http/1.1"],
  });
  slow.on("error", () => {});
  await once(slow, "secureConnect");
  slow.write("GET / HTTP/1.1\r\nHost: a\r\nX: ");
  const drip = setInterval(() => slow.writable && slow.write("a"), 100);
  const closed = new Promise((resolve) => slow.once("close", resolve));
  const began = performance.now();
  for (let i = 0; i < 20; i++) equal((await ask(port, "/")).status, 200);
  // Without a limit it would be as long as they hold their connections.
  ok(performance.now() - began < 30_000);
  await closed;
  clearInterval(drip);
  for (const socket of held) socket.destroy();
});

test("an application that is not there is 502", async (t) => {
  const { port, behind } = await start(t, echo);
  behind.closeAllConnections();
  behind.close();
  equal((await ask(port, "/")).status, 502);
});
