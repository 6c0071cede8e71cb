// SPDX-License-Identifier: Apache-2.0
/** Sealed bodies: Tinfoil's public vectors, and every way to frame wrongly. */
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import test from "node:test";
import { concat } from "@caisson/vocabulary/bytes";
import fc from "fast-check";
import { beginEhbp, ehbpAnswer, FrameReader, FramingError, openEhbp, sealFrames } from "./ehbp.ts";
import { answerCipher, answerKeys, generateKeyPair } from "./hpke-context.ts";

const bytes = (hex: string) => Uint8Array.fromHex(hex);
const range = (from: number) => Uint8Array.from({ length: 32 }, (_, i) => from + i);
/** test-vectors/derive.json and response-decryption.json of tinfoilsh/encrypted-http-body-protocol. */
const [secret, enc, nonce] = [range(0x00), range(0x20), range(0x40)];
const vector = {
  key: "40ec528847cd4e928449f2ed1a70a7d1e8ee317d5e900424fc1dd5b0475b97f7",
  base: "f8b0ce9466f27aa6243c65f9",
  plaintext: "68656c6c6f2066726f6d207465737420766563746f72",
  sealed: "0000002647e74d9a561b60ff42ac7ffbb4caf6b6d5ad0bb7621e41840d2ab7de7208ff7a59d0a2a482cc",
};

test("Tinfoil's vectors: keys of an answer, and an answer", async () => {
  const { key, base } = await answerKeys(secret, enc, nonce);
  deepEqual([key.toHex(), base.toHex()], [vector.key, vector.base]);
  const written = await sealFrames(await answerCipher(secret, enc, nonce), bytes(vector.plaintext));
  equal(written.toHex(), vector.sealed);
  const [frame] = new FrameReader().push(bytes(vector.sealed));
  const opened = await (await answerCipher(secret, enc, nonce)).open(frame!);
  equal(opened.toHex(), vector.plaintext);
});

test("a body and its answer, cut anywhere on their way", async () => {
  const property = fc.asyncProperty(
    fc.uint8Array({ maxLength: 300_000, size: "max" }),
    fc.integer({ min: 1, max: 70_000 }),
    async (message, piece) => {
      const own = await generateKeyPair();
      const client = await beginEhbp(own.publicKey);
      const sent = await sealFrames(client.context, message);
      const context = await openEhbp(own, client.enc);
      deepEqual(await received(sent, piece, (frame) => context.open(frame)), Buffer.from(message));
      const answer = await sealFrames(await ehbpAnswer(context, client.enc, nonce), message);
      const opener = await client.answer(nonce);
      deepEqual(await received(answer, piece, (frame) => opener.open(frame)), Buffer.from(message));
    },
  );
  await fc.assert(property, { numRuns: 15 });
});

async function received(sent: Uint8Array, piece: number, open: (frame: Uint8Array) => Promise<Uint8Array>) {
  const reader = new FrameReader();
  const parts: Uint8Array[] = [];
  for (let at = 0; at < sent.length; at += piece) {
    for (const frame of reader.push(sent.subarray(at, at + piece))) parts.push(await open(frame));
  }
  reader.end();
  return Buffer.concat(parts);
}

test("frames: a length of 4 GiB is refused before anything is held, empty ones are counted, an end inside is seen", () => {
  throws(() => new FrameReader().push(bytes("ffffffff")), FramingError);
  throws(() => new FrameReader().push(bytes("00100011")), FramingError);
  deepEqual(new FrameReader().push(new Uint8Array(4 * 16)), []);
  throws(() => new FrameReader().push(new Uint8Array(4 * 17)), FramingError);
  const reader = new FrameReader();
  throws(() => {
    for (let i = 0; i < 1_000_000; i++) reader.push(new Uint8Array(4));
  }, FramingError);
  for (const cut of [1, 3, 4, 5, 41]) {
    const partial = new FrameReader();
    partial.push(bytes(vector.sealed).subarray(0, cut));
    throws(() => partial.end(), FramingError);
  }
});

test("any bytes are frames or refused, and never more than were given", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 20 }), (pieces) => {
      const reader = new FrameReader();
      let [given, got] = [0, 0];
      try {
        for (const piece of pieces) {
          given += piece.length;
          got += reader.push(piece).reduce((sum, frame) => sum + frame.length, 0);
          equal(got <= given, true);
        }
      } catch (error) {
        equal(error instanceof FramingError, true);
      }
    }),
  );
});

test("a frame that was changed, left out or repeated is not opened", async () => {
  const own = await generateKeyPair();
  const client = await beginEhbp(own.publicKey);
  const first = concat(...(await client.context.seal(Uint8Array.of(1))));
  const second = concat(...(await client.context.seal(Uint8Array.of(2))));
  await rejects((await openEhbp(own, client.enc)).open(second));
  await rejects((await openEhbp(own, client.enc)).open(first.with(0, first[0]! ^ 1)));
  const context = await openEhbp(own, client.enc);
  await context.open(first);
  await rejects(context.open(first));
  await rejects(openEhbp(own, new Uint8Array(32)));
});
