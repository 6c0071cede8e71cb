// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import test, { type TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import { type IdentityKey, identityKey } from "@caisson/protocol/ed25519";
import { seal } from "@caisson/protocol/hpke";
import {
  type Answer,
  answerTranscript,
  type Exchange,
  type Hello,
  helloTranscript,
  keyReleaseVersion,
  type Released,
  type ReleaseRequest,
  sealContext,
} from "@caisson/protocol/key-release";
import { reportData } from "@caisson/verify/report-data";
import { checkOwner, httpPost, type KeyRequest, requestKeys } from "./key-client.ts";

const kms = identityKey(new Uint8Array(32).fill(1));
const impostor = identityKey(new Uint8Array(32).fill(2));
const secret = new Uint8Array(64).map((_, i) => i);
const clock = 1_700_000_000_000;
const nonce = new Uint8Array(32).fill(9);

type Unsigned<T> = T extends unknown ? Omit<T, "signature"> : never;

interface Faults {
  /** Who signs, in place of the KMS. */
  signer?: IdentityKey;
  hello?: (hello: Hello) => unknown;
  /** Before it is signed. */
  claim?: (answer: Unsigned<Answer>) => Unsigned<Answer>;
  /** After it was signed. */
  answer?: (answer: Answer) => unknown;
  /** To which key, in which exchange, the KMS seals. */
  exchange?: (exchange: Exchange) => Exchange;
}

/** A KMS that believes everything, with faults. */
function fakeKms(faults: Faults = {}) {
  const signer = faults.signer ?? kms;
  return async (path: string, body: object): Promise<unknown> => {
    if (path === "/v1/hello") {
      const hello = {
        version: keyReleaseVersion,
        nonce: nonce.toHex(),
        time: clock,
        identityKey: signer.publicKey.toHex(),
      } as const;
      const signed = { ...hello, signature: signer.sign(helloTranscript(hello)).toHex() };
      return faults.hello?.(signed) ?? signed;
    }
    const request = body as ReleaseRequest;
    const asked: Exchange = {
      nonce: Uint8Array.fromHex(request.nonce),
      identityKey: signer.publicKey,
      ephemeralKey: Uint8Array.fromHex(request.ephemeralKey),
    };
    const exchange = faults.exchange?.(asked) ?? asked;
    const about = { time: clock + 50, app: "0a".repeat(20), instance: "0b".repeat(20), keyVersion: 3 };
    const sealed = seal(exchange.ephemeralKey, secret, sealContext(exchange, about));
    const claim: Unsigned<Released> = {
      version: keyReleaseVersion,
      outcome: "released",
      ...about,
      sealed: { enc: sealed.enc.toHex(), ciphertext: sealed.ciphertext.toHex() },
    };
    const unsigned = faults.claim?.(claim) ?? claim;
    const signed = {
      ...unsigned,
      signature: signer.sign(answerTranscript(exchange, unsigned)).toHex(),
    } as Answer;
    return faults.answer?.(signed) ?? signed;
  };
}

function guest(faults: Faults = {}): KeyRequest {
  let asked = 0;
  return {
    post: fakeKms(faults),
    identityKey: kms.publicKey,
    evidence: async () => ({}),
    // The guest sends at `clock` and receives 100 ms later; the KMS's time lies between.
    now: () => clock + 100 * asked++,
    toleranceMs: 2000,
  };
}

test("keys arrive, with whose they are", async () => {
  deepEqual(await requestKeys(guest()), {
    applicationKey: secret.slice(0, 32),
    instanceKey: secret.slice(32),
    keyVersion: 3,
    app: "0a".repeat(20),
    instance: "0b".repeat(20),
    time: clock + 50,
    volumes: [],
  });
});

test("evidence is asked for over the nonce, the measured identity and the ephemeral key", async () => {
  const request = guest();
  const { post } = request;
  let quoted: Uint8Array | undefined;
  request.evidence = async (data) => {
    quoted = data;
    return { quote: 1 };
  };
  request.post = async (path, body) => {
    if (path === "/v1/release") {
      const sent = body as ReleaseRequest;
      deepEqual(sent.evidence, { quote: 1 });
      const ephemeralKey = Uint8Array.fromHex(sent.ephemeralKey);
      const fields = { nonce, kmsIdentityKey: kms.publicKey, ephemeralKey };
      deepEqual(quoted, await reportData(keyReleaseVersion, fields));
    }
    return post(path, body);
  };
  await requestKeys(request);
});

