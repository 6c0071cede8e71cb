// SPDX-License-Identifier: Apache-2.0
/** The front against the network and the host: each attack by what the application, and everybody else, got of it. */
import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { once } from "node:events";
import http, { type IncomingMessage, type RequestListener } from "node:http";
import http2 from "node:http2";
import type { Socket } from "node:net";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type tls from "node:tls";
import { beginEhbp, sealFrames } from "@caisson/protocol/ehbp";
import { beginTunnel, tunnelTypes } from "@caisson/protocol/tunnel";
import { leafHash, verifyInclusion } from "@caisson/vocabulary/merkle";
import { nonceTree } from "./nonce-tree.ts";
import { ask, connected, echo, ehbp, field, raw, start, tunnel } from "./testing/front.ts";

const evidence = (i: number | string) => `/.well-known/caisson/evidence?nonce=${`${i}`.padStart(64, "0")}`;

async function openTls(t: TestContext, port: number, protocol: "h2" | "http/1.1"): Promise<tls.TLSSocket> {
  const socket = await connected(port, protocol);
  socket.on("error", () => socket.destroy());
  t.after(() => socket.destroy());
  return socket;
}

function session(t: TestContext, port: number): http2.ClientHttp2Session {
  const made = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  made.on("error", () => undefined);
  t.after(() => made.destroy());
  return made;
}

/** A frame of HTTP/2 (RFC 9113, section 4.1). */
function frame(type: number, flags: number, stream: number, content: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(content.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, content]);
}
const preface = Buffer.concat([
  Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  frame(4, 0, 0, Buffer.alloc(0)),
]);
/** A field that is not kept in the table, its name and value as they are (RFC 7541, section 6.2.2). */
const plainField = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.of(0, name.length), Buffer.from(name), Buffer.of(value.length), Buffer.from(value)]);
const fields = (...pairs: [string, string][]) =>
  Buffer.concat(pairs.map(([name, value]) => plainField(name, value)));

/** Keeps what arrives: method, path, and body. */
function witness(): { seen: string[]; listener: RequestListener } {
  const seen: string[] = [];
  return {
    seen,
    listener: (request, response) => {
      void text(request).then(
        (body) => {
          seen.push(`${request.method} ${request.url} ${body}`);
          response.end("ok");
        },
        () => response.destroy(),
      );
    },
  };
}

const inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
for (const [name, head, body] of [
  ["a length that is shorter than the body", [["content-length", "5"]], `12345${inner}`],
  ["a length of nothing before a body", [["content-length", "0"]], inner],
  [
    "two lengths",
    [
      ["content-length", "4"],
      ["content-length", "40"],
    ],
    "1234",
  ],
  ["a length with a sign", [["content-length", "+4"]], "1234"],
  ["a transfer coding", [["transfer-encoding", "chunked"]], `0\r\n\r\n${inner}`],
  ["a line break in a value", [["x", `a\r\n\r\n${inner}`]], "1234"],
  ["a line break in a name", [["x\r\nhost", "b"]], "1234"],
  ["a colon in a name", [["x: y\r\nz", "b"]], "1234"],
  [
    "an upgrade",
    [
      ["upgrade", "websocket"],
      ["connection", "upgrade"],
    ],
    "1234",
  ],
  ["an upper-case name", [["X-Upper", "b"]], "1234"],
] as [string, [string, string][], string][]) {
  test(`not smuggled through HTTP/2: ${name}`, async (t) => {
    const { seen, listener } = witness();
    const { port } = await start(t, listener);
    const socket = await openTls(t, port, "h2");
    const pseudo = fields([":method", "POST"], [":scheme", "https"], [":authority", "a"], [":path", "/one"]);
    const block = Buffer.concat([pseudo, fields(...head)]);
    socket.write(Buffer.concat([preface, frame(1, 4, 1, block), frame(0, 1, 1, Buffer.from(body))]));
    socket.resume();
    await sleep(300);
    equal(seen.filter((one) => !/^POST \/one (?:1234)?$/.test(one)).length, 0, seen.join("; "));
    ok(seen.length <= 1);
    equal((await ask(port, "/after")).status, 200);
    ok(seen.includes("GET /after "));
  });
}

