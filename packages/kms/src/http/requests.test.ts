// SPDX-License-Identifier: Apache-2.0
/** What is sent to a KMS: refused, denied or answered, and always in JSON of its own. */
import { doesNotMatch, equal, match, rejects } from "node:assert/strict";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import test, { type TestContext } from "node:test";
import { answerSchema, keyReleaseVersion, refusalSchema } from "@caisson/protocol/key-release";
import fc from "fast-check";
import type { KmsOptions } from "../server.ts";
import { keysFrom, post, testKms } from "../testing/kms.ts";
import { Machine } from "../testing/machine.ts";

const machine = new Machine(Date.now());

const start = (t: TestContext, options: Partial<KmsOptions> = {}) => testKms(t, { app: machine }, options);

const refusals: { name: string; path?: string; body: string | Uint8Array; status: number; code: string }[] = [
  { name: "no JSON", body: "{", status: 400, code: "http/malformed" },
  { name: "an empty body", body: "", status: 400, code: "http/malformed" },
  {
    name: "another version",
    body: '{"version":"caisson/key-release/v2"}',
    path: "/v1/hello",
    status: 400,
    code: "http/malformed",
  },
  {
    name: "an unknown field",
    body: `{"version":"${keyReleaseVersion}","x":1}`,
    path: "/v1/hello",
    status: 400,
    code: "http/malformed",
  },
  { name: "1 MiB and one byte", body: new Uint8Array(1024 * 1024 + 1), status: 413, code: "http/too-large" },
  { name: "nested far too deep", body: "[".repeat(500_000), status: 400, code: "http/malformed" },
  { name: "another path", body: "{}", path: "/v2/hello", status: 404, code: "http/not-found" },
];
for (const { name, path, body, status, code } of refusals) {
  test(`refused: ${name}`, async (t) => {
    const kms = await start(t);
    const answer = await post(kms.url, body, path);
    equal(answer.status, status);
    equal(refusalSchema.parse(answer.body).error.code, code);
  });
}

test("a chunked body is limited while it is read", async (t) => {
  const kms = await start(t);
  let sent = 0;
  const body = new ReadableStream({
    pull(controller) {
      sent += 65_536;
      controller.enqueue(new Uint8Array(65_536));
      if (sent > 64 * 1024 * 1024) controller.close();
    },
  });
  const request = fetch(`${kms.url}/v1/release`, { method: "POST", body, duplex: "half" } as RequestInit);
  const status = await request.then(
    (response) => response.status,
    () => "cut off",
  );
  equal(status === 413 || status === "cut off", true);
  equal(sent < 16 * 1024 * 1024, true, `${sent} bytes were taken`);
  await keysFrom(kms, machine);
});

test("whatever is sent, the KMS answers with JSON of its own and goes on", async (t) => {
  const kms = await start(t, {
    perAddress: { perSecond: 1e6, burst: 1e6 },
    common: { perSecond: 1e6, burst: 1e6 },
  });
  const request = {
    version: keyReleaseVersion,
    nonce: "00".repeat(32),
    ephemeralKey: "01".repeat(32),
    evidence: await machine.evidence(machine.booted(kms.identityKey), new Uint8Array(64)),
  };
  const good = Buffer.from(JSON.stringify(request));
  const mutated = fc.oneof(
    fc.nat(good.length).map((length) => good.subarray(0, length)),
    fc.tuple(fc.nat(good.length - 1), fc.nat(7)).map(([at, bit]) => {
      const copy = Buffer.from(good);
      copy[at]! ^= 1 << bit;
      return copy;
    }),
    fc.uint8Array({ maxLength: 200 }),
    fc.json().map((text) => Buffer.from(text)),
    fc.jsonValue().map((evidence) => Buffer.from(JSON.stringify({ ...request, evidence }))),
  );
  await fc.assert(
    fc.asyncProperty(mutated, async (body) => {
      const { status, body: answer } = await post(kms.url, body);
      equal([400, 403].includes(status), true, `${status}`);
      equal((status === 400 ? refusalSchema : answerSchema).safeParse(answer).success, true);
      doesNotMatch(JSON.stringify(answer), /node_modules|\.ts:/);
    }),
    { numRuns: 100 },
  );
  equal(
    kms.lines.some((line) => line.includes('"failed"')),
    false,
  );
  equal((await fetch(`${kms.url}/healthz`)).status, 200);
});