test("two exchanges never share an ephemeral key", async () => {
  const seen = new Set<string>();
  for (let i = 0; i < 3; i++) {
    const request = guest();
    const { post } = request;
    request.post = (path, body) => {
      if (path === "/v1/release") seen.add((body as ReleaseRequest).ephemeralKey);
      return post(path, body);
    };
    await requestKeys(request);
  }
  equal(seen.size, 3);
});

const flip = (hex: string) => hex.slice(0, -1) + (hex.endsWith("0") ? "1" : "0");
const change = (field: keyof Released, value: (answer: Released) => unknown) => (answer: Answer) => ({
  ...answer,
  [field]: value(answer as Released),
});
const deny = (claim: Unsigned<Answer>): Unsigned<Answer> => ({
  version: keyReleaseVersion,
  outcome: "denied",
  time: claim.time,
  code: "td/debug",
  message: "a debug TD",
});

const refused: { name: string; faults: Faults; code: string }[] = [
  { name: "a KMS of another identity", faults: { signer: impostor }, code: "keys/other-identity" },
  {
    name: "a KMS of another identity that claims the measured one",
    faults: { signer: impostor, hello: (hello) => ({ ...hello, identityKey: kms.publicKey.toHex() }) },
    code: "keys/signature",
  },
  {
    name: "a hello with another nonce",
    faults: { hello: (h) => ({ ...h, nonce: flip(h.nonce) }) },
    code: "keys/signature",
  },
  {
    name: "a hello with another time",
    faults: { hello: (h) => ({ ...h, time: h.time + 1 }) },
    code: "keys/signature",
  },
  {
    name: "a hello without its signature",
    faults: { hello: ({ signature: _, ...h }) => h },
    code: "keys/malformed",
  },
  { name: "a hello with more fields", faults: { hello: (h) => ({ ...h, more: 1 }) }, code: "keys/malformed" },
  {
    name: "an answer with another time",
    faults: { answer: change("time", (a) => a.time + 1) },
    code: "keys/signature",
  },
  {
    name: "an answer for another app",
    faults: { answer: change("app", (a) => flip(a.app)) },
    code: "keys/signature",
  },
  {
    name: "an answer for another instance",
    faults: { answer: change("instance", (a) => flip(a.instance)) },
    code: "keys/signature",
  },
  {
    name: "an answer of another key version",
    faults: { answer: change("keyVersion", () => 1) },
    code: "keys/signature",
  },
  {
    name: "an answer with another ciphertext",
    faults: {
      answer: change("sealed", ({ sealed }) => ({ ...sealed, ciphertext: flip(sealed.ciphertext) })),
    },
    code: "keys/signature",
  },
  {
    name: "an answer with another signature",
    faults: { answer: change("signature", (a) => flip(a.signature)) },
    code: "keys/signature",
  },
  { name: "an answer that is not JSON of ours", faults: { answer: () => [1, 2] }, code: "keys/malformed" },
  {
    name: "an answer to another ephemeral key",
    faults: { exchange: (e) => ({ ...e, ephemeralKey: Uint8Array.from(e.ephemeralKey, (b) => b ^ 2) }) },
    code: "keys/signature",
  },
  {
    name: "an answer to another nonce",
    faults: { exchange: (e) => ({ ...e, nonce: new Uint8Array(32) }) },
    code: "keys/signature",
  },
  {
    name: "keys sealed for another version than the KMS signs",
    faults: { claim: (claim) => ({ ...claim, keyVersion: 4 }) as Unsigned<Answer> },
    code: "keys/seal",
  },
  { name: "a signed denial", faults: { claim: deny }, code: "keys/denied" },
  {
    name: "a denial that nobody signed",
    faults: { answer: (a) => ({ ...deny(a), signature: "00".repeat(64) }) },
    code: "keys/signature",
  },
  {
    name: "a refusal before the exchange",
    faults: { hello: () => ({ error: { code: "http/rate-limited", message: "too many" } }) },
    code: "keys/refused",
  },
  {
    name: "a KMS whose clock is 2.001 s behind the sending",
    faults: { claim: (claim) => ({ ...claim, time: clock - 2001 }) },
    code: "keys/time",
  },
  {
    name: "a KMS whose clock is 2.001 s ahead of the receiving",
    faults: { claim: (claim) => ({ ...claim, time: clock + 100 + 2001 }) },
    code: "keys/time",
  },
];
for (const { name, faults, code } of refused) {
  test(`refused: ${name}`, () => rejects(requestKeys(guest(faults)), { code }));
}

