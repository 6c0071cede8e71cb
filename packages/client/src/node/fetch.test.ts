// SPDX-License-Identifier: Apache-2.0
/** Clients against a front, and against everybody who would stand between: each with its code, and nothing sent. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { createServer, request as httpRequest, type IncomingMessage, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { connect as connectTls, createServer as createTls, type TLSSocket } from "node:tls";
import { selfSigned } from "@caisson/front/certificate";
import { generateKeyPair } from "@caisson/protocol/hpke-context";
import { type GuestChange, type TestGuest, testGuest, testPlatform } from "../testing/guest.ts";
import { type Change, startInterceptor } from "../testing/interceptor.ts";
import { openDoor, parsePlace } from "./connect.ts";
import { keyOf } from "./connection.ts";
import { attestedConnector } from "./dispatcher.ts";
import { AttestedClient, attestedFetch, ChannelError } from "./fetch.ts";

const platform = testPlatform();
const { judgement } = platform;
const canary = "the canary";

/** Says how a request came, and keeps what it was. */
function application() {
  const seen: string[] = [];
  const listener: RequestListener = (request, response) => {
    void text(request).then((body) => {
      seen.push(`${request.method} ${request.url} ${body}`);
      response.setHeader("x-way", request.headers["caisson-channel"] ?? "");
      response.end(body === "" ? "hello" : body);
    });
  };
  return { seen, listener };
}

async function start(t: TestContext, change: GuestChange = {}) {
  const { seen, listener } = application();
  const guest = await testGuest(platform, listener, change);
  t.after(() => guest.close());
  return { guest, seen };
}

async function interceptor(t: TestContext, to: number, change?: Change) {
  const started = await startInterceptor(to, change);
  t.after(() => started.close());
  return started;
}

test("attestedFetch: attests once, then speaks TLS that ends in the guest", async (t) => {
  const { guest, seen } = await start(t);
  const first = await attestedFetch(`${guest.url}form`, { ...judgement, method: "POST", body: canary });
  deepEqual([await first.text(), first.headers.get("x-way"), first.attestation.way], [canary, "tls", "tls"]);
  equal(first.attestation.report.verdict, "accepted");
  deepEqual(first.attestation.keys.tlsKey, guest.tlsKey);
  const quotes = guest.quotes();
  equal(await (await attestedFetch(guest.url, judgement)).text(), "hello");
  equal(guest.quotes(), quotes);
  deepEqual(seen, [`POST /form ${canary}`, "GET / "]);
});

test("TLS ends earlier: requests are sealed, and whoever ends it reads nothing", async (t) => {
  const { guest, seen } = await start(t);
  const proxy = await interceptor(t, guest.port);
  const client = new AttestedClient(proxy.url, judgement);
  const answer = await client.fetch(`${proxy.url}form?${canary.replace(" ", "-")}`, {
    method: "POST",
    body: canary,
    headers: { "x-secret": canary },
  });
  deepEqual(
    [await answer.text(), answer.headers.get("x-way"), answer.attestation.way],
    [canary, "tunnel", "tunnel"],
  );
  equal(seen.length, 1);
  equal(/canary/.test(proxy.record()), false);
  client.close();
});

test("relay of the nonce by somebody with a certificate of his own is refused where TLS has to end in the guest", async (t) => {
  const { guest, seen } = await start(t);
  const proxy = await interceptor(t, guest.port);
  const client = new AttestedClient(proxy.url, judgement, ["tls"]);
  await rejects(client.fetch(proxy.url, { method: "POST", body: canary }), (error: ChannelError) => {
    equal(error.code, "channel/refused");
    deepEqual(error.report!.codes, ["channel/tls-key"]);
    match(error.fix!, /tunnel/);
    return true;
  });
  deepEqual(seen, []);
  equal(proxy.record().includes("canary"), false);
});

for (const [name, change, codes] of [
  ["another machine", { fields: { rtmr2: "b2".repeat(48) } }, ["registers/no-match"]],
  ["evidence of an application", { scheme: "caisson/app/v1" }, ["channel/not-stated"]],
] as [string, GuestChange, string[]][]) {
  test(`refused, and nothing sent: ${name}`, async (t) => {
    const { guest, seen } = await start(t, change);
    await rejects(
      attestedFetch(guest.url, { ...judgement, method: "POST", body: canary }),
      (error: ChannelError) => {
        equal(error.code, "channel/refused");
        for (const code of codes)
          ok((error.report!.codes as string[]).includes(code), error.report!.codes.join(" "));
        return true;
      },
    );
    deepEqual(seen, []);
  });
}

test("the TLS key of one guest with the HPKE key of another: the one that was promised, or refused", async (t) => {
  const stranger = await generateKeyPair();
  const { guest, seen } = await start(t, { keys: { hpke: stranger.publicKey } });
  const client = new AttestedClient(guest.url, judgement, ["tunnel"]);
  // Its front does not have that key: asked again, it still does not.
  await rejects(client.fetch(guest.url, { method: "POST", body: canary }), { code: "channel/expired" });
  deepEqual(seen, []);
});

