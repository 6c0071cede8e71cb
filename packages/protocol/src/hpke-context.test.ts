// SPDX-License-Identifier: Apache-2.0
/** HPKE for streams against another implementation, and the browser's primitives against Node's. */
import { deepEqual, rejects } from "node:assert/strict";
import test from "node:test";
import { concat } from "@caisson/vocabulary/bytes";
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import fc from "fast-check";
import { keyPairOf, setupRecipient, setupSender } from "./hpke-context.ts";
import * as node from "./primitives.node.ts";
import * as web from "./primitives.web.ts";

const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Aes256Gcm(),
});
const whole = (value: Uint8Array) => new Uint8Array(value).buffer;
const anything = fc.uint8Array({ maxLength: 100 });

test("messages in order and exported secrets are another implementation's", async () => {
  const property = fc.asyncProperty(
    fc.array(anything, { maxLength: 5 }),
    anything,
    async (messages, info) => {
      const pair = await suite.kem.generateKeyPair();
      const publicKey = new Uint8Array(await suite.kem.serializePublicKey(pair.publicKey));
      const { enc, context } = await setupSender(publicKey, info);
      const recipient = await suite.createRecipientContext({
        recipientKey: pair,
        enc: whole(enc),
        info: whole(info),
      });
      for (const message of messages) {
        const sealed = concat(...(await context.seal(message, info)));
        deepEqual(new Uint8Array(await recipient.open(whole(sealed), whole(info))), message);
      }
      const label = new TextEncoder().encode("a label");
      deepEqual(
        new Uint8Array(await recipient.export(whole(label), 32)).toHex(),
        (await context.export("a label", 32)).toHex(),
      );
    },
  );
  await fc.assert(property, { numRuns: 20 });
});

test("a message out of order, twice, or under another AAD is not opened", async () => {
  const own = await node.generateKeyPair();
  const info = Uint8Array.of(1);
  const { enc, context } = await setupSender(own.publicKey, info);
  const sealed = [
    concat(...(await context.seal(Uint8Array.of(1)))),
    concat(...(await context.seal(Uint8Array.of(2)))),
  ];
  await rejects((await setupRecipient(own, enc, info)).open(sealed[1]!));
  const recipient = await setupRecipient(own, enc, info);
  deepEqual(await recipient.open(sealed[0]!).then((bytes) => [...bytes]), [1]);
  await rejects(recipient.open(sealed[0]!));
  await rejects((await setupRecipient(own, enc, info)).open(sealed[0]!, Uint8Array.of(9)));
  await rejects((await setupRecipient(own, enc, Uint8Array.of(2))).open(sealed[0]!));
});

test("a browser's primitives give what Node's give", async () => {
  const secret = fc.uint8Array({ minLength: 32, maxLength: 32 });
  const property = fc.asyncProperty(secret, secret, anything, anything, async (a, b, message, aad) => {
    const [ours, theirs] = [await node.keyPairOf(a), await web.keyPairOf(a)];
    deepEqual(theirs.publicKey.toHex(), ours.publicKey.toHex());
    const other = (await node.keyPairOf(b)).publicKey;
    deepEqual((await web.agree(theirs, other)).toHex(), (await node.agree(ours, other)).toHex());
    deepEqual((await web.hmacSha256(aad, message)).toHex(), (await node.hmacSha256(aad, message)).toHex());
    const nonce = a.subarray(0, 12);
    for (const key of [b, b.subarray(0, 16)]) {
      const sealed = concat(...(await web.aeadSeal(await web.aeadKey(key), nonce, aad, message)));
      deepEqual(sealed.toHex(), concat(...(await node.aeadSeal(key, nonce, aad, message))).toHex());
      deepEqual((await web.aeadOpen(await web.aeadKey(key), nonce, aad, sealed)).toHex(), message.toHex());
    }
  });
  await fc.assert(property, { numRuns: 20 });
  const pair = await web.generateKeyPair();
  const other = await node.generateKeyPair();
  deepEqual(
    (await web.agree(pair, other.publicKey)).toHex(),
    (await node.agree(other, pair.publicKey)).toHex(),
  );
});

test("keys of small order and of another length are refused by both", async () => {
  for (const bad of [new Uint8Array(32), Uint8Array.of(1, ...new Uint8Array(31)), new Uint8Array(31)]) {
    await rejects((async () => node.agree(await node.generateKeyPair(), bad))());
    await rejects((async () => web.agree(await web.generateKeyPair(), bad))());
  }
  await rejects(setupSender(new Uint8Array(32), new Uint8Array()));
  await rejects(
    setupRecipient(await keyPairOf(new Uint8Array(32).fill(1)), new Uint8Array(32), new Uint8Array()),
  );
});
