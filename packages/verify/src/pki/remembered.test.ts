// SPDX-License-Identifier: Apache-2.0
/** What is remembered between verifications never says more than a check would. */
import { equal } from "node:assert/strict";
import { test } from "node:test";
import { TestKey } from "@caisson/simulated/p256";
import { keyOfPoint, Signatures } from "./remembered.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const signer = TestKey.derive("remembered", "signer");
const other = TestKey.derive("remembered", "other");

async function issuer(key: TestKey) {
  return { point: key.publicKey, key: (await keyOfPoint(key.publicKey))! };
}

test("a signature that was right once is right again, and only for its bytes and its key", async () => {
  const known = new Signatures();
  const right = signer.sign(bytes("a"));
  for (let i = 0; i < 3; i++) {
    equal(await known.isRight(await issuer(signer), right, bytes("a")), true);
    equal(await known.isRight(await issuer(other), right, bytes("a")), false);
    equal(await known.isRight(await issuer(signer), right, bytes("b")), false);
    // The same bytes, cut elsewhere.
    equal(await known.isRight(await issuer(signer), right.subarray(0, 63), bytes("a")), false);
    const [last, cut] = [right.subarray(63), right.subarray(0, 63)];
    equal(await known.isRight(await issuer(signer), cut, Buffer.concat([last, bytes("a")])), false);
  }
});

test("a signature that was wrong is asked for again", async () => {
  const known = new Signatures();
  const signature = signer.sign(bytes("d"));
  equal(await known.isRight(await issuer(signer), signature, bytes("c")), false);
  equal(await known.isRight(await issuer(signer), signature, bytes("d")), true);
  equal(await known.isRight(await issuer(signer), signature, bytes("c")), false);
});

test("keys are told apart by their point, however many there are, and what is not a point is none", async () => {
  const keys = Array.from({ length: 200 }, (_, i) => TestKey.derive("remembered", `${i}`));
  const known = new Signatures(100);
  for (let round = 0; round < 2; round++) {
    for (const key of keys)
      equal(await known.isRight(await issuer(key), key.sign(bytes("m")), bytes("m")), true);
  }
  equal(await keyOfPoint(new Uint8Array(65).fill(4)), undefined);
  equal(await keyOfPoint(signer.publicKey.subarray(1)), undefined);
});