test("keys are those of this application and this instance, or refused", async () => {
  const keys = await requestKeys(guest());
  const [own, other] = [new Uint8Array(20).fill(0x0a), new Uint8Array(20).fill(0x0b)];
  checkOwner(keys, own, other);
  throws(() => checkOwner(keys, other, other), {
    code: "keys/other-guest",
    message: /application 0a0a.* this is 0b0b/,
  });
  throws(() => checkOwner(keys, own, own), {
    code: "keys/other-guest",
    message: /instance 0b0b.* this is 0a0a/,
  });
});

test("a denial carries the KMS's own code", () =>
  rejects(requestKeys(guest({ claim: deny })), { code: "keys/denied", denial: "td/debug" }));

test("a KMS that cannot be reached is named so", () =>
  rejects(requestKeys({ ...guest(), post: httpPost("http://127.0.0.1:9", 2000) }), {
    code: "keys/unreachable",
  }));

/** A server of loopback that answers like this; its URL. */
async function serve(t: TestContext, answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test("an endless answer is cut off", async (t) => {
  const url = await serve(t, (_, response) => {
    response.on("error", () => {});
    const more = () => {
      while (response.write(" ".repeat(4096)));
      response.once("drain", more);
    };
    more();
  });
  await rejects(requestKeys({ ...guest(), post: httpPost(url, 5000) }), {
    code: "keys/unreachable",
    message: /longer than 262144/,
  });
});

test("a compressed answer is not unpacked", async (t) => {
  const url = await serve(t, (_, response) =>
    response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync("{}")),
  );
  await rejects(requestKeys({ ...guest(), post: httpPost(url, 5000) }), {
    code: "keys/unreachable",
    message: /not valid JSON/,
  });
});

test("a KMS that answers nothing in time is given up", async (t) => {
  const url = await serve(t, (_, response) => void response.writeHead(200).write("{"));
  await rejects(requestKeys({ ...guest(), post: httpPost(url, 200) }), { code: "keys/unreachable" });
});

/** A server that answers every connection with these bytes, again and again, and keeps it open. */
async function raw(t: TestContext, bytes: string): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {}).on("data", () => {});
    const timer = setInterval(() => socket.write(bytes), 20);
    socket.on("close", () => clearInterval(timer)).write(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const endless: Record<string, [answer: string, message: RegExp]> = {
  "another protocol (101)": [
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    /another protocol|no answer within/,
  ],
  "101 without saying which": ["HTTP/1.1 101 Switching Protocols\r\n\r\n", /./],
  "only that one may go on (100)": ["HTTP/1.1 100 Continue\r\n\r\n", /no answer within/],
  "hints without end (103)": ["HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", /no answer within/],
  "that it works on it (102)": ["HTTP/1.1 102 Processing\r\n\r\n", /no answer within/],
  "nothing but an accepted connection": ["", /no answer within/],
};
for (const [what, [bytes, message]] of Object.entries(endless)) {
  test(`a KMS that answers ${what} is given up`, { timeout: 30_000 }, async (t) => {
    const post = httpPost(await raw(t, bytes), 500);
    await rejects(requestKeys({ ...guest(), post }), { code: "keys/unreachable", message });
  });
}

test("a redirection is not followed", async (t) => {
  let asked = 0;
  const inside = await serve(t, (_, response) => {
    asked++;
    response.end("{}");
  });
  const url = await serve(t, (_, response) => response.writeHead(307, { location: inside }).end());
  await rejects(requestKeys({ ...guest(), post: httpPost(url, 5000) }), { code: "keys/unreachable" });
  equal(asked, 0);
});
