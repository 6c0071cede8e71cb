// SPDX-License-Identifier: Apache-2.0
import { deepEqual, throws } from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { siv as nativeSiv } from "./siv.openssl.ts";
import { portableSiv } from "./siv-portable.ts";

const bytes = (hex: string) => new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"));

/** RFC 5297, appendix A. */
const vectors = [
  {
    name: "A.1, deterministic",
    key: "fffefdfc fbfaf9f8 f7f6f5f4 f3f2f1f0 f0f1f2f3 f4f5f6f7 f8f9fafb fcfdfeff",
    components: ["10111213 14151617 18191a1b 1c1d1e1f 20212223 24252627"],
    plaintext: "11223344 55667788 99aabbcc ddee",
    sealed: "85632d07 c6e8f37f 950acd32 0a2ecc93 40c02b96 90c4dc04 daef7f6a fe5c",
  },
  {
    name: "A.2, nonce-based",
    key: "7f7e7d7c 7b7a7978 77767574 73727170 40414243 44454647 48494a4b 4c4d4e4f",
    components: [
      "00112233 44556677 8899aabb ccddeeff deaddada deaddada ffeeddcc bbaa9988 77665544 33221100",
      "10203040 50607080 90a0",
      "09f91102 9d74e35b d84156c5 635688c0",
    ],
    plaintext:
      "74686973 20697320 736f6d65 20706c61 696e7465 78742074 6f20656e 63727970 74207573 696e6720 5349562d 414553",
    sealed:
      "7bdb6e3b 432667eb 06f4d14b ff2fbd0f cb900f2f ddbe4043 26601965 c889bf17 dba77ceb 094fa663 b7a3f748" +
      "ba8af829 ea64ad54 4a272e9c 485b62a3 fd5c0d",
  },
];

const implementations = [
  ["native", nativeSiv],
  ["portable", portableSiv],
] as const;

for (const [name, siv] of implementations) {
  suite(`AES-SIV, ${name}`, () => {
    for (const vector of vectors) {
      const key = bytes(vector.key);
      const components = vector.components.map(bytes);
      const sealed = bytes(vector.sealed);
      test(`RFC 5297 ${vector.name}`, () => {
        deepEqual(new Uint8Array(siv.seal(key, components, bytes(vector.plaintext))), sealed);
        deepEqual(new Uint8Array(siv.open(key, components, sealed)), bytes(vector.plaintext));
      });
      test(`RFC 5297 ${vector.name}: any flipped bit is refused`, () => {
        for (let bit = 0; bit < sealed.length * 8; bit++) {
          const forged = sealed.slice();
          forged[bit >> 3]! ^= 1 << (bit & 7);
          throws(() => siv.open(key, components, forged), { code: "siv/authentication" });
        }
      });
    }
    test("truncations are refused", () => {
      const key = new Uint8Array(32);
      const sealed = siv.seal(key, [], new Uint8Array(5));
      for (let length = 0; length < sealed.length; length++) {
        throws(() => siv.open(key, [], sealed.subarray(0, length)), { code: "siv/authentication" });
      }
    });
  });
}

test("native and portable AES-SIV give the same bytes, also for empty plaintexts", () => {
  const component = fc.uint8Array({ minLength: 1, maxLength: 80 });
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.array(component, { minLength: 1, maxLength: 3 }),
      fc.uint8Array({ maxLength: 100 }),
      (key, components, plaintext) => {
        const sealed = new Uint8Array(nativeSiv.seal(key, components, plaintext));
        deepEqual(new Uint8Array(portableSiv.seal(key, components, plaintext)), sealed);
        deepEqual(new Uint8Array(portableSiv.open(key, components, sealed)), plaintext);
      },
    ),
    { numRuns: 50 },
  );
});
