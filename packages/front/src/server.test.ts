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
import { ehbpHeaders } from "@caisson/protocol/ehbp";
import { generateKeyPair } from "@caisson/protocol/hpke-context";
import { beginTunnel, tunnelTypes } from "@caisson/protocol/tunnel";
import { hpkeConfigOf } from "@caisson/vocabulary/channel";
import { leafHash, verifyInclusion } from "@caisson/vocabulary/merkle";
import fc from "fast-check";
import { ask, certificate, client, echo, ehbp, field, heard, raw, start, tunnel } from "./testing/front.ts";

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

test("HTTP/2: cookies are one field, no body is no body, and answers pass", async (t) => {
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
  while ((await ask(port, "/")).status === 503) await sleep(10);
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

/** A connection to the front that speaks HTTP/1.1. */
async function connected(port: number): Promise<tls.TLSSocket> {
  const socket = tls.connect({
    host: "127.0.0.1",
    port,
    rejectUnauthorized: false,
    ALPNProtocols: ["http/1.1"],
  });
  await once(socket, "secureConnect");
  return socket;
}

const nonceOf = (i: number) => createHash("sha256").update(`${i}`).digest();

test("1,000 verifiers at once get evidence over their own nonces, from two quotes at most", {
  timeout: 120_000,
}, async (t) => {
  // The first quote ends when all have asked.
  const asked = Promise.withResolvers<void>();
  const quotes: string[] = [];
  const attest = async (root: Uint8Array) => {
    quotes.push(root.toHex());
    await asked.promise;
    return JSON.stringify({ root: root.toHex() });
  };
  const { port, front } = await start(t, echo, { attest });
  let arrived = 0;
  front.server.on("request", () => ++arrived === 1000 && asked.resolve());
  const reading: Promise<string>[] = [];
  const asks = async (i: number) => {
    const socket = await connected(port);
    const path = `/.well-known/caisson/evidence?nonce=${nonceOf(i).toString("hex")}`;
    socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    reading[i] = text(socket);
  };
  // In small lots, and each asks at once: the front gives up who takes long to shake hands or to ask.
  for (let i = 0; i < 1000; i += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, n) => asks(i + n)));
  }
  const answers = await Promise.all(reading);
  ok(quotes.length <= 2, `${quotes.length} quotes`);
  for (const [i, answer] of answers.entries()) {
    const { evidence, nonce } = JSON.parse(answer.slice(answer.indexOf("\r\n\r\n")));
    const leaf = { index: nonce.index, leaf: await leafHash(nonceOf(i)) };
    const tree = { size: nonce.count, root: Uint8Array.fromHex(evidence.root) };
    equal(
      await verifyInclusion(
        leaf,
        tree,
        nonce.path.map((hash: string) => Uint8Array.fromHex(hash)),
      ),
      true,
    );
    ok(nonce.path.length <= 10);
  }
});

test("what asks for evidence wrongly, and what is not there, is refused", async (t) => {
  const { port, quotes } = await start(t, echo);
  for (const query of [
    "",
    "?nonce=",
    `?nonce=${"0".repeat(63)}`,
    `?nonce=${"A".repeat(64)}`,
    `?nonce=${"0".repeat(64)}&x=1`,
    `?x=1&nonce=${"0".repeat(64)}`,
  ]) {
    equal((await ask(port, `/.well-known/caisson/evidence${query}`)).status, 400, query);
  }
  equal(
    (await ask(port, `/.well-known/caisson/evidence?nonce=${"0".repeat(64)}`, { method: "POST" })).status,
    405,
  );
  equal((await ask(port, "/.well-known/caisson/other")).status, 404);
  equal(quotes.length, 0);
});

