// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { keccak256, publicKeyOf, signRecoverable, verifySignature } from "./secp256k1.ts";

const sha256 = (text: string) => createHash("sha256").update(text).digest();
const number = (value: bigint) => Buffer.from(value.toString(16).padStart(64, "0"), "hex");
const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

/** RFC 6979 on this curve with SHA-256, as wallets test it: key, message, r, s. */
const known: [key: bigint, message: string, r: string, s: string][] = [
  [
    1n,
    "Satoshi Nakamoto",
    "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8",
    "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5",
  ],
  [
    1n,
    "All those moments will be lost in time, like tears in rain. Time to die...",
    "8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b",
    "547fe64427496db33bf66019dacbf0039c04199abb0122918601db38a72cfc21",
  ],
  [
    order - 1n,
    "Satoshi Nakamoto",
    "fd567d121db66e382991534ada77a6bd3106f0a1098c231e47993447cd6af2d0",
    "6b39cd0eb1bc8603e159ef5c20a5c8ad685a45b06ce9bebed3f153d10d93bed5",
  ],
];
for (const [key, message, r, s] of known) {
  test(`the signature of ${key === 1n ? "1" : "the last key"} over '${message.slice(0, 16)}'`, () => {
    const signature = signRecoverable(number(key), sha256(message));
    deepEqual(
      [signature.subarray(0, 32), signature.subarray(32, 64)].map((part) => part.toString("hex")),
      [r, s],
    );
  });
}

test("the digest is Keccak's, not SHA-3's", () => {
  equal(keccak256("").toString("hex"), "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
  deepEqual(keccak256("a", "b"), keccak256("ab"));
});

const secrets = fc.uint8Array({ minLength: 32, maxLength: 32 }).filter((bytes) => {
  const value = BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
  return value > 0n && value < order;
});

test("what is signed verifies, and nothing else does", () => {
  fc.assert(
    fc.property(
      secrets,
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.nat(511),
      (secret, digest, bit) => {
        const signature = signRecoverable(secret, digest);
        const key = publicKeyOf(secret);
        equal(verifySignature(key, digest, signature), true);
        equal(verifySignature(key, digest, signature.subarray(0, 64)), true);
        const flipped = Buffer.from(signature);
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        equal(verifySignature(key, digest, flipped), false);
        const other = Buffer.from(digest);
        other[(bit >> 3) % 32]! ^= 1 << (bit & 7);
        equal(verifySignature(key, other, signature), false);
      },
    ),
    { numRuns: 10 },
  );
});

test("signatures of OpenSSL verify", () => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "secp256k1" });
  const point = publicKey.export({ format: "der", type: "spki" }).subarray(-65);
  for (let i = 0; i < 5; i++) {
    const signature = sign("sha256", Buffer.from(`message ${i}`), {
      key: privateKey,
      dsaEncoding: "ieee-p1363",
    });
    equal(verifySignature(point, sha256(`message ${i}`), signature), true);
    equal(verifySignature(point, sha256(`message ${i + 1}`), signature), false);
  }
});

test("refused: keys, digests and signatures of other sizes, numbers out of range, points off the curve", () => {
  const [secret, digest] = [number(5n), sha256("x")];
  const [key, signature] = [publicKeyOf(secret), signRecoverable(secret, digest)];
  for (const bad of [Buffer.alloc(0), Buffer.alloc(33, 2), key.subarray(1), Buffer.alloc(65, 4)]) {
    equal(verifySignature(bad, digest, signature), false);
  }
  equal(verifySignature(key, digest.subarray(1), signature), false);
  equal(verifySignature(key, digest, signature.subarray(1)), false);
  for (const value of [0n, order]) {
    equal(verifySignature(key, digest, Buffer.concat([number(value), signature.subarray(32)])), false);
    equal(verifySignature(key, digest, Buffer.concat([signature.subarray(0, 32), number(value)])), false);
  }
  throws(() => publicKeyOf(Buffer.alloc(32)));
});
