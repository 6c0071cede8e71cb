// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notDeepEqual } from "node:assert/strict";
import { hash } from "node:crypto";
import test from "node:test";
import fc from "fast-check";
import { identityKey, verifySignature } from "./ed25519.ts";
import {
  answerSchema,
  answerTranscript,
  batchTranscript,
  type Denied,
  type Exchange,
  helloSchema,
  helloTranscript,
  isSigned,
  keyReleaseVersion,
  type Released,
  releaseRequestSchema,
  sealContext,
} from "./key-release.ts";

const exchange: Exchange = {
  nonce: new Uint8Array(32).fill(1),
  identityKey: new Uint8Array(32).fill(2),
  ephemeralKey: new Uint8Array(32).fill(3),
};
const released: Released = {
  version: keyReleaseVersion,
  outcome: "released",
  time: 1_700_000_000_000,
  app: "04".repeat(20),
  instance: "05".repeat(20),
  keyVersion: 1,
  sealed: { enc: "06".repeat(32), ciphertext: "07".repeat(80) },
  signature: "08".repeat(64),
};
const denied: Denied = {
  version: keyReleaseVersion,
  outcome: "denied",
  time: 1_700_000_000_000,
  code: "registers/no-match",
  message: "no reference matches",
  signature: "08".repeat(64),
};
const hello = {
  version: keyReleaseVersion,
  nonce: "01".repeat(32),
  time: 1_700_000_000_000,
  identityKey: "02".repeat(32),
  signature: "03".repeat(64),
} as const;

