// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import test from "node:test";
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import fc from "fast-check";
import { generateSealingKey, open, type SealBinding, type Sealed, seal, sealingKey } from "./hpke.ts";

/** The test vectors published with RFC 9180: mode 0, kem 32, kdf 1, aead 2, encryptions[0]. */
const vector = {
  info: "4f6465206f6e2061204772656369616e2055726e",
  skRm: "497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d",
  skEm: "179d4b53b6365c45b600c4163b61d95cbc2f4d9e36f1695558dce265ab8bab11",
  pkRm: "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c",
  pkEm: "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256",
  aad: "436f756e742d30",
  ct: "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a",
  pt: "4265617574792069732074727574682c20747275746820626561757479",
};

const bytes = (hex: string) => Uint8Array.fromHex(hex);
const context = { info: bytes(vector.info), aad: bytes(vector.aad) };

test("RFC 9180 vector: seal", () => {
  const sealed = seal(bytes(vector.pkRm), bytes(vector.pt), context, sealingKey(bytes(vector.skEm)));
  deepEqual([sealed.enc.toHex(), sealed.ciphertext.toHex()], [vector.pkEm, vector.ct]);
});

test("RFC 9180 vector: open", () => {
  const own = sealingKey(bytes(vector.skRm));
  equal(own.publicKey.toHex(), vector.pkRm);
  equal(open(own, { enc: bytes(vector.pkEm), ciphertext: bytes(vector.ct) }, context).toHex(), vector.pt);
});

/** Another implementation of the same RFC. */
const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Aes256Gcm(),
});
const anything = fc.uint8Array({ maxLength: 300 });
const whole = (value: Uint8Array) => new Uint8Array(value).buffer;

test("another implementation opens what is sealed here", async () => {
  const property = fc.asyncProperty(anything, anything, anything, async (message, info, aad) => {
    const pair = await suite.kem.generateKeyPair();
    const publicKey = new Uint8Array(await suite.kem.serializePublicKey(pair.publicKey));
    const { enc, ciphertext } = seal(publicKey, message, { info, aad });
    const params = { recipientKey: pair, enc: whole(enc), info: whole(info) };
    deepEqual(new Uint8Array(await suite.open(params, whole(ciphertext), whole(aad))), message);
    await rejects(suite.open(params, whole(ciphertext), whole(Uint8Array.of(...aad, 0))));
  });
  await fc.assert(property, { numRuns: 30 });
});

test("what another implementation sealed is opened here", async () => {
  const property = fc.asyncProperty(anything, anything, anything, async (message, info, aad) => {
    const own = generateSealingKey();
    const recipientPublicKey = await suite.kem.deserializePublicKey(whole(own.publicKey));
    const sealed = await suite.seal({ recipientPublicKey, info: whole(info) }, whole(message), whole(aad));
    const [enc, ciphertext] = [new Uint8Array(sealed.enc), new Uint8Array(sealed.ct)];
    deepEqual(open(own, { enc, ciphertext }, { info, aad }), message);
  });
  await fc.assert(property, { numRuns: 30 });
});

const changes: { name: string; change: (s: Sealed & SealBinding) => void }[] = [
  {
    name: "one bit of enc",
    change: (s) => {
      s.enc[5]! ^= 1;
    },
  },
  {
    name: "one bit of the ciphertext",
    change: (s) => {
      s.ciphertext[0]! ^= 1;
    },
  },
  {
    name: "one bit of the tag",
    change: (s) => {
      s.ciphertext[s.ciphertext.length - 1]! ^= 128;
    },
  },
  {
    name: "a truncated ciphertext",
    change: (s) => {
      s.ciphertext = s.ciphertext.subarray(0, -1);
    },
  },
  {
    name: "a ciphertext shorter than its tag",
    change: (s) => {
      s.ciphertext = s.ciphertext.subarray(0, 15);
    },
  },
  {
    name: "another info",
    change: (s) => {
      s.info = bytes("00");
    },
  },
  {
    name: "another aad",
    change: (s) => {
      s.aad = bytes("00");
    },
  },
  {
    name: "an all-zero enc",
    change: (s) => {
      s.enc = new Uint8Array(32);
    },
  },
  {
    name: "an enc of 33 bytes",
    change: (s) => {
      s.enc = Uint8Array.of(...s.enc, 0);
    },
  },
];
for (const { name, change } of changes) {
  test(`${name} does not open`, () => {
    const own = generateSealingKey();
    const all = { ...seal(own.publicKey, bytes("0102"), context), ...context };
    change(all);
    throws(() => open(own, all, all));
  });
}

for (const [name, key] of [
  ["31 bytes", new Uint8Array(31).fill(9)],
  ["the point of order 1 (all zero)", new Uint8Array(32)],
  ["a point of order 8", bytes("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")],
] as const) {
  test(`nothing is sealed to ${name}`, () => {
    throws(() => seal(key, bytes("00"), context));
  });
}
