// SPDX-License-Identifier: Apache-2.0
/** Our keys and files of age against the library of age's own author (age-encryption). */
import { deepEqual, equal } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { decryptAge, encryptAge } from "@caisson/protocol/age";
import { generateSealingKey, sealingKey } from "@caisson/protocol/hpke";
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import { identityText, readIdentity, readRecipient } from "./log-keys.ts";

const sizes = [0, 1, 100, 65_535, 65_536, 65_537, 131_072, 200_000];

test("what is written here age opens, and what age writes is opened here", async () => {
  const identity = await generateX25519Identity();
  const recipient = await identityToRecipient(identity);
  const other = generateSealingKey();
  for (const size of sizes) {
    const plain = new Uint8Array(randomBytes(size));
    const ours = encryptAge([other.publicKey, readRecipient(recipient)!], plain);
    const opener = new Decrypter();
    opener.addIdentity(identity);
    deepEqual(await opener.decrypt(ours), plain, String(size));
    const writer = new Encrypter();
    writer.addRecipient(recipient);
    const theirs = await writer.encrypt(plain);
    const found = decryptAge(sealingKey(readIdentity(identity)!), theirs);
    deepEqual(new Uint8Array(found!), plain, String(size));
  }
});

test("keys are read as age writes them, and in hexadecimal; nothing else is one", async () => {
  const identity = await generateX25519Identity();
  const recipient = await identityToRecipient(identity);
  const own = sealingKey(readIdentity(identity)!);
  deepEqual(readRecipient(recipient), new Uint8Array(own.publicKey));
  deepEqual(
    readRecipient(`x25519:${Buffer.from(own.publicKey).toString("hex")}`),
    new Uint8Array(own.publicKey),
  );
  equal(identityText(readIdentity(identity)!), identity);
  for (const text of [
    "",
    "age1",
    recipient.toUpperCase(),
    `${recipient}q`,
    recipient.replace(/.$/, "!"),
    identity,
    "x25519:00",
  ])
    equal(readRecipient(text), undefined, text);
  for (const text of ["", recipient, identity.toLowerCase(), identity.slice(1)])
    equal(readIdentity(text), undefined, text);
});
