// SPDX-License-Identifier: Apache-2.0
/** What the front says itself: evidence, under few quotes, and keys. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import http2 from "node:http2";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { hpkeConfigOf } from "@caisson/vocabulary/channel";
import { leafHash, verifyInclusion } from "@caisson/vocabulary/merkle";
import { ask, connected, echo, start } from "./testing/front.ts";

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