test("a session is bound over HTTP/1.1, with what both of its ends export, and by no other words", async (t) => {
  const { port, quotes } = await start(t, echo);
  const nonce = "ab".repeat(32);
  const path = `/.well-known/caisson/evidence?nonce=${nonce}`;
  const socket = await connected(port);
  const exporter = socket.exportKeyingMaterial(
    32,
    "EXPORTER-Channel-Binding",
    undefined as unknown as Buffer,
  );
  socket.write(`GET ${path}&bind=session HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
  match(await text(socket), /^HTTP\/1.1 200/);
  const field = (bytes: Uint8Array) => Buffer.concat([Buffer.of(0, 0, 0, bytes.length), bytes]);
  const parts = ["caisson/channel-session/v1", "server", Buffer.from(nonce, "hex"), exporter];
  const entry = Buffer.concat([Buffer.of(0), ...parts.map((part) => field(Buffer.from(part as string)))]);
  deepEqual(quotes, [createHash("sha256").update(entry).digest("hex")]);
  for (const query of ["&bind=key", "&bind=", "&bind=session&bind=session", "&Bind=session"]) {
    equal((await ask(port, `${path}${query}`)).status, 400, query);
  }
  const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  t.after(() => session.destroy());
  const stream = session.request({ ":path": `${path}&bind=session` });
  const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
  equal(headers[":status" as never], 400);
  equal(quotes.length, 1);
});

test("keys: 41 bytes for Tinfoil's clients, with their length for RFC 9458's", async (t) => {
  const { port, hpke } = await start(t, echo);
  const config = hpkeConfigOf(hpke.publicKey);
  const plain = await ask(port, "/.well-known/hpke-keys");
  deepEqual(
    [plain.body.toString("hex"), plain.headers["content-type"]],
    [config.toHex(), "application/ohttp-keys"],
  );
  equal((await ask(port, "/.well-known/caisson/keys")).body.toString("hex"), `0029${config.toHex()}`);
});

test("EHBP: a sealed body reaches the application open, and the answer's is sealed", async (t) => {
  const { port, hpke } = await start(t, echo);
  const { answer, opened } = await ehbp(port, hpke.publicKey, "the canary");
  equal(answer.status, 200);
  const got = JSON.parse(opened!);
  deepEqual(
    [got.body, field(got.raw, "caisson-channel"), field(got.raw, "content-length")],
    ["the canary", ["ehbp"], ["10"]],
  );
  deepEqual([field(got.raw, "transfer-encoding"), field(got.raw, ehbpHeaders.key)], [[], []]);
  equal(answer.body.includes("canary"), false);
});

test("EHBP: another key is 422 and can be sent again; whatever else is wrong is 400, and nothing of it arrives", async (t) => {
  let arrived = 0;
  const { port, hpke } = await start(t, (request, response) => {
    arrived++;
    echo(request, response);
  });
  const stranger = await ehbp(port, (await generateKeyPair()).publicKey, "x");
  equal(stranger.answer.status, 422);
  equal(JSON.parse(stranger.answer.body.toString()).type, "urn:ietf:params:ehbp:error:key-config");
  for (const [name, change] of Object.entries({
    "cut inside a frame": (sent: Uint8Array) => sent.subarray(0, -1),
    "a length of 4 GiB": () => Buffer.from("ffffffff00", "hex"),
    "a million empty frames": () => new Uint8Array(4_000_000),
    "no frame at all": () => new Uint8Array(64),
    "a frame behind it that is not authentic": (sent: Uint8Array) => Buffer.concat([sent, sent]),
  })) {
    const { answer } = await ehbp(port, hpke.publicKey, "secret", change).catch(() => ({
      answer: { status: 400 },
    }));
    equal(answer.status, 400, name);
  }
  for (const value of ["00", "A".repeat(64), "0".repeat(64), `${"1".repeat(64)}, ${"1".repeat(64)}`]) {
    equal(
      (await ask(port, "/", { method: "POST", headers: { [ehbpHeaders.key]: value }, body: "x" })).status,
      400,
      value,
    );
  }
  equal((await ask(port, "/", { headers: { [ehbpHeaders.key]: "1".repeat(64) } })).status, 400);
  const twice = `POST / HTTP/1.1\r\nHost: a\r\nEhbp-Encapsulated-Key: ${"1".repeat(64)}\r\nEhbp-Encapsulated-Key: ${"2".repeat(64)}\r\nContent-Length: 1\r\n\r\nx`;
  match(await raw(port, twice, { until: /\r\n\r\n/ }), /^HTTP\/1.1 400/);
  equal(arrived, 0);
});

test("tunnel: a whole request is sealed, and so is its answer, small and large", async (t) => {
  const large = Buffer.alloc(1 << 20, "0123456789abcdef");
  const { port, hpke } = await start(t, (request, response) => {
    if (request.url === "/large") return void response.end(large);
    response.statusCode = 404;
    echo(request, response);
  });
  const small = await tunnel(port, hpke.publicKey, {
    method: "DELETE",
    fields: [
      ["cookie", "a=1"],
      ["x-forwarded-for", "9"],
    ],
  });
  const got = JSON.parse(small.opened!.toString());
  deepEqual(
    [small.answer.status, small.head!.status, got.method, got.url],
    [200, 404, "DELETE", "/secret?q=canary"],
  );
  deepEqual(
    [field(got.raw, "caisson-channel"), field(got.raw, "cookie"), field(got.raw, "x-forwarded-for")],
    [["tunnel"], ["a=1"], ["127.0.0.1"]],
  );
  equal(small.answer.body.includes("canary"), false);
  deepEqual((await tunnel(port, hpke.publicKey, { path: "/large" })).opened, large);
  const body = Buffer.alloc(300_000, "x");
  equal(
    JSON.parse((await tunnel(port, hpke.publicKey, { method: "POST", content: body })).opened!.toString())
      .body.length,
    300_000,
  );
});

test("tunnel: another key is told apart, a recorded request is taken once, and nothing that is wrong arrives", async (t) => {
  let arrived = 0;
  const { port, hpke } = await start(t, (request, response) => {
    arrived++;
    echo(request, response);
  });
  const stranger = await tunnel(port, (await generateKeyPair()).publicKey);
  equal(stranger.answer.status, 400);
  match(stranger.answer.body.toString(), /#ohttp-key/);
  const wrong: [string, object, ((sent: Buffer) => Uint8Array)?][] = [
    ["cut off", {}, (sent) => sent.subarray(0, -1)],
    ["cut off before the last chunk", {}, (sent) => sent.subarray(0, -17)],
    ["cut off in its header", {}, (sent) => sent.subarray(0, 20)],
    ["empty", {}, () => new Uint8Array()],
    ["more behind it", {}, (sent) => Buffer.concat([sent, sent])],
    ["another scheme", { scheme: "http" }],
    ["a path with a space", { path: "/a b" }],
    ["a path that is a URL", { path: "http://a/" }],
    ["a host that is not one", { authority: "a/b" }],
    ["another host in a field", { fields: [["host", "other.example"]] }],
    ["CONNECT", { method: "CONNECT" }],
    ["a method with a space", { method: "GET /x HTTP/1.1" }],
  ];
  for (const [name, request, change] of wrong) {
    equal((await tunnel(port, hpke.publicKey, request, change)).answer.status, 400, name);
  }
  equal(arrived, 0);
  const { sent } = await tunnel(port, hpke.publicKey);
  equal(arrived, 1);
  const again = await ask(port, "/.well-known/caisson/tunnel", {
    method: "POST",
    headers: { "content-type": tunnelTypes.request },
    body: sent,
  });
  deepEqual([again.status, arrived], [409, 1]);
  equal((await ask(port, "/.well-known/caisson/tunnel", { method: "POST", body: sent })).status, 415);
});

test("a client that sends sealed requests slowly, or too many bytes, is cut off", async (t) => {
  const { port, hpke } = await start(t, echo, {
    limits: { sealed: { request: 100_000, total: 200_000, arrivalMs: 500, remembered: 10 } },
  });
  const large = await tunnel(port, hpke.publicKey, { method: "POST", content: new Uint8Array(200_000) });
  equal(large.answer.status, 413);
  const own = await beginTunnel(hpke.publicKey);
  const head = `POST /.well-known/caisson/tunnel HTTP/1.1\r\nHost: a\r\nContent-Type: ${tunnelTypes.request}\r\nContent-Length: 100\r\n\r\n`;
  await raw(port, Buffer.concat([Buffer.from(head), own.header]));
});

test("where sealed requests are required, others get nothing but what the front itself says", async (t) => {
  const { port, hpke } = await start(t, echo, { require: "encrypted" });
  equal((await ask(port, "/")).status, 403);
  equal((await ask(port, "/.well-known/hpke-keys")).status, 200);
  equal((await tunnel(port, hpke.publicKey)).head?.status, 200);
  equal((await ehbp(port, hpke.publicKey, "x")).answer.status, 200);
  match(
    await raw(port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", {
      until: /\r\n\r\n/,
    }),
    /^HTTP\/1.1 403/,
  );
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
