// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { deriveApplicationKey, deriveKmsKey, deriveReleasedKey } from "@caisson/protocol/derivation";
import { identityKey } from "@caisson/protocol/ed25519";
import fc from "fast-check";
import { openRoot, rootKeyName, type SealedRoot, sealRoot } from "./root-handover.ts";
import { openRootSecret } from "./root-secret.ts";
import { testKms } from "./testing/kms.ts";
import { Machine, type MachineState } from "./testing/machine.ts";

const replica = new Machine(Date.now(), "kms");
const application = new Machine(Date.now(), "hello");

/** A KMS whose replicas are the application of `replica`. */
async function start(t: TestContext) {
  const kms = await testKms(t, { replica, application }, { ownApp: replica.app });
  return { ...kms, secret: openRootSecret(kms.data) };
}

/** The key that an application in this machine gets from its guest. */
async function keyOf(
  kms: { url: string; identityKey: string },
  machine: Machine,
  change = (_: MachineState) => {},
) {
  const state = machine.booted(kms.identityKey);
  change(state);
  const { applicationKey } = await requestKeys({
    post: httpPost(kms.url, 10_000),
    identityKey: Uint8Array.fromHex(kms.identityKey),
    evidence: (reportData) => machine.evidence(state, reportData),
    now: Date.now,
    toleranceMs: 5000,
  });
  return deriveApplicationKey(applicationKey, rootKeyName.path, rootKeyName.purpose);
}

const sealedRoot = async (url: string) => (await (await fetch(`${url}/v1/root`)).json()) as SealedRoot;

test("a replica that is the KMS's application gets its root secret", async (t) => {
  const kms = await start(t);
  deepEqual(openRoot(await sealedRoot(kms.url), await keyOf(kms, replica), kms.identityKey), kms.secret);
});

test("another application, and the replica with another measurement, get nothing", async (t) => {
  const kms = await start(t);
  const other = await keyOf(kms, application);
  const document = await sealedRoot(kms.url);
  throws(() => openRoot(document, other, kms.identityKey), { code: "root-secret/sealed" });
  const changed = keyOf(kms, replica, (state) => {
    state.td.rtmr1 = "ff".repeat(48);
  });
  await rejects(changed, { code: "keys/denied" });
});

test("the root secret of another KMS is not taken, though the application's key opens it", () => {
  const [mine, theirs] = [1, 2].map((fill) => new Uint8Array(32).fill(fill));
  const document = sealRoot(theirs!, replica.app, 1);
  const own = identityKey(deriveKmsKey(mine!, "identity")).publicKey.toHex();
  // The hostile KMS gave the key, too.
  const key = keyFor(theirs!);
  throws(() => openRoot(document, key, own), { code: "root-secret/sealed" });
  throws(() => openRoot({ ...document, identityKey: own }, key, own), { code: "root-secret/sealed" });
});

test("a sealed root secret that was changed anywhere does not open", () => {
  const secret = new Uint8Array(32).fill(3);
  const document = sealRoot(secret, replica.app, 1);
  const key = keyFor(secret);
  deepEqual(openRoot(document, key, document.identityKey), secret);
  equal(JSON.stringify(document).includes(secret.toHex()), false);
  const fields = ["app", "keyVersion", "nonce", "sealed", "identityKey"] as const;
  fc.assert(
    fc.property(fc.constantFrom(...fields), fc.nat(15), (field, at) => {
      const value = document[field];
      const changed =
        typeof value === "number"
          ? value + 1 + at
          : value.slice(0, at) + (value[at] === "0" ? "1" : "0") + value.slice(at + 1);
      throws(() => openRoot({ ...document, [field]: changed }, key, document.identityKey), {
        code: "root-secret/sealed",
      });
    }),
  );
  throws(() => openRoot({}, key, document.identityKey), { code: "root-secret/malformed" });
});

function keyFor(secret: Uint8Array): Uint8Array {
  // What the guest of this application derives from the released key.
  const about = { app: Uint8Array.fromHex(replica.app), instance: new Uint8Array(), version: 1 };
  return deriveApplicationKey(deriveReleasedKey(secret, { ...about, purpose: "application" }), "kms", "root");
}
