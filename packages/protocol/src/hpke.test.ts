import { deepEqual, equal, rejects } from "node:assert/strict";
import test from "node:test";
import { DhkemX25519HkdfSha256 } from "@hpke/core";
import { generateSealingKey, open, seal } from "./hpke.ts";

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

const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));
const hex = (value: Uint8Array) => Buffer.from(value).toString("hex");
const kem = new DhkemX25519HkdfSha256();

async function pairOf(secret: string, publicKey: string): Promise<CryptoKeyPair> {
  return {
    privateKey: await kem.importKey("raw", bytes(secret).buffer, false),
    publicKey: await kem.importKey("raw", bytes(publicKey).buffer, true),
  };
}

const context = { info: bytes(vector.info), aad: bytes(vector.aad) };

test("RFC 9180 vector: seal", async () => {
  const sender = await pairOf(vector.skEm, vector.pkEm);
  const sealed = await seal(bytes(vector.pkRm), bytes(vector.pt), context, sender);
  deepEqual([hex(sealed.enc), hex(sealed.ciphertext)], [vector.pkEm, vector.ct]);
});

test("RFC 9180 vector: open", async () => {
  const pair = await pairOf(vector.skRm, vector.pkRm);
  const sealed = { enc: bytes(vector.pkEm), ciphertext: bytes(vector.ct) };
  equal(hex(await open(pair, sealed, context)), vector.pt);
});

const changes: {
  name: string;
  change: (s: { enc: Uint8Array; ciphertext: Uint8Array; info: Uint8Array; aad: Uint8Array }) => void;
}[] = [
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
];
for (const { name, change } of changes) {
  test(`${name} does not open`, async () => {
    const { publicKey, pair } = await generateSealingKey();
    const all = { ...(await seal(publicKey, bytes("0102"), context)), ...context };
    change(all);
    await rejects(open(pair, all, all));
  });
}

for (const [name, key] of [
  ["31 bytes", new Uint8Array(31).fill(9)],
  ["the point of order 1 (all zero)", new Uint8Array(32)],
  ["a point of order 8", bytes("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")],
] as const) {
  test(`nothing is sealed to ${name}`, async () => {
    await rejects(seal(key, bytes("00"), context));
  });
}