for (const [name, pairs] of [
  [
    "CONNECT",
    [
      [":method", "CONNECT"],
      [":authority", "smuggled:80"],
    ],
  ],
  [
    "CONNECT of WebSockets",
    [
      [":method", "CONNECT"],
      [":protocol", "websocket"],
      [":scheme", "https"],
      [":authority", "a"],
      [":path", "/smuggled"],
    ],
  ],
  [
    "a path with a space",
    [
      [":method", "GET"],
      [":scheme", "https"],
      [":authority", "a"],
      [":path", "/smuggled HTTP/1.1"],
    ],
  ],
  [
    "a path that is a URL",
    [
      [":method", "GET"],
      [":scheme", "https"],
      [":authority", "a"],
      [":path", "http://b/smuggled"],
    ],
  ],
  [
    "two paths",
    [
      [":method", "GET"],
      [":scheme", "https"],
      [":authority", "a"],
      [":path", "/smuggled"],
      [":path", "/b"],
    ],
  ],
  [
    "no path",
    [
      [":method", "GET"],
      [":scheme", "https"],
      [":authority", "a"],
    ],
  ],
  [
    "no authority",
    [
      [":method", "GET"],
      [":scheme", "https"],
      [":path", "/smuggled"],
    ],
  ],
  [
    "a method with a line break",
    [
      [":method", "GET /smuggled HTTP/1.1\r\nX:"],
      [":scheme", "https"],
      [":authority", "a"],
      [":path", "/smuggled"],
    ],
  ],
  [
    "a pseudo-field behind a field",
    [
      [":method", "GET"],
      [":scheme", "https"],
      [":authority", "a"],
      ["x", "y"],
      [":path", "/smuggled"],
    ],
  ],
] as [string, [string, string][]][]) {
  test(`refused over HTTP/2: ${name}`, async (t) => {
    const { seen, listener } = witness();
    const { port } = await start(t, listener);
    const socket = await openTls(t, port, "h2");
    socket.write(Buffer.concat([preface, frame(1, 5, 1, fields(...pairs))]));
    socket.resume();
    await sleep(200);
    deepEqual(seen, []);
    equal((await ask(port, "/after")).status, 200);
  });
}

test("HTTP/2: requests that are taken back at once end their connection, and nobody else waits", async (t) => {
  let arrived = 0;
  const { port } = await start(t, (_, response) => {
    arrived++;
    setTimeout(() => response.end("ok"), 50);
  });
  const attacker = session(t, port);
  let sent = 0;
  const flood = setInterval(() => {
    for (let i = 0; i < 200 && !attacker.destroyed && !attacker.closed; i++, sent++) {
      const stream = attacker.request({ ":path": "/flood" });
      stream.on("error", () => undefined);
      stream.close(http2.constants.NGHTTP2_CANCEL);
    }
  }, 5);
  t.after(() => clearInterval(flood));
  const closed = new Promise((resolve) => attacker.once("close", resolve));
  for (let i = 0; i < 5; i++) equal((await ask(port, "/")).status, 200);
  await closed;
  clearInterval(flood);
  ok(arrived < sent / 2, `${arrived} of ${sent} reached the application`);
});

test("HTTP/2: what comes in one piece with its own end is not asked of the application", async (t) => {
  const { port } = await start(t, (_, response) => void response.end("ok"));
  const asked = t.mock.method(http, "request");
  const socket = await openTls(t, port, "h2");
  socket.resume();
  const closed = new Promise((resolve) => socket.once("close", resolve));
  const head = fields([":method", "GET"], [":scheme", "https"], [":authority", "a"], [":path", "/"]);
  const cancel = Buffer.of(0, 0, 0, 8);
  const streams = Array.from({ length: 2_000 }, (_, i) =>
    Buffer.concat([frame(1, 5, 2 * i + 1, head), frame(3, 0, 2 * i + 1, cancel)]),
  );
  socket.write(Buffer.concat([preface, ...streams]));
  await closed;
  equal((await ask(port, "/")).status, 200);
  const count = asked.mock.callCount();
  ok(count < 100, `${count} requests to the application`);
});

