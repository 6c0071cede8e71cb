// SPDX-License-Identifier: Apache-2.0
/** The connector in the undici that users install, and in the fetch that Node has: what passes, and what is refused. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage, RequestListener } from "node:http";
import type { Socket } from "node:net";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { Agent, request, fetch as undiciFetch, WebSocket } from "undici";
import { testGuest, testPlatform } from "../testing/guest.ts";
import { startInterceptor } from "../testing/interceptor.ts";
import { attestedConnector } from "./dispatcher.ts";

const platform = testPlatform();

/** Echoes; "/events" is a stream whose second event comes once the first was read. */
async function start(t: TestContext) {
  const seen: string[] = [];
  const next = Promise.withResolvers<void>();
  const listener: RequestListener = (asked, response) => {
    seen.push(`${asked.method} ${asked.url} ${String(asked.headers["caisson-channel"])}`);
    if (asked.url === "/events") {
      response.write("data: 1\n\n");
      return void next.promise.then(() => response.end("data: 2\n\n"));
    }
    return void text(asked).then((body) => response.end(body || "hello"));
  };
  const guest = await testGuest(platform, listener);
  const dispatcher = agent(t);
  t.after(() => guest.close());
  return { guest, dispatcher, seen, next };
}

function agent(t: TestContext): Agent {
  const connect = attestedConnector(platform.judgement);
  const made = new Agent({ connect, maxCachedSessions: 0 });
  t.after(() => made.destroy());
  return made;
}

test("undici's request and fetch, and Node's own fetch, over one attestation", async (t) => {
  const { guest, dispatcher, seen } = await start(t);
  const first = await request(guest.url, { dispatcher });
  equal(await first.body.text(), "hello");
  const second = await undiciFetch(`${guest.url}a`, { dispatcher, method: "POST", body: "canary" });
  equal(await second.text(), "canary");
  // Node's types name the undici inside of it, which cannot be imported.
  const third = await fetch(`${guest.url}b`, { dispatcher } as unknown as RequestInit);
  equal(await third.text(), "hello");
  deepEqual(seen, ["GET / tls", "POST /a tls", "GET /b tls"]);
  equal(guest.quotes(), 1);
});

test("many connections at once: as many as needed, and none is used before it is accepted", async (t) => {
  const { guest, dispatcher } = await start(t);
  const answers = await Promise.all(
    Array.from({ length: 12 }, (_, i) =>
      undiciFetch(`${guest.url}${i}`, { dispatcher, method: "PUT", body: `${i}` }),
    ),
  );
  deepEqual(
    await Promise.all(answers.map((answer) => answer.text())),
    Array.from({ length: 12 }, (_, i) => `${i}`),
  );
});

test("streams both ways: an event is there before the answer's end, a body is sent as it is made", async (t) => {
  const { guest, dispatcher, next } = await start(t);
  const answer = await undiciFetch(`${guest.url}events`, { dispatcher });
  const reader = answer.body!.getReader();
  const event = async () => new TextDecoder().decode((await reader.read()).value as Uint8Array);
  equal(await event(), "data: 1\n\n");
  next.resolve();
  equal(await event(), "data: 2\n\n");
  async function* pieces() {
    for (const piece of ["one ", "two ", "three"]) yield Buffer.from(piece);
  }
  const sent = await undiciFetch(guest.url, { dispatcher, method: "POST", body: pieces(), duplex: "half" });
  equal(await sent.text(), "one two three");
});

test("a WebSocket whose connection ends in the guest", async (t) => {
  const { guest, dispatcher } = await start(t);
  guest.behind.on("upgrade", (asked: IncomingMessage, socket: Socket) => {
    const accept = createHash("sha1")
      .update(`${asked.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest("base64");
    socket.write(
      `HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    // One frame of text, not masked: RFC 6455, section 5.2.
    socket.write(Buffer.concat([Buffer.of(0x81, 5), Buffer.from("hello")]));
    socket.on("error", () => socket.destroy());
  });
  const socket = new WebSocket(guest.url.replace("https:", "wss:"), { dispatcher });
  const [{ data }] = (await once(socket, "message")) as [{ data: string }];
  equal(data, "hello");
  socket.close();
});

test("TLS that ends elsewhere is refused with the channel's code, and nothing of the request was sent", async (t) => {
  const { guest, seen } = await start(t);
  const between = await startInterceptor(guest.port);
  t.after(() => between.close());
  await rejects(request(`${between.url}canary`, { dispatcher: agent(t), method: "POST", body: "canary" }), {
    code: "channel/refused",
  });
  await rejects(
    undiciFetch(`${between.url}canary`, { dispatcher: agent(t), method: "POST", body: "canary" }),
    ({ cause }: Error) => (cause as { code?: string }).code === "channel/refused",
  );
  deepEqual(seen, []);
  equal(between.record().includes("canary"), false);
});

test("bound to its session, each connection has evidence of its own; bound to the key, the first is enough", async (t) => {
  for (const [bind, quotes] of [
    ["key", 1],
    ["session", 2],
  ] as const) {
    const { guest } = await start(t);
    const connect = attestedConnector({ ...platform.judgement, bind });
    for (let i = 0; i < 2; i++) {
      const dispatcher = new Agent({ connect, maxCachedSessions: 0, connections: 1 });
      equal(await (await request(guest.url, { dispatcher })).body.text(), "hello");
      await dispatcher.destroy();
    }
    equal(guest.quotes(), quotes, bind);
  }
});