/** What bytes get that Node's server has to understand: the first line of the answer, or nothing. */
const raw: { name: string; head: string; body?: string; answer: RegExp }[] = [
  {
    name: "two lengths",
    head: "POST /v1/hello",
    body: "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    answer: / 400 /,
  },
  {
    name: "a length, and chunks",
    head: "POST /v1/hello",
    body: "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    answer: / 400 /,
  },
  {
    name: "a coding that is not the last",
    head: "POST /v1/hello",
    body: "Transfer-Encoding: chunked, x\r\n\r\n",
    answer: / 400 /,
  },
  {
    name: "chunks that are none",
    head: "POST /v1/hello",
    body: "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    answer: / 400 /,
  },
  { name: "headers of 9 kB", head: "GET /healthz", body: `A: ${"a".repeat(9000)}\r\n\r\n`, answer: / 431 / },
  { name: "a line without its return", head: "GET /healthz", body: "A: b\n\n", answer: / 400 / },
  { name: "another protocol", head: "CONNECT evil:80", answer: /^$/ },
  {
    name: "a protocol that it does not change to",
    head: "GET /healthz",
    body: "Upgrade: h2c\r\n\r\n",
    answer: / 200 /,
  },
  { name: "an expectation", head: "GET /healthz", body: "Expect: more\r\n\r\n", answer: / 417 / },
  { name: "a whole address", head: "GET http://evil/healthz", answer: / 200 / },
  { name: "an address without a path", head: "GET http://evil", answer: / 404 / },
  { name: "a star", head: "OPTIONS *", answer: / 404 / },
  { name: "a path that is written otherwise", head: "GET /v1/%6cog/head", answer: / 404 / },
  { name: "a name that every object has", head: "GET /v1/sealing-key/constructor", answer: / 404 / },
  { name: "a key that every object has", head: "GET /__proto__", answer: / 404 / },
  { name: "the wildcard itself", head: "GET /v1/policies/*", answer: / 404 / },
  {
    name: "more behind the last request",
    head: "GET /v1/log/head",
    body: "\r\nGET /healthz HTTP/1.1\r\n\r\n",
    answer: / 400 /,
  },
];
test("whatever HTTP can be made to look like is refused, or is what it says", async (t) => {
  const kms = await start(t, { perAddress: { perSecond: 1e6, burst: 1e6 } });
  for (const { name, head, body = "\r\n", answer } of raw) {
    const socket = connect(Number(new URL(kms.url).port), "127.0.0.1");
    socket.on("error", () => {}).end(`${head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${body}`);
    const said = (await text(socket.setEncoding("latin1"))).split("\r\n")[0]!;
    match(said, answer, name);
  }
  const whole = await fetch(`${kms.url}/v1/policies`);
  const empty = await fetch(`${kms.url}/v1/policies`, { method: "HEAD" });
  equal(await empty.text(), "");
  equal(empty.headers.get("content-length"), whole.headers.get("content-length"));
  equal((await whole.text()).length, Number(whole.headers.get("content-length")));
  equal(kms.lines.filter((line) => line.includes('"failed"')).length, 0);
});

test("evidence that was changed anywhere is denied, with a fresh nonce each time", async (t) => {
  const kms = await start(t, {
    perAddress: { perSecond: 1e6, burst: 1e6 },
    common: { perSecond: 1e6, burst: 1e6 },
  });
  const state = machine.booted(kms.identityKey);
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.nat(7), async (position, bit) => {
      const outcome = keysFrom(kms, machine, {
        evidence: async (reportData) => {
          const evidence = await machine.evidence(state, reportData);
          const quote = Uint8Array.fromBase64(evidence.quote);
          // Up to the PCK chain, whose PEM text leaves room for changes that mean nothing.
          quote[position % 1200]! ^= 1 << bit;
          return { ...evidence, quote: quote.toBase64() };
        },
      });
      await rejects(outcome, { code: "keys/denied" });
    }),
    { numRuns: 30 },
  );
});
