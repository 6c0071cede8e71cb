// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match } from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { Agent, type IncomingMessage, request, type Server } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { deriveApplicationKey } from "@caisson/protocol/derivation";
import { serveApplication } from "./api.ts";
import type { Context } from "./stage.ts";

const directory = mkdtempSync(join(tmpdir(), "caisson-test-"));
const socketPath = join(directory, "app.sock");
const root = new Uint8Array(32).fill(7);
const attested: string[] = [];
const context = {
  config: {
    flavour: "production",
    app: { name: "hello" },
  },
  platform: { name: "tdx" },
  appId: new Uint8Array(20),
  instanceId: new Uint8Array(20),
  keys: { root, kms: "ab" },
  attest: (bound: Uint8Array, claim: unknown) => {
    attested.push(`${bound.length} ${JSON.stringify(claim)}`);
    return Promise.resolve({ version: "caisson/evidence/v1" });
  },
} as unknown as Omit<Context, "attest"> & { attest: Context["attest"] };

let server: Server;
before(async () => {
  server = await serveApplication(context, socketPath, { user: process.getuid!(), group: process.getgid!() });
});
after(() => {
  server.close();
  rmSync(directory, { recursive: true });
});

function call(
  method: string,
  path: string,
  body?: string,
): Promise<{ status: number; answer: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, method, path }, (response) => {
      void text(response).then((answer) =>
        resolve({ status: response.statusCode!, answer: JSON.parse(answer) }),
      );
    });
    sent.once("error", reject).end(body);
  });
}

test("the socket is its user's alone", () => {
  equal(statSync(socketPath).mode & 0o777, 0o600);
});

test("a key follows from path and purpose, both", async () => {
  const { status, answer } = await call("POST", "/key", '{"path":"a","purpose":"b"}');
  equal(status, 200);
  equal(answer.key, Buffer.from(deriveApplicationKey(root, "a", "b")).toString("hex"));
});

test("evidence binds the nonce under the application's scheme", async () => {
  const nonce = "00112233445566778899";
  equal((await call("POST", "/evidence", JSON.stringify({ nonce }))).status, 200);
  deepEqual(attested, [`64 ${JSON.stringify({ scheme: "caisson/app/v1", fields: { nonce } })}`]);
});

test("while the clock is in doubt there are no keys", async () => {
  context.clockAlarm = true;
  const { status, answer } = await call("POST", "/key", '{"path":"a","purpose":"b"}');
  context.clockAlarm = false;
  equal(status, 503);
  match(String(answer.error), /clock/);
});

test("of many requests at once, eight are answered and the others refused; later ones work again", async () => {
  const usual = context.attest;
  let release: () => void = () => {};
  const made = new Promise<void>((resolve) => {
    release = resolve;
  });
  context.attest = async (...args) => {
    await made;
    return usual(...args);
  };
  const ask = () => call("POST", "/evidence", JSON.stringify({ nonce: "00".repeat(8) }));
  const waiting = Array.from({ length: 8 }, ask);
  // The eight are being answered when the ninth finds no place.
  let ninth = await call("GET", "/info");
  while (ninth.status === 200) ninth = await call("GET", "/info");
  equal(ninth.status, 429);
  release();
  deepEqual(
    (await Promise.all(waiting)).map(({ status }) => status),
    Array(8).fill(200),
  );
  equal((await call("GET", "/info")).status, 200);
  context.attest = usual;
});

/** Until a place is free; a place that is never freed ends in the test's limit. */
async function free({ signal }: TestContext): Promise<void> {
  while (!signal.aborted && (await call("GET", "/info")).status === 429) await sleep(10);
}
const limited = { timeout: 60_000 };