for (const [name, change] of [
  [
    "evidence replaced",
    (answer: string) =>
      answer.includes("channel-evidence") ? answer.replace(/"quote":"..../, '"quote":"AAAA') : undefined,
  ],
  [
    "the evidence's keys replaced",
    (answer: string) =>
      answer.includes("channel-evidence")
        ? answer.replace(/"hpkeConfig":"[0-9a-f]+"/, `"hpkeConfig":"${"00".repeat(41)}"`)
        : undefined,
  ],
  [
    "the nonce's path replaced",
    (answer: string) =>
      answer.includes("channel-evidence")
        ? answer.replace('"index":0', '"index":1').replace('"count":1', '"count":2')
        : undefined,
  ],
  ["an old document", () => undefined],
  [
    "sealed answers replaced by a plain one",
    (_: string, { url }: IncomingMessage) => (url?.endsWith("tunnel") ? "all is well" : undefined),
  ],
  [
    "sealed answers cut off",
    (answer: string, { url }: IncomingMessage) =>
      url?.endsWith("tunnel") ? answer.slice(0, -20) : undefined,
  ],
  [
    "a bit of a sealed answer changed",
    (answer: string, { url }: IncomingMessage) =>
      url?.endsWith("tunnel")
        ? `${answer.slice(0, 50)}${String.fromCharCode(answer.charCodeAt(50) ^ 1)}${answer.slice(51)}`
        : undefined,
  ],
] as [string, (answer: string, head: IncomingMessage) => string | undefined][]) {
  test(`whoever ends TLS changes something: ${name}`, async (t) => {
    const { guest } = await start(t);
    let old: string | undefined;
    const proxy = await interceptor(t, guest.port, (answer, head) => {
      if (name !== "an old document") return change(answer, head);
      if (!answer.includes("channel-evidence")) return undefined;
      old ??= answer;
      return old;
    });
    const client = new AttestedClient(proxy.url, { ...judgement, maximumAge: 0 });
    const exchange = async () => (await client.fetch(proxy.url, { method: "POST", body: canary })).text();
    if (name === "an old document") await exchange();
    await rejects(exchange(), (error: { code?: string }) => {
      match(String(error.code), /^(?:channel\/(?:refused|protocol|not-served)|evidence\/malformed)$/);
      return true;
    });
    equal(proxy.record().includes("canary"), false);
  });
}

test("a restart between attestation and request: sealed requests go to the new keys, once attested; TLS is attested anew", async (t) => {
  const { guest, seen } = await start(t);
  const sealed = new AttestedClient(guest.url, judgement, ["tunnel"]);
  const direct = new AttestedClient(guest.url, judgement, ["tls"]);
  await (await sealed.fetch(guest.url)).text();
  await (await direct.fetch(guest.url)).text();
  guest.close();
  const { listener, seen: later } = application();
  const next = await testGuest(platform, listener, { port: guest.port });
  t.after(() => next.close());
  equal(await (await sealed.fetch(guest.url, { method: "POST", body: "again" })).text(), "again");
  direct.agent.destroy();
  equal(await (await direct.fetch(guest.url, { method: "POST", body: "again" })).text(), "again");
  deepEqual([seen.length, later.length, next.quotes()], [2, 2, 2]);
});

test("keys are good for their time and no longer, and connections are closed with them", async (t) => {
  const { guest } = await start(t);
  const client = new AttestedClient(guest.url, { ...judgement, maximumAge: 2_500 });
  await (await client.fetch(guest.url)).text();
  const socket = await client.guest.connect();
  await once(socket, "close");
  const quotes = guest.quotes();
  await (await client.fetch(guest.url)).text();
  ok(guest.quotes() > quotes);
  client.close();
});

test("keys are not good beyond the collateral", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const short = testPlatform(Date.now(), 1_500);
  const guest = await testGuest(short, application().listener);
  t.after(() => guest.close());
  const client = new AttestedClient(guest.url, short.judgement);
  const { attestation } = await client.fetch(guest.url);
  ok(attestation.until <= Date.now() + 1_500);
  t.mock.timers.tick(2_000);
  await rejects(client.fetch(guest.url), { code: "channel/refused" });
  client.close();
});

test("TLS 1.2, plain HTTP and what is not an address are refused", async (t) => {
  const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const old = createTls({
    key: key.export({ format: "pem", type: "pkcs8" }) as string,
    cert: selfSigned(key, ["127.0.0.1"], Date.now()),
    maxVersion: "TLSv1.2",
  });
  old.listen(0, "127.0.0.1");
  await once(old, "listening");
  t.after(() => old.close());
  const { port } = old.address() as AddressInfo;
  await rejects(attestedFetch(`https://127.0.0.1:${port}/`, judgement), { code: "channel/unreachable" });
  // A connection that was made without us is not spoken over either.
  const made = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false });
  t.after(() => made.destroy());
  await once(made, "secureConnect");
  throws(() => keyOf(made), { code: "channel/protocol" });
  await rejects((async () => attestedFetch("http://127.0.0.1:1/", judgement))(), {
    code: "channel/address",
  });
  throws(() => new AttestedClient("https://user@127.0.0.1/", judgement), { code: "channel/address" });
  await rejects(attestedFetch("https://127.0.0.1:1/", judgement), { code: "channel/unreachable" });
});