test("HTTP/2: fields without end are cut off", async (t) => {
  const { port } = await start(t, echo);
  const socket = await openTls(t, port, "h2");
  socket.resume();
  const start1 = fields([":method", "GET"], [":scheme", "https"], [":authority", "a"], [":path", "/"]);
  socket.write(Buffer.concat([preface, frame(1, 1, 1, start1)]));
  const more = frame(
    9,
    0,
    1,
    fields(...Array.from({ length: 60 }, (): [string, string] => ["x", "y".repeat(120)])),
  );
  let sent = 0;
  const closed = new Promise((resolve) => socket.once("close", resolve));
  const flood = setInterval(() => {
    if (socket.destroyed) return;
    for (let i = 0; i < 20; i++) sent += more.length * Number(socket.write(more));
  }, 1);
  t.after(() => clearInterval(flood));
  await closed;
  ok(sent < 8 << 20, `${sent} bytes were taken`);
  equal((await ask(port, "/")).status, 200);
});

test("HTTP/2: floods of pings, settings and empty data end their connection", {
  timeout: 120_000,
}, async (t) => {
  const { port } = await start(t, echo);
  const pings = frame(6, 0, 0, Buffer.alloc(8));
  const settings = frame(4, 0, 0, Buffer.of(0, 4, 0, 0, 0xff, 0xff));
  const request = fields([":method", "POST"], [":scheme", "https"], [":authority", "a"], [":path", "/"]);
  const emptyData = frame(0, 0, 1, Buffer.alloc(0));
  for (const [opening, flood] of [
    [[preface], pings],
    [[preface], settings],
    [[preface, frame(1, 4, 1, request)], emptyData],
  ] as const) {
    const socket = await openTls(t, port, "h2");
    // Nothing is read, so that every answer to them waits in the front.
    socket.pause();
    socket.write(Buffer.concat(opening));
    const closed = new Promise((resolve) => socket.once("close", resolve));
    const many = Buffer.concat(Array.from({ length: 1000 }, () => flood));
    const writing = setInterval(() => socket.destroyed || socket.write(many), 1);
    t.after(() => clearInterval(writing));
    await closed;
    clearInterval(writing);
  }
  equal((await ask(port, "/")).status, 200);
});

test("fields of ours are nobody else's: in trailers, in sealed requests, with any sign between", async (t) => {
  const { port, hpke } = await start(t, async (request, response) => {
    await text(request);
    response.end(JSON.stringify({ raw: request.rawHeaders, trailers: request.rawTrailers }));
  });
  const forged = [
    "caisson-channel",
    "caisson_channel",
    "caisson.channel",
    "caisson~channel",
    "x.forwarded.for",
    "x_real_ip",
    "ehbp-encapsulated_key",
  ];
  const names = ({ raw }: { raw: string[] }) =>
    raw.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase());
  const sealed = await tunnel(port, hpke.publicKey, {
    fields: forged.map((name): [string, string] => [name, "tls"]),
  });
  const inside = JSON.parse(sealed.opened!.toString());
  deepEqual(field(inside.raw, "caisson-channel"), ["tunnel"]);
  deepEqual(
    names(inside).filter((name) => forged.includes(name)),
    ["caisson-channel"],
  );
  const trailing = await raw(
    port,
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Caisson-Channel\r\nConnection: close\r\n\r\n0\r\nCaisson-Channel: tunnel\r\n\r\n",
  );
  const outside = JSON.parse(trailing.slice(trailing.indexOf("{"), trailing.lastIndexOf("}") + 1));
  deepEqual([field(outside.raw, "caisson-channel"), outside.trailers], [["tls"], []]);
});

test("more fields than are taken are refused, not dropped", async (t) => {
  const { port } = await start(t, echo);
  const lines = Array.from({ length: 200 }, (_, i) => `X-${i}: y\r\n`).join("");
  match(
    await raw(port, `GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${lines}Authorization: b\r\n\r\n`),
    /^HTTP\/1.1 431/,
  );
});

