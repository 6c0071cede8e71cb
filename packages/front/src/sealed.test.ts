// SPDX-License-Identifier: Apache-2.0
/** Requests that are sealed to the guest: bodies (EHBP) and whole ones (tunnel). */
import { deepEqual, equal, match } from "node:assert/strict";
import { test } from "node:test";
import { ehbpHeaders } from "@caisson/protocol/ehbp";
import { generateKeyPair } from "@caisson/protocol/hpke-context";
import { beginTunnel, tunnelTypes } from "@caisson/protocol/tunnel";
import { ask, echo, ehbp, field, raw, start, tunnel } from "./testing/front.ts";

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

test("tunnel: another key is told apart however the request comes in pieces", async (t) => {
  const { port } = await start(t, echo);
  const other = await generateKeyPair();
  for (const cut of [1, 39, 41, 1000]) {
    const own = await beginTunnel(other.publicKey);
    const sent = Buffer.concat([own.header, await own.writer.chunks(new Uint8Array(5000))]);
    const answer = await raw(
      port,
      Buffer.concat([
        Buffer.from(
          `POST /.well-known/caisson/tunnel HTTP/1.1\r\nHost: a\r\nContent-Type: ${tunnelTypes.request}\r\nTransfer-Encoding: chunked\r\n\r\n`,
        ),
        ...[sent.subarray(0, cut), sent.subarray(cut)].flatMap((piece) => [
          Buffer.from(`${piece.length.toString(16)}\r\n`),
          piece,
          Buffer.from("\r\n"),
        ]),
        Buffer.from("0\r\n\r\n"),
      ]),
      { until: /\r\n\r\n.*}/s },
    );
    match(answer, /^HTTP\/1.1 400[^]*#ohttp-key/, `cut at ${cut}`);
  }
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