test("a request for another origin is not sent to this guest", async (t) => {
  const { guest, seen } = await start(t);
  const client = new AttestedClient(guest.url, judgement);
  await rejects(client.fetch("https://other.example/"), { code: "channel/address" });
  deepEqual(seen, []);
});

test("undici's connector: a connection into the guest, or the refusal", async (t) => {
  const { guest } = await start(t);
  const { port } = new URL(guest.url);
  const to = { hostname: "127.0.0.1", protocol: "https:", port };
  const open = (options: Parameters<typeof attestedConnector>[0]) =>
    new Promise<TLSSocket>((resolve, reject) =>
      attestedConnector(options)(to, (error, socket) =>
        error === null ? resolve(socket as TLSSocket) : reject(error),
      ),
    );
  const socket = await open(judgement);
  socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  match(await text(socket), /hello$/);
  const { guest: other } = await start(t, { fields: { rtmr1: "b2".repeat(48) } });
  to.port = `${other.port}`;
  await rejects(open(judgement), { code: "channel/refused" });
});

function plain(
  url: string,
  { headers = {}, body }: { headers?: object; body?: string } = {},
): Promise<[number, string]> {
  return new Promise((resolve, reject) => {
    const sending = httpRequest(
      url,
      { method: body === undefined ? "GET" : "POST", headers: { ...headers } },
      (answer) => {
        text(answer).then((said) => resolve([answer.statusCode!, said]), reject);
      },
    );
    sending.once("error", reject);
    sending.end(body);
  });
}

for (const way of ["tls", "tunnel"] as const) {
  test(`a door for programs, by ${way}: requests pass, foreign hosts do not`, async (t) => {
    const { guest, seen } = await start(t);
    const ways: string[] = [];
    const door = await openDoor(guest.url, parsePlace("127.0.0.1:0"), {
      ...judgement,
      ways: [way],
      attested: (attestation) => ways.push(attestation.way),
    });
    t.after(() => door.close());
    deepEqual(await plain(door.url), [200, "hello"]);
    deepEqual(await plain(`${door.url}/form`, { body: canary }), [200, canary]);
    deepEqual(ways, [way]);
    for (const host of ["evil.example", "evil.example:8443", "127.0.0.1.evil.example", "192.0.2.1"]) {
      equal((await plain(door.url, { headers: { host } }))[0], 421, host);
    }
    equal(seen.length, 2);
  });
}

test("a door is opened on this machine only, and not to a guest that is refused", async (t) => {
  for (const place of ["0.0.0.0:8443", "192.0.2.1:80", "example.org:80", "8443", "127.0.0.1:99999"]) {
    throws(() => parsePlace(place), { code: "channel/address" }, place);
  }
  deepEqual(parsePlace("[::1]:8443"), { host: "::1", port: 8443 });
  deepEqual(parsePlace("/run/x.sock"), { path: "/run/x.sock" });
  const { guest } = await start(t, { fields: { rtmr1: "b2".repeat(48) } });
  await rejects(openDoor(guest.url, parsePlace("127.0.0.1:0"), judgement), { code: "channel/refused" });
  const { guest: good } = await start(t);
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  t.after(() => taken.close());
  const { port } = taken.address() as AddressInfo;
  await rejects(openDoor(good.url, parsePlace(`127.0.0.1:${port}`), judgement), { code: "channel/occupied" });
});

/** Whoever has the guest's TLS key, and no more of it: ends connections with that key, and passes everything on. */
async function thief(t: TestContext, guest: TestGuest): Promise<string> {
  const key = guest.key.export({ format: "pem", type: "pkcs8" }) as string;
  const cert = selfSigned(guest.key, ["127.0.0.1"], Date.now());
  const server = createTls({ key, cert, ALPNProtocols: ["http/1.1"] }, (socket) => {
    const onward = connectTls({
      host: "127.0.0.1",
      port: guest.port,
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
    });
    socket.pipe(onward).pipe(socket);
    for (const end of [socket, onward]) {
      end.on("error", () => end.destroy());
      end.once("close", () => [socket, onward].map((one) => one.destroy()));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

test("a leaked TLS key: evidence of the key cannot show it, evidence of the session does", async (t) => {
  const { guest, seen } = await start(t);
  const direct = await attestedFetch(guest.url, { ...judgement, bind: "session" });
  deepEqual([await direct.text(), direct.attestation.way], ["hello", "tls"]);
  const url = await thief(t, guest);
  // docs/channel.md says so: the key is the guest's, wherever it is used.
  equal((await attestedFetch(url, judgement)).status, 200);
  const before = seen.length;
  await rejects(
    attestedFetch(url, { ...judgement, bind: "session", method: "POST", body: canary }),
    (error) => {
      ok(error instanceof ChannelError);
      deepEqual(error.report!.codes, ["channel/session"]);
      return true;
    },
  );
  equal(seen.length, before);
});