test(
  "answers that the application does not read are no more than eight, however many connections ask",
  limited,
  async (t) => {
    const usual = context.attest;
    let made = 0;
    // More than the buffers of a socket take, so that an answer that is not read is not sent.
    context.attest = async () => {
      made++;
      return { filling: "x".repeat(2 ** 23) } as never;
    };
    const body = JSON.stringify({ nonce: "00".repeat(8) });
    const request = `POST /evidence HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const sockets = Array.from({ length: 12 }, () => {
      const socket = connect(socketPath, () => socket.write(request));
      return socket.on("error", () => {});
    });
    // Each has the beginning of its answer, and does not read on.
    const beginnings = await Promise.all(
      sockets.map(async (socket) => {
        const [data] = (await once(socket, "data")) as [Buffer];
        socket.pause();
        return data.toString("latin1", 9, 12);
      }),
    );
    const unread = made;
    // Those that were refused may be closed by now.
    const open = sockets.filter((socket) => !socket.closed);
    const closed = Promise.all(open.map((socket) => once(socket, "close")));
    for (const socket of sockets) socket.destroy();
    await closed;
    context.attest = usual;
    equal(unread, 8);
    deepEqual(beginnings.sort(), [...Array(8).fill("200"), ...Array(4).fill("429")]);
    await free(t);
  },
);

test("an answer that is never read is given up, and its place is free again", limited, async (t) => {
  const path = join(directory, "impatient.sock");
  const filling = { ...context, attest: async () => ({ filling: "x".repeat(2 ** 23) }) as never };
  const owner = { user: process.getuid!(), group: process.getgid!() };
  const impatient = await serveApplication(filling, path, owner, 200);
  t.after(() => impatient.close());
  const body = JSON.stringify({ nonce: "00".repeat(8) });
  const socket = connect(path, () =>
    socket.write(`POST /evidence HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`),
  );
  await once(socket, "data");
  socket.pause();
  const connections = () =>
    new Promise<number>((resolve) => impatient.getConnections((_, count) => resolve(count)));
  equal(await connections(), 1);
  while (!t.signal.aborted && (await connections()) > 0) await sleep(20);
  equal(await connections(), 0);
  socket.destroy();
});

test("a client that keeps connections never writes to one that was closed meanwhile", async (t) => {
  const agent = new Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  for (let round = 0; round < 3; round++) {
    const sent = request({ socketPath, agent, path: "/info" }).end();
    const [response] = (await once(sent, "response")) as [IncomingMessage];
    equal(JSON.parse(await text(response)).name, "hello");
    equal(sent.reusedSocket, false);
    // Whoever blocks its event loop sees the end of a connection too late.
    deepEqual(Object.keys(agent.freeSockets), []);
  }
});

test("a client that is slow to write its request is waited for as long as one that is slow to read", () => {
  const { timeout, headersTimeout, requestTimeout } = server;
  deepEqual([headersTimeout, requestTimeout], [timeout, timeout]);
  equal(timeout >= 60_000, true);
});

test("a connection that asks again before it has its answer is closed", async () => {
  const socket = connect(socketPath, () => socket.write("GET /info HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100)));
  const answers = (await text(socket)).split("HTTP/1.1 200").length - 1;
  equal(answers <= 1, true, `${answers} answers`);
});

test("an answer for which its connection did not wait frees its place", limited, async (t) => {
  const usual = context.attest;
  t.after(() => void (context.attest = usual));
  const body = JSON.stringify({ nonce: "00".repeat(8) });
  const request = `POST /evidence HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  for (let round = 0; round < 3; round++) {
    const gone = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    let made = 0;
    context.attest = async (...args) => {
      if (++made === 8) asked.resolve();
      await gone.promise;
      return usual(...args);
    };
    const sockets = Array.from({ length: 8 }, () => {
      const socket = connect(socketPath, () => socket.write(request));
      return socket;
    });
    await asked.promise;
    const closed = Promise.all(sockets.map((socket) => once(socket, "close")));
    for (const socket of sockets) socket.destroy();
    await closed;
    gone.resolve();
    await free(t);
  }
});

const refused: Record<string, [method: string, path: string, body: string | undefined, status: number]> = {
  "no such route": ["GET", "/", undefined, 404],
  "no JSON": ["POST", "/key", "{", 400],
  "an unknown member": ["POST", "/key", '{"path":"a","purpose":"b","raw":true}', 400],
  "a path that is none": ["POST", "/key", '{"path":"a b","purpose":"b"}', 400],
  "a body without end": ["POST", "/key", `"${"a".repeat(8192)}"`, 413],
  "a nonce that is too short": ["POST", "/evidence", '{"nonce":"00"}', 400],
  "report data of the caller's own": ["POST", "/evidence", '{"reportData":"00"}', 400],
  "a look inside a production guest": ["GET", "/live", undefined, 404],
};
for (const [name, [method, path, body, status]] of Object.entries(refused)) {
  test(`refused: ${name}`, async () => {
    const { status: got, answer } = await call(method, path, body);
    equal(got, status, JSON.stringify(answer));
    equal(typeof answer.error, "string");
  });
}