test("RFC 8032, section 7.1, test 2: key and signature", () => {
  const key = identityKey(
    Uint8Array.fromHex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"),
  );
  const message = Uint8Array.of(0x72);
  const signature =
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da" +
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
  equal(key.publicKey.toHex(), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
  equal(key.sign(message).toHex(), signature);
  equal(verifySignature(key.publicKey, message, Uint8Array.fromHex(signature)), true);
  equal(verifySignature(key.publicKey, Uint8Array.of(0x73), Uint8Array.fromHex(signature)), false);
  equal(verifySignature(key.publicKey.subarray(1), message, Uint8Array.fromHex(signature)), false);
  equal(verifySignature(key.publicKey, message, Uint8Array.fromHex(signature).subarray(1)), false);
});

const releasedChanges: { name: string; answer?: Partial<Released>; exchange?: Partial<Exchange> }[] = [
  { name: "time", answer: { time: released.time + 1 } },
  { name: "app", answer: { app: "05".repeat(20) } },
  { name: "instance", answer: { instance: "04".repeat(20) } },
  { name: "key version", answer: { keyVersion: 2 } },
  { name: "enc", answer: { sealed: { ...released.sealed, enc: "00".repeat(32) } } },
  { name: "ciphertext", answer: { sealed: { ...released.sealed, ciphertext: "00".repeat(80) } } },
  { name: "nonce", exchange: { nonce: new Uint8Array(32) } },
  { name: "KMS identity", exchange: { identityKey: new Uint8Array(32) } },
  { name: "ephemeral key", exchange: { ephemeralKey: new Uint8Array(32) } },
];
for (const change of releasedChanges) {
  test(`the signature of an answer covers: ${change.name}`, () => {
    notDeepEqual(
      answerTranscript({ ...exchange, ...change.exchange }, { ...released, ...change.answer }),
      answerTranscript(exchange, released),
    );
  });
}

test("the signature of a denial covers time, code and message, and never fits a release", () => {
  const transcripts = [
    denied,
    { ...denied, time: denied.time + 1 },
    { ...denied, code: "td/debug" },
    { ...denied, message: "" },
    released,
  ].map((answer) => answerTranscript(exchange, answer).toHex());
  equal(new Set(transcripts).size, transcripts.length);
});

test("the signature of a hello covers nonce, time and identity", () => {
  const transcripts = [
    hello,
    { ...hello, nonce: "02".repeat(32) },
    { ...hello, time: hello.time + 1 },
    { ...hello, identityKey: "01".repeat(32) },
  ].map((one) => helloTranscript(one).toHex());
  equal(new Set(transcripts).size, transcripts.length);
});

/** Three transcripts under one signature; the tree is written out here, as RFC 6962 has it. */
const kms = identityKey(new Uint8Array(32).fill(7));
const sha256 = (...parts: Uint8Array[]) => hash("sha256", Buffer.concat(parts), "buffer");
const three = [
  helloTranscript(hello),
  answerTranscript(exchange, released),
  answerTranscript(exchange, denied),
];
const leaves = three.map((one) => sha256(Uint8Array.of(0), one));
const pair = sha256(Uint8Array.of(1), leaves[0]!, leaves[1]!);
const root = sha256(Uint8Array.of(1), pair, leaves[2]!);
const signature = kms.sign(batchTranscript(3, root)).toHex();
const proofs = [[leaves[1]!, leaves[2]!], [leaves[0]!, leaves[2]!], [pair]];
const batches = proofs.map((proof, index) => ({
  size: 3,
  index,
  proof: proof.map((one) => one.toHex()),
}));

test("one signature is for each of a batch, in its place", async () => {
  for (const [i, transcript] of three.entries()) {
    for (const [j, batch] of batches.entries()) {
      equal(await isSigned(kms.publicKey, transcript, { signature, batch }), i === j, `${i}, ${j}`);
    }
    equal(await isSigned(kms.publicKey, transcript, { signature }), false);
  }
});

test("nothing of a batch can be other than it was signed", async () => {
  const [batch] = batches;
  const other = "00".repeat(32);
  for (const [what, changed] of Object.entries({
    "no proof": { batch: { ...batch!, proof: [] } },
    "another hash": { batch: { ...batch!, proof: [batch!.proof[0]!, other] } },
    "hashes in another order": { batch: { ...batch!, proof: batch!.proof.toReversed() } },
    "a hash more": { batch: { ...batch!, proof: [...batch!.proof, other] } },
    "another size": { batch: { ...batch!, size: 4 } },
    "a size that proves the same": { batch: { ...batch!, size: 3, index: 3 } },
    "another signature": { signature: kms.sign(batchTranscript(3, sha256(root))).toHex() },
    "a signature of the root alone": { signature: kms.sign(root).toHex() },
    "a signature of another size": { signature: kms.sign(batchTranscript(2, root)).toHex() },
  })) {
    equal(await isSigned(kms.publicKey, three[0]!, { signature, batch: batch!, ...changed }), false, what);
  }
  equal(
    await isSigned(identityKey(new Uint8Array(32)).publicKey, three[0]!, { signature, batch: batch! }),
    false,
  );
});

test("a node of the tree is not taken for a transcript", async () => {
  const inner = Buffer.concat([leaves[0]!, leaves[1]!]);
  const batch = { size: 2, index: 0, proof: [leaves[2]!.toHex()] };
  for (const size of [2, 3]) {
    const signed = { signature: kms.sign(batchTranscript(size, root)).toHex(), batch };
    equal(await isSigned(kms.publicKey, inner, signed), false);
  }
});

test("a batch in a message is bounded", () => {
  const [batch] = batches;
  const read = (changed: object) =>
    helloSchema.safeParse({ ...hello, batch: { ...batch, ...changed } }).success;
  equal(read({}), true);
  for (const wrong of [
    { size: 1 },
    { size: 257 },
    { size: 2.5 },
    { index: -1 },
    { index: 256 },
    { proof: Array(9).fill("00".repeat(32)) },
    { proof: ["00"] },
    { proof: undefined },
    { more: 1 },
  ]) {
    equal(read(wrong), false, JSON.stringify(wrong));
  }
});

test("the seal is bound to the exchange and to whose keys they are", () => {
  const contexts = releasedChanges
    .filter(({ answer }) => answer?.sealed === undefined)
    .map((change) => sealContext({ ...exchange, ...change.exchange }, { ...released, ...change.answer }));
  const texts = contexts.map(({ info, aad }) => `${info.toHex()} ${aad.toHex()}`);
  equal(new Set(texts).size, texts.length);
});

test("what the sealed keys are encrypted under depends on each part of the exchange", () => {
  const info = (change: Partial<Exchange>) => sealContext({ ...exchange, ...change }, released).info.toHex();
  const other = new Uint8Array(32).fill(9);
  const infos = [{}, { nonce: other }, { identityKey: other }, { ephemeralKey: other }].map(info);
  equal(new Set(infos).size, 4);
});

test("messages that follow the schema pass it unchanged", () => {
  deepEqual(helloSchema.parse(hello), hello);
  deepEqual(answerSchema.parse(released), released);
  deepEqual(answerSchema.parse(denied), denied);
});

/** Every way to spoil one field of a message that was good. */
const spoilt = (message: object) =>
  fc.constantFrom(...Object.keys(message)).chain((field) => {
    const good = (message as Record<string, unknown>)[field];
    return fc
      .oneof(fc.jsonValue(), fc.constant(undefined), fc.constant(`${JSON.stringify(good)}0`), fc.constant(-1))
      .filter((value) => JSON.stringify(value) !== JSON.stringify(good))
      .map((value) => ({ ...message, [field]: value }));
  });

test("a spoilt field, an unknown field or a foreign value is refused or changes nothing else", () => {
  for (const [schema, message] of [
    [helloSchema, hello],
    [answerSchema, released],
    [answerSchema, denied],
  ] as const) {
    equal(schema.safeParse({ ...message, extra: 1 }).success, false);
    fc.assert(
      fc.property(spoilt(message), (value) => {
        const result = schema.safeParse(value);
        // Another code, message or time can be well-formed; what is never accepted is a value of another shape.
        if (result.success) deepEqual(result.data, value);
      }),
    );
    fc.assert(fc.property(fc.jsonValue(), (value) => equal(schema.safeParse(value).success, false)));
  }
});

test("hexadecimal has one spelling and one length", () => {
  const request = {
    version: keyReleaseVersion,
    nonce: "ab".repeat(32),
    ephemeralKey: "cd".repeat(32),
    evidence: {},
  };
  equal(releaseRequestSchema.safeParse(request).success, true);
  for (const nonce of [
    "AB".repeat(32),
    "ab".repeat(31),
    "ab".repeat(33),
    `${"ab".repeat(31)}zz`,
    ` ${"ab".repeat(32)}`,
  ]) {
    equal(releaseRequestSchema.safeParse({ ...request, nonce }).success, false, nonce);
  }
});
