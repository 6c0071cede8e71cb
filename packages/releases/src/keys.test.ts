// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import test from "node:test";
import { hashed, isVerified, verifySignature } from "./keys.ts";
import { otherForm, signer } from "./testing/signers.ts";

const bytes = new Uint8Array(100).fill(7);
const message = await hashed(bytes);

/** r ‖ s as DER, as many tools write it. */
function der(signature: Uint8Array): Uint8Array {
  const integer = (bytes: Uint8Array) => {
    const value = [...(bytes[0]! >= 0x80 ? [0] : []), ...bytes];
    return [2, value.length, ...value];
  };
  const body = [...integer(signature.subarray(0, 32)), ...integer(signature.subarray(32))];
  return Uint8Array.of(0x30, body.length, ...body);
}

for (const type of ["ed25519", "p256"] as const) {
  const { publicKey, sign } = signer("key", type);
  test(`${type}: a signature is for one message and one key`, async () => {
    const signature = sign(bytes);
    equal(await verifySignature(publicKey, message, signature), true);
    equal(await verifySignature(publicKey, await hashed(bytes.subarray(1)), signature), false);
    equal(await verifySignature(signer("other", type).publicKey, message, signature), false);
    for (const at of [0, 31, 32, 63]) {
      const changed = Uint8Array.from(signature);
      changed[at]! ^= 1;
      equal(await verifySignature(publicKey, message, changed), false, `${at}`);
    }
    equal(await verifySignature(publicKey, message, signature.subarray(0, 63)), false);
    equal(await verifySignature(publicKey, message, Uint8Array.of(...signature, 0)), false);
  });
}

for (const type of ["ed25519", "p256"] as const) {
  test(`${type}: what is remembered is one signature of one key over these bytes`, async () => {
    const { publicKey, sign } = signer("remembered", type);
    const other = await hashed(bytes.subarray(1));
    const right = sign(bytes);
    equal(isVerified(publicKey, message, right), false);
    equal(await verifySignature(publicKey, message, right), true);
    equal(isVerified(publicKey, message, right), true);
    for (const [key, about, signature] of [
      [signer("other", type).publicKey, message, right],
      [publicKey, other, right],
      [publicKey, message, sign(bytes.subarray(1))],
    ] as const) {
      for (let i = 0; i < 2; i++) equal(await verifySignature(key, about, signature), false);
      equal(isVerified(key, about, signature), false);
    }
  });
}

test("p256: the other valid s, DER, and a point beside the curve are refused", async () => {
  const { publicKey, sign } = signer("key", "p256");
  const signature = sign(bytes);
  equal(await verifySignature(publicKey, message, otherForm(otherForm(signature))), true);
  equal(await verifySignature(publicKey, message, otherForm(signature)), false);
  equal(await verifySignature(publicKey, message, der(signature)), false);
  const beside = `04${"11".repeat(64)}`;
  equal(await verifySignature({ type: "p256", key: beside }, message, signature), false);
});
