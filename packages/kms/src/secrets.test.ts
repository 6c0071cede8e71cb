// SPDX-License-Identifier: Apache-2.0
/** Who gets secrets: of each set one thing is wrong, and each is refused with exactly its code. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { verifySignature } from "@caisson/protocol/ed25519";
import { seal } from "@caisson/protocol/hpke";
import { sealingKeyTranscript } from "@caisson/protocol/key-release";
import { type Bundle, type Envelope, sealBinding } from "@caisson/releases";
import { hashOf, keysOf, Owners } from "@caisson/releases/testing/owners";
import { signer } from "@caisson/releases/testing/signers";
import { applicationSealingKey, publishSealingKey } from "./secrets.ts";
import { directoryOf, type Recorded } from "./testing/context.ts";
import { Machine } from "./testing/machine.ts";
import {
  ask,
  bundleOf,
  first,
  identity,
  kms,
  machine,
  now,
  owners,
  ownersPolicies,
  secret,
  setup,
  stranger,
  subjectsOf,
} from "./testing/owned.ts";

const withSecrets = new Machine(now, "payments", 0, {
  identity: owners.id,
  secrets: [{ name: "DB_URL" }, { name: "TOKEN", environment: "API_TOKEN" }],
});
const sealedRelease = owners.release(subjectsOf(withSecrets), { release: 1 });
const sealingKey = publishSealingKey(secret, identity, Uint8Array.fromHex(owners.id), 1);
const values = { DB_URL: "postgres://hunter2", TOKEN: "t0ken" };

function sealed(
  names: Record<string, string>,
  binding: Partial<Parameters<typeof sealBinding>[0]> = {},
  boundName: (name: string) => string = (name) => name,
) {
  const about = { app: owners.id, kms, keyVersion: 1, number: 1, ...binding };
  return Object.fromEntries(
    Object.entries(names).map(([name, value]) => {
      const { enc, ciphertext } = seal(
        Uint8Array.fromHex(sealingKey.key),
        new TextEncoder().encode(value),
        sealBinding(about, boundName(name)),
      );
      return [name, { enc: enc.toHex(), ciphertext: ciphertext.toHex() }];
    }),
  );
}
const good = owners.secrets(kms, sealed(values));
const askSecrets = (kmsOf: Recorded, secrets: Envelope | undefined, changes: Partial<Bundle> = {}) =>
  ask(kmsOf, {
    of: withSecrets,
    bundle: bundleOf(sealedRelease, changes, withSecrets),
    ...(secrets !== undefined && { secrets }),
  });

test("the sealing key is the application's own, and signed by the KMS", () => {
  const signature = Uint8Array.fromHex(sealingKey.signature);
  ok(verifySignature(identity.publicKey, sealingKeyTranscript(sealingKey), signature));
  const other = publishSealingKey(secret, identity, Uint8Array.fromHex(stranger.id), 1);
  const later = publishSealingKey(secret, identity, Uint8Array.fromHex(owners.id), 2);
  equal(new Set([sealingKey.key, other.key, later.key]).size, 3);
  equal(applicationSealingKey(secret, Uint8Array.fromHex(owners.id), 1).publicKey.toHex(), sealingKey.key);
});

test("secrets are opened and sealed again to the guest that declares them; no log has a value", async (t) => {
  const kmsOf = await setup(t, ownersPolicies(t, withSecrets));
  const answer = await askSecrets(kmsOf, good);
  equal(answer.hash, hashOf(good.payload));
  const opened = Object.entries(answer.secrets ?? {}).map(([name, hex]) => [
    name,
    Buffer.from(hex, "hex").toString(),
  ]);
  deepEqual(Object.fromEntries(opened), values);
  const logged = JSON.stringify(kmsOf.log);
  ok(logged.includes(`secrets 1 ${hashOf(good.payload)}: DB_URL TOKEN`));
  for (const value of Object.values(values))
    ok(!logged.includes(value) && !logged.includes(Buffer.from(value).toString("hex")));
});

test("an image that declares no secrets is given none, whatever is brought", async (t) => {
  const answer = await ask(await setup(t, ownersPolicies(t, machine)), {
    bundle: bundleOf(first),
    secrets: good,
  });
  equal(answer.secrets, undefined);
  ok(answer.key);
});

const moved = sealed(values);
const otherOwners = new Owners(now, "other");
const secretCases: [name: string, secrets: Envelope | undefined, code: string][] = [
  ["none", undefined, "secrets/missing"],
  ["a set that the host made", owners.secrets(kms, sealed(values), {}, []), "secrets/signature"],
  ["a set that too few signed", owners.secrets(kms, sealed(values), {}, [owners.a]), "secrets/signature"],
  [
    "a set of another application",
    otherOwners.secrets(kms, sealed(values, { app: otherOwners.id })),
    "secrets/app",
  ],
  ["a set for another KMS", owners.secrets("00".repeat(32), sealed(values)), "secrets/kms"],
  [
    "a set for another version of the key",
    owners.secrets(kms, sealed(values), { keyVersion: 2 }),
    "secrets/key-version",
  ],
  [
    "an expired set",
    owners.secrets(kms, sealed(values), { expires: "2026-06-01T12:00:00Z" }),
    "secrets/expired",
  ],
  ["a set for later releases", owners.secrets(kms, sealed(values), { minimumRelease: 2 }), "secrets/release"],
  ["one secret too few", owners.secrets(kms, sealed({ TOKEN: "t" })), "secrets/names"],
  ["one secret too many", owners.secrets(kms, sealed({ ...values, MORE: "m" })), "secrets/names"],
  ["entries exchanged", owners.secrets(kms, { DB_URL: moved.TOKEN!, TOKEN: moved.DB_URL! }), "secrets/seal"],
  [
    "an entry of an older number",
    owners.secrets(kms, sealed(values), { number: 2, previous: "00".repeat(32) }),
    "secrets/seal",
  ],
  [
    "an entry sealed for another application",
    owners.secrets(kms, sealed(values, { app: stranger.id })),
    "secrets/seal",
  ],
  [
    "an entry sealed for another KMS",
    owners.secrets(kms, sealed(values, { kms: "00".repeat(32) })),
    "secrets/seal",
  ],
];
for (const [name, secrets, code] of secretCases) {
  test(`no keys either: ${name}`, async (t) => {
    const answer = await askSecrets(await setup(t, ownersPolicies(t, withSecrets)), secrets);
    equal(answer.code, code, answer.message ?? "released");
  });
}

test("an old set is not given again, nor another one of its number, nor a revoked release's", async (t) => {
  const path = join(directoryOf(t), "store.sqlite");
  const kmsOf = await setup(t, ownersPolicies(t, withSecrets), { path });
  const next = owners.secrets(kms, sealed(values, { number: 2 }), {
    number: 2,
    previous: hashOf(good.payload),
  });
  ok((await askSecrets(kmsOf, good)).key);
  ok((await askSecrets(kmsOf, next)).key);
  equal((await askSecrets(kmsOf, good)).code, "secrets/old");
  const twin = owners.secrets(kms, sealed(values, { number: 2 }), { number: 2, previous: "00".repeat(32) });
  equal((await askSecrets(kmsOf, twin)).code, "secrets/previous");
  equal((await askSecrets(kmsOf, next, { revocations: [owners.revocation([1])] })).code, "release/revoked");
  ok(!readFileSync(path, "utf8").includes("hunter2"));
});

test("secrets of named keys alone, where the identity names some", async (t) => {
  const giver = signer("giver");
  const strict = new Owners(now, "strict", { secrets: keysOf(1, giver) });
  const of = new Machine(now, "strict", 0, { identity: strict.id, secrets: [{ name: "DB_URL" }] });
  const key = publishSealingKey(secret, identity, Uint8Array.fromHex(strict.id), 1);
  const { enc, ciphertext } = seal(
    Uint8Array.fromHex(key.key),
    new TextEncoder().encode("v"),
    sealBinding({ app: strict.id, kms, keyVersion: 1, number: 1 }, "DB_URL"),
  );
  const entries = { DB_URL: { enc: enc.toHex(), ciphertext: ciphertext.toHex() } };
  const bundle = strict.bundle(strict.release(subjectsOf(of)), of.manifest);
  const kmsOf = await setup(t, ownersPolicies(t, of));
  const bySome = strict.secrets(kms, entries, {}, [giver]);
  ok((await ask(kmsOf, { of, bundle, secrets: bySome })).secrets);
  equal((await ask(kmsOf, { of, bundle, secrets: strict.secrets(kms, entries) })).code, "secrets/signature");
});
