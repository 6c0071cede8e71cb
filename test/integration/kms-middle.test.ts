// SPDX-License-Identifier: Apache-2.0
/** Everything that a man in the middle between guest and KMS can do, and a KMS that is not the one that was measured. */
import { equal, rejects } from "node:assert/strict";
import test from "node:test";
import { httpPost, type Post, requestKeys } from "@caisson/guest/key-client";
import { startKms } from "@caisson/kms";
import { Machine } from "@caisson/kms/testing/machine";
import type { Answer, Hello, Released, ReleaseRequest } from "@caisson/protocol/key-release";
import type { EvidenceDocument } from "@caisson/verify";
import { exchange, kmsFiles } from "../support/kms-process.ts";

const machine = new Machine(Date.now());

/** What a guest gets from the KMS that it measured; `post` puts somebody between them. */
const keysFrom = ({ url, identityKey }: { url: string; identityKey: string }, post?: Post) =>
  exchange(url, identityKey, machine, Date.now, post);

/** A man in the middle: sees every message of both, and may put others in their place. */
interface Middle {
  hello?: (hello: Hello) => unknown;
  request?: (request: ReleaseRequest) => ReleaseRequest;
  answer?: (answer: Answer) => unknown;
  seen?: string[];
}

function middle(url: string, { hello, request, answer, seen = [] }: Middle): Post {
  const post = httpPost(url, 20_000);
  return async (path, body) => {
    const sent = path === "/v1/release" && request !== undefined ? request(body as ReleaseRequest) : body;
    const received = await post(path, sent);
    seen.push(JSON.stringify(sent), JSON.stringify(received));
    if (path === "/v1/hello") return hello?.(received as Hello) ?? received;
    return answer?.(received as Answer) ?? received;
  };
}

test("a man in the middle who only listens learns no key", async (t) => {
  const kms = await startKms({ ...kmsFiles(t, [machine]), host: "127.0.0.1", port: 0, development: true });
  t.after(() => kms.close());
  const seen: string[] = [];
  const { applicationKey, instanceKey } = await keysFrom(kms, middle(kms.url, { seen }));
  equal(seen.length, 4);
  for (const key of [applicationKey, instanceKey]) {
    for (const text of [key.toHex(), key.toBase64()]) equal(seen.join().includes(text), false);
  }
});

const flip = (hex: string) => hex.slice(0, -1) + (hex.endsWith("0") ? "1" : "0");
const evidenceOf = (request: ReleaseRequest) => request.evidence as EvidenceDocument;
const attacks: { name: string; middle: () => Middle; expected: { code: string; denial?: string } }[] = [
  {
    name: "puts his own ephemeral key in place of the guest's",
    middle: () => ({ request: (request) => ({ ...request, ephemeralKey: "09".repeat(32) }) }),
    expected: { code: "keys/signature" },
  },
  {
    name: "puts his own nonce in place of the KMS's",
    middle: () => ({ hello: (hello) => ({ ...hello, nonce: flip(hello.nonce) }) }),
    expected: { code: "keys/signature" },
  },
  {
    name: "says that the KMS is another",
    middle: () => ({ hello: (hello) => ({ ...hello, identityKey: flip(hello.identityKey) }) }),
    expected: { code: "keys/other-identity" },
  },
  {
    name: "changes the log in the evidence",
    middle: () => ({
      request: (request) => ({
        ...request,
        evidence: { ...evidenceOf(request), runtimeEvents: evidenceOf(request).runtimeEvents.slice(1) },
      }),
    }),
    expected: { code: "keys/denied", denial: "events/runtime-replay" },
  },
  {
    name: "takes the collateral out of the evidence",
    middle: () => ({
      request: (request) => {
        const { collateral: _, ...evidence } = evidenceOf(request);
        return { ...request, evidence };
      },
    }),
    expected: { code: "keys/denied", denial: "collateral/missing" },
  },
  {
    name: "changes the KMS's time",
    middle: () => ({ answer: (answer) => ({ ...answer, time: answer.time - 3_600_000 }) }),
    expected: { code: "keys/signature" },
  },
  {
    name: "changes the sealed keys",
    middle: () => ({
      answer: (answer) => ({
        ...answer,
        sealed: { ...(answer as Released).sealed, ciphertext: flip((answer as Released).sealed.ciphertext) },
      }),
    }),
    expected: { code: "keys/signature" },
  },
  {
    name: "turns a release into a denial",
    middle: () => ({
      answer: ({ version, time, signature }) => ({
        version,
        outcome: "denied",
        time,
        code: "td/debug",
        message: "no",
        signature,
      }),
    }),
    expected: { code: "keys/signature" },
  },
];
for (const { name, middle: attack, expected } of attacks) {
  test(`a man in the middle ${name}: no keys`, async (t) => {
    const kms = await startKms({ ...kmsFiles(t, [machine]), host: "127.0.0.1", port: 0, development: true });
    t.after(() => kms.close());
    await rejects(keysFrom(kms, middle(kms.url, attack())), expected);
  });
}

test("a man in the middle answers with an earlier answer, for the same machine: no keys", async (t) => {
  const kms = await startKms({ ...kmsFiles(t, [machine]), host: "127.0.0.1", port: 0, development: true });
  t.after(() => kms.close());
  const answers: Answer[] = [];
  await keysFrom(kms, middle(kms.url, { answer: (answer) => answers[answers.push(answer) - 1] }));
  await rejects(keysFrom(kms, middle(kms.url, { answer: () => answers[0] })), {
    code: "keys/signature",
  });
});

test("a man in the middle sends a request a second time: the KMS refuses it, and could give him nothing", async (t) => {
  const kms = await startKms({ ...kmsFiles(t, [machine]), host: "127.0.0.1", port: 0, development: true });
  t.after(() => kms.close());
  let replayed: Answer | undefined;
  const post = httpPost(kms.url, 20_000);
  await keysFrom(kms, async (path, body) => {
    const answer = await post(path, body);
    if (path === "/v1/release") replayed = (await post(path, body)) as Answer;
    return answer;
  });
  equal(replayed?.outcome === "denied" && replayed.code, "nonce/used");
});

test("a host's own KMS, with another root secret, is another identity: the guest that measured the real one refuses it", async (t) => {
  const [real, false_] = await Promise.all(
    [1, 2].map(() => startKms({ ...kmsFiles(t, [machine]), host: "127.0.0.1", port: 0, development: true })),
  );
  t.after(() => Promise.all([real!.close(), false_!.close()]));
  await rejects(keysFrom({ url: false_!.url, identityKey: real!.identityKey }), {
    code: "keys/other-identity",
  });
  // And one that measured the false one gets nothing from the real one.
  const state = machine.booted(false_!.identityKey);
  const attempt = requestKeys({
    post: httpPost(real!.url, 20_000),
    identityKey: Uint8Array.fromHex(real!.identityKey),
    evidence: (reportData) => machine.evidence(state, reportData),
    now: Date.now,
    toleranceMs: 2000,
  });
  await rejects(attempt, { code: "keys/denied", denial: "keys/key-provider" });
});

test("a KMS whose clock is an hour off gives keys that the guest does not use", async (t) => {
  const now = () => Date.now() - 3_600_000;
  const kms = await startKms({
    ...kmsFiles(t, [machine]),
    host: "127.0.0.1",
    port: 0,
    development: true,
    now,
  });
  t.after(() => kms.close());
  await rejects(keysFrom(kms), { code: "keys/time" });
});