test("a WebSocket at a path of the front's own does not reach the application", async (t) => {
  let upgrades = 0;
  const { port, behind } = await start(t, echo);
  behind.on("upgrade", (_: IncomingMessage, socket: Socket) => {
    upgrades++;
    socket.end("HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
  });
  const at = (path: string) =>
    raw(port, `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`, {
      until: /\r\n\r\n/,
    });
  match(await at("/.well-known/caisson/evidence?x"), /^HTTP\/1.1 404/);
  match(await at("/.well-known/caisson/anything"), /^HTTP\/1.1 404/);
  equal(upgrades, 0);
  match(await at("/socket"), /^HTTP\/1.1 101/);
});

test("a request for an upgrade with a body is one request to the application", async (t) => {
  const { seen, listener } = witness();
  const { port } = await start(t, listener);
  await raw(
    port,
    `POST /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: ${inner.length}\r\n\r\n${inner}${inner}`,
  );
  equal(seen.filter((one) => one.includes("smuggled")).length, 0, seen.join("; "));
});

test("what is sealed for one encoding is nothing in the other", async (t) => {
  const { seen, listener } = witness();
  const { port, hpke } = await start(t, listener);
  const own = await beginTunnel(hpke.publicKey);
  const chunks = Buffer.concat([await own.writer.chunks(Buffer.from("canary")), await own.writer.last()]);
  // A chunk of the tunnel's, in a frame of EHBP's under the same encapsulated key.
  const length = Buffer.alloc(4);
  const chunk = chunks.subarray(1, 1 + chunks[0]!);
  length.writeUInt32BE(chunk.length);
  const asBody = await ask(port, "/form", {
    method: "POST",
    headers: { "ehbp-encapsulated-key": own.header.slice(-32).toHex(), "transfer-encoding": "chunked" },
    body: Buffer.concat([length, chunk]),
  });
  equal(asBody.status, 422);
  const { answer } = await ehbp(port, hpke.publicKey, "canary");
  equal(answer.status, 200);
  // And a frame of EHBP's as the tunnel's chunk.
  const other = await beginEhbp(hpke.publicKey);
  const frames = await sealFrames(other.context, Buffer.from("canary"));
  const body = Buffer.concat([
    own.header.slice(0, 7),
    other.enc,
    Buffer.of(frames.length - 4),
    frames.subarray(4),
  ]);
  const asWhole = await ask(port, "/.well-known/caisson/tunnel", {
    method: "POST",
    headers: { "content-type": tunnelTypes.request },
    body,
  });
  equal(asWhole.status, 400);
  deepEqual(seen, ["POST /form canary"]);
});

test("a recorded request is taken once: many times at once, with a key that is the same point, as the other encoding", async (t) => {
  const { seen, listener } = witness();
  const { port, hpke } = await start(t, listener);
  let recorded: Buffer = Buffer.alloc(0);
  await tunnel(port, hpke.publicKey, {}, (sent) => {
    recorded = sent;
    return Buffer.alloc(0);
  });
  const send = (body: Buffer) =>
    ask(port, "/.well-known/caisson/tunnel", {
      method: "POST",
      headers: { "content-type": tunnelTypes.request },
      body,
    });
  const statuses = await Promise.all(Array.from({ length: 8 }, async () => (await send(recorded)).status));
  deepEqual(
    statuses.sort((a, b) => a - b),
    [200, ...Array.from({ length: 7 }, () => 409)],
  );
  // X25519 ignores the highest bit (RFC 7748, section 5), so the secret is the same; HPKE binds the bytes.
  const twin = Buffer.from(recorded);
  twin[38]! ^= 0x80;
  equal((await send(twin)).status, 400);
  equal(seen.length, 1);
});

test("clients with one and the same nonce each find it under the root; a path is good at its place alone", async (t) => {
  const { port, quotes } = await start(t, echo);
  const nonce = Buffer.alloc(32, 0xab);
  const path = `/.well-known/caisson/evidence?nonce=${nonce.toString("hex")}`;
  const answers = await Promise.all(Array.from({ length: 7 }, () => ask(port, path)));
  const places = answers.map(({ body }) => JSON.parse(body.toString()));
  const leaf = await leafHash(nonce);
  const good = (place: { index: number; count: number; path: string[] }, root: string) =>
    verifyInclusion(
      { index: place.index, leaf },
      { size: place.count, root: Uint8Array.fromHex(root) },
      place.path.map((hash) => Uint8Array.fromHex(hash)),
    );
  for (const { evidence: quoted, nonce: place } of places) {
    equal(await good(place, quoted.root), true);
    equal(await good({ ...place, path: [...place.path, quoted.root] }, quoted.root), false);
  }
  ok(quotes.length <= 7);
  // CVE-2012-2459: where the last entry is doubled to fill a level, two lists have one root.
  const three = [1, 2, 3].map((byte) => Buffer.alloc(32, byte));
  notEqual(nonceTree(three).root.toHex(), nonceTree([...three, three[2]!]).root.toHex());
});

test("whoever asks for evidence over one connection without end keeps nobody else from it", {
  timeout: 120_000,
}, async (t) => {
  // No quote ends before all was asked: each connection has four that wait, and the rest is refused.
  const release = Promise.withResolvers<void>();
  const attest = async (root: Uint8Array) => {
    await release.promise;
    return JSON.stringify({ root: root.toHex() });
  };
  const { port } = await start(t, echo, { attest });
  const allRefused = Promise.withResolvers<void>();
  const attackers = Array.from({ length: 20 }, () => session(t, port));
  let refused = 0;
  const asking = attackers.flatMap((attacker, at) =>
    Array.from({ length: 64 }, (_, i) => {
      const stream = attacker.request({ ":path": evidence(at * 64 + i) });
      stream.on("error", () => undefined);
      stream.once("response", (headers) => {
        if (headers[":status"] === 503 && ++refused === 20 * 60) allRefused.resolve();
      });
      stream.resume();
      return once(stream, "close");
    }),
  );
  await allRefused.promise;
  const other = ask(port, evidence("ff"));
  release.resolve();
  equal((await other).status, 200);
  await Promise.all(asking);
  equal(refused, 20 * 60);
});

test("sealed requests that arrive slowly give way to others, and what the application has not taken is counted", {
  timeout: 120_000,
}, async (t) => {
  const release = Promise.withResolvers<void>();
  let held = 0;
  const { port, hpke, front } = await start(
    t,
    (request, response) => {
      held++;
      request.resume();
      if (request.url === "/slow") void release.promise.then(() => response.end("ok"));
      else response.end("ok");
    },
    { limits: { sealed: { request: 100_000, total: 250_000, arrivalMs: 60_000, remembered: 100 } } },
  );
  const arriving: IncomingMessage[] = [];
  front.server.on("request", (request: IncomingMessage) => arriving.push(request));
  // Two that never end, with most of what may be held.
  const slow = await Promise.all(
    [1, 2].map(async () => {
      const own = await beginTunnel(hpke.publicKey);
      const socket = await openTls(t, port, "http/1.1");
      const head = `POST /.well-known/caisson/tunnel HTTP/1.1\r\nHost: a\r\nContent-Type: ${tunnelTypes.request}\r\nContent-Length: 100000\r\n\r\n`;
      socket.write(
        Buffer.concat([Buffer.from(head), own.header, await own.writer.chunks(Buffer.alloc(99_000))]),
      );
      return socket;
    }),
  );
  const gone = slow.map((socket) => once(socket, "close"));
  while (!t.signal.aborted && arriving.filter(({ socket }) => socket.bytesRead > 99_000).length < 2)
    await sleep(10);
  const content = Buffer.alloc(80_000, "x");
  const good = () => tunnel(port, hpke.publicKey, { method: "POST", path: "/", content });
  equal((await good()).head?.status, 200);
  await Promise.race(gone);
  equal(slow.filter(({ destroyed }) => destroyed).length, 1, "the first of the two went");
  // Whole requests that the application does not answer stay counted.
  const waiting = [1, 2, 3].map(() =>
    tunnel(port, hpke.publicKey, { method: "POST", path: "/slow", content }),
  );
  while (!t.signal.aborted && held < 4) await sleep(20);
  equal((await good()).answer.status, 503);
  release.resolve();
  for (const one of await Promise.all(waiting)) equal(one.head?.status, 200);
  equal((await good()).head?.status, 200);
});
