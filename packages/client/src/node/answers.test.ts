// SPDX-License-Identifier: Apache-2.0
/**
 * What comes back, and by what it is judged: answers that fetch cannot give, another judgement, what a door must not
 * change.
 */
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage, type RequestListener } from "node:http";
import { request as httpsRequest } from "node:https";
import { buffer, text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { tunnelTypes } from "@caisson/protocol/tunnel";
import { readReferences } from "@caisson/verify";
import type { Way } from "../attestation.ts";
import { GuestChannel } from "../browser/fetch.ts";
import { testGuest, testPlatform } from "../testing/guest.ts";
import { startInterceptor } from "../testing/interceptor.ts";
import { openDoor, parsePlace } from "./connect.ts";
import { AttestedClient, attestedFetch } from "./fetch.ts";

const platform = testPlatform();
const { judgement } = platform;

async function start(t: TestContext, listener: RequestListener) {
  const guest = await testGuest(platform, listener);
  t.after(() => guest.close());
  return guest;
}

for (const way of ["tls", "tunnel"] as const) {
  test(`a status that fetch has none of is an error, and ends nobody's process, by ${way}`, async (t) => {
    const guest = await start(t, (_, response) => response.writeHead(999).end("no"));
    const client = new AttestedClient(guest.url, judgement, [way]);
    t.after(() => client.close());
    await rejects(client.fetch(guest.url), { code: "channel/protocol" });
  });
}

test("whoever ends TLS answers a sealed request with nothing that HTTP has", async (t) => {
  const guest = await start(t, (_, response) => response.end("ok"));
  const between = await startInterceptor(guest.port);
  t.after(() => between.close());
  const client = new AttestedClient(between.url, judgement);
  t.after(() => client.close());
  equal(await (await client.fetch(between.url)).text(), "ok");
  for (const status of [600, 999]) {
    between.status = status;
    await rejects(client.fetch(between.url), { code: "channel/protocol" }, `${status}`);
  }
  between.status = "close";
  await rejects(client.fetch(between.url), { code: "channel/unreachable" });
});

test("another judgement under the same policy object is another judgement", async (t) => {
  const guest = await start(t, (_, response) => response.end("ok"));
  equal((await attestedFetch(guest.url, judgement)).status, 200);
  const other = readReferences([{ rtmr2: "b2".repeat(48) }], "another machine's");
  const { references: _, ...rules } = judgement.policy as { references?: unknown };
  // Policies of a program are one object for as long as it runs; references and collateral are what it reads anew.
  const policy = rules as typeof judgement.policy;
  const own = readReferences(
    [{ mrtd: "a1".repeat(48), rtmr0: "a1".repeat(48), rtmr1: "a1".repeat(48), rtmr2: "a1".repeat(48) }],
    "own",
  );
  equal((await attestedFetch(guest.url, { ...judgement, policy, references: own })).status, 200);
  await rejects(attestedFetch(guest.url, { ...judgement, policy, references: other }), {
    code: "channel/refused",
  });
  const old = { ...judgement.collateral };
  const quotes = guest.quotes();
  equal(
    (await attestedFetch(guest.url, { ...judgement, policy, references: own, collateral: old })).status,
    200,
  );
  equal(guest.quotes(), quotes + 1, "other collateral is judged by anew");
  await attestedFetch(guest.url, { ...judgement, policy, references: own, collateral: old });
  equal(guest.quotes(), quotes + 1);
});

test("a browser whose streams cannot be iterated, as Safari's, has a channel, too", async (t) => {
  const guest = await start(t, (_, response) => response.end("ok"));
  const through = async (...[input, init]: Parameters<typeof fetch>): Promise<Response> => {
    const { pathname, search } = new URL(input instanceof Request ? input.url : input);
    const body = init?.body as Uint8Array | undefined;
    const answer = await raw(guest.port, `${pathname}${search}`, init?.method ?? "GET", body);
    const { status, headers } = answer;
    const made = new Response(answer.body, { status, headers });
    Object.defineProperty(made.body, Symbol.asyncIterator, { value: undefined });
    return made;
  };
  const channel = new GuestChannel(guest.url, judgement, through as typeof fetch);
  equal(await (await channel.fetch("/")).text(), "ok");
});

/** A request by TLS that nobody judges. */
async function raw(port: number, path: string, method: string, body?: Uint8Array) {
  const headers = { "content-type": tunnelTypes.request };
  const sending = httpsRequest({ host: "127.0.0.1", port, path, method, headers, rejectUnauthorized: false });
  sending.end(body);
  const [answer] = (await once(sending, "response")) as [IncomingMessage];
  const type = { "content-type": answer.headers["content-type"]! };
  return { status: answer.statusCode!, headers: type, body: new Uint8Array(await buffer(answer)) };
}

interface Heard {
  status: number;
  body: string;
  trailers: IncomingMessage["trailers"];
}

function throughDoor(url: string, path: string, method = "GET", body = ""): Promise<Heard> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const headers = body === "" ? {} : { "content-length": body.length };
    httpRequest({ host: hostname, port, path, method, headers }, (answer) => {
      buffer(answer).then((bytes) => {
        resolve({ status: answer.statusCode!, body: bytes.toString(), trailers: answer.trailers });
      }, reject);
    })
      .once("error", reject)
      .end(body);
  });
}

async function door(t: TestContext, listener: RequestListener, way: Way) {
  const guest = await start(t, listener);
  const opened = await openDoor(guest.url, parsePlace("127.0.0.1:0"), { ...judgement, ways: [way] });
  t.after(() => opened.close());
  return opened.url;
}

const echo: RequestListener = (request, response) => {
  void text(request).then((body) => {
    response.writeHead(200, { trailer: "grpc-status" });
    response.write(`${request.method} ${request.url} ${body}`);
    response.addTrailers({ "grpc-status": "0", "grpc-message": "ok" });
    response.end();
  });
};

for (const way of ["tls", "tunnel"] as const) {
  test(`a door passes a path as it is, and takes no address, by ${way}`, async (t) => {
    const url = await door(t, echo, way);
    equal((await throughDoor(url, "//other.example/path")).body, "GET //other.example/path ");
    const absolute = await throughDoor(url, "http://other.example/path");
    equal(absolute.status, 400);
    match(absolute.body, /not a proxy/);
  });
}

test("a body of GET passes in TLS, and is refused where requests are sealed: it is never dropped", async (t) => {
  equal((await throughDoor(await door(t, echo, "tls"), "/", "GET", "query")).body, "GET / query");
  const sealed = await throughDoor(await door(t, echo, "tunnel"), "/", "GET", "query");
  equal(sealed.status, 501);
});

test("trailers of an answer pass the front and a door", async (t) => {
  const { trailers, body } = await throughDoor(await door(t, echo, "tls"), "/");
  equal(body, "GET / ");
  deepEqual({ ...trailers }, { "grpc-status": "0", "grpc-message": "ok" });
});

test("a body whose length nobody knows passes a door, by either way", async (t) => {
  for (const way of ["tls", "tunnel"] as const) {
    const { hostname, port } = new URL(await door(t, echo, way));
    const sending = httpRequest({ host: hostname, port, method: "POST", path: "/" });
    sending.write("in ");
    sending.end("pieces");
    const [answer] = (await once(sending, "response")) as [IncomingMessage];
    equal(await text(answer), "POST / in pieces", way);
  }
});
