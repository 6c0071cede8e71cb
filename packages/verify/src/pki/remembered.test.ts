// SPDX-License-Identifier: Apache-2.0
/** What is remembered between verifications never says more than a check would. */
import { equal } from "node:assert/strict";
import { test } from "node:test";
import { TestKey } from "@caisson/simulated/p256";
import { keyOfPoint, signedCertificate } from "./remembered.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const signer = TestKey.derive("remembered", "signer");
const other = TestKey.derive("remembered", "other");

async function issuer(key: TestKey) {
  return { point: key.publicKey, key: (await keyOfPoint(key.publicKey))! };
}

/** A certificate as far as it matters here. */
const certificate = (
  tbs: string,
  signature: Uint8Array,
  encoding = `${tbs} ${Buffer.from(signature).toString("hex")}`,
) => ({
  tbs: bytes(tbs),
  signature,
  encoding: bytes(encoding),
});

test("a signature that was right once is right again, and only for its bytes and its key", async () => {
  const right = certificate("a", signer.sign(bytes("a")));
  for (let i = 0; i < 3; i++) {
    equal(await signedCertificate(await issuer(signer), right), true);
    equal(await signedCertificate(await issuer(other), right), false);
    equal(await signedCertificate(await issuer(signer), certificate("b", right.signature)), false);
  }
});

test("a signature that was wrong is asked for again", async () => {
  const wrong = certificate("c", signer.sign(bytes("d")), "one encoding");
  equal(await signedCertificate(await issuer(signer), wrong), false);
  equal(
    await signedCertificate(await issuer(signer), certificate("d", wrong.signature, "one encoding")),
    true,
  );
});

test("keys are told apart by their point, however many there are, and what is not a point is none", async () => {
  const keys = Array.from({ length: 200 }, (_, i) => TestKey.derive("remembered", `${i}`));
  for (let round = 0; round < 2; round++) {
    for (const key of keys) {
      const message = certificate("m", key.sign(bytes("m")));
      equal(await signedCertificate(await issuer(key), message), true);
    }
  }
  equal(await keyOfPoint(new Uint8Array(65).fill(4)), undefined);
  equal(await keyOfPoint(signer.publicKey.subarray(1)), undefined);
});
