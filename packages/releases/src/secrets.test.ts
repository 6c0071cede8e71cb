// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notDeepEqual, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import fc from "fast-check";
import { writeCanonical } from "./canonical.ts";
import { readIdentity } from "./identity.ts";
import { readSecrets, sealBinding, secretsPayloadType } from "./secrets.ts";
import { signedBy, signer } from "./testing/signers.ts";

const [owner, giver] = [signer("owner"), signer("giver")];
const keysOf = (key: typeof owner) => ({ threshold: 1, keys: [key.publicKey] });
const identityOf = (secrets: object | null) =>
  readIdentity(
    writeCanonical({
      version: "caisson/identity/v1",
      name: "payments",
      generation: 0,
      previous: null,
      owners: keysOf(owner),
      stop: keysOf(owner),
      rebuild: null,
      secrets,
      log: null,
      immutable: null,
    }),
  );
const identity = await identityOf(keysOf(giver));
const id = identity.hash;
const document = {
  version: "caisson/secrets/v1",
  app: id,
  kms: "01".repeat(32),
  keyVersion: 1,
  number: 2,
  previous: "02".repeat(32),
  minimumRelease: 3,
  expires: "2026-06-01T12:00:00Z",
  entries: { DB_URL: { enc: "03".repeat(32), ciphertext: "04".repeat(20) } },
};
const envelope = (changes: object = {}, by = giver) =>
  signedBy({ payload: writeCanonical({ ...document, ...changes }), payloadType: secretsPayloadType }, by);

test("a set that the right keys signed is read, with the hash that a guest measures", async () => {
  const signed = envelope();
  const { document: read, hash } = await readSecrets(signed, id, identity);
  deepEqual({ ...read, expires: document.expires }, document);
  equal(hash, createHash("sha256").update(signed.payload).digest("hex"));
});

test("owners give secrets where the identity names nobody else, and only there", async () => {
  const alone = await identityOf(null);
  const own = envelope({ app: alone.hash }, owner);
  equal((await readSecrets(own, alone.hash, alone)).document.number, 2);
  await rejects(readSecrets(envelope({}, owner), id, identity), { code: "secrets/signature" });
});

for (const [name, signed, code] of [
  ["a set of another application", envelope({ app: "00".repeat(32) }), "secrets/app"],
  ["an unsigned set", { ...envelope(), signatures: [] }, "secrets/signature"],
  ["another payload type", { ...envelope(), payloadType: "application/json" }, "envelope/malformed"],
  ["number 0", envelope({ number: 0 }), "secrets/malformed"],
  ["a name with a slash", envelope({ entries: { "../x": document.entries.DB_URL } }), "secrets/malformed"],
  [
    "a ciphertext shorter than its tag",
    envelope({ entries: { A: { enc: "03".repeat(32), ciphertext: "04".repeat(15) } } }),
    "secrets/malformed",
  ],
  [
    "65 entries",
    envelope({
      entries: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`A${i}`, document.entries.DB_URL])),
    }),
    "secrets/malformed",
  ],
  ["a value in clear", envelope({ entries: { A: "secret" } }), "secrets/malformed"],
] as const) {
  test(`refused: ${name}`, () => rejects(readSecrets(signed, id, identity), { code }));
}

test("an entry is bound to its name, its set, its application, its KMS and its key", () => {
  const bound = sealBinding(document, "A");
  for (const other of [
    sealBinding(document, "B"),
    sealBinding({ ...document, number: 3 }, "A"),
    sealBinding({ ...document, app: "00".repeat(32) }, "A"),
    sealBinding({ ...document, kms: "00".repeat(32) }, "A"),
    sealBinding({ ...document, keyVersion: 2 }, "A"),
  ]) {
    notDeepEqual(other, bound);
  }
});

test("a bit of a signed set changed: refused", async () => {
  const signed = envelope();
  const property = fc.asyncProperty(fc.nat(signed.payload.length - 1), fc.nat(7), async (at, bit) => {
    const payload = Uint8Array.from(signed.payload);
    payload[at]! ^= 1 << bit;
    await rejects(readSecrets({ ...signed, payload }, id, identity), (error: { code: string }) =>
      error.code.startsWith("secrets/"),
    );
  });
  await fc.assert(property, { numRuns: 100 });
});
