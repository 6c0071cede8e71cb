// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import test from "node:test";
import { deriveApplicationKey, deriveKmsKey, deriveReleasedKey, type KeyContext } from "./derivation.ts";
import { identityKey } from "./ed25519.ts";
import { appId, composeHash, instanceId } from "./identity.ts";

const secret = new Uint8Array(32).map((_, i) => i);
const app = appId(Buffer.from("an application"));
const instance = instanceId(app, new Uint8Array(20));
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const base: KeyContext = { app, instance, purpose: "instance", version: 1 };

/** RFC 5869 for one block, and the framing, written down a second time. */
function oracle(ikm: Uint8Array, domain: string, fields: Uint8Array[]): string {
  const prefixed = [Buffer.from(domain), ...fields].map((field) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(field.length);
    return Buffer.concat([length, field]);
  });
  const prk = createHmac("sha256", domain).update(ikm).digest();
  return createHmac("sha256", prk)
    .update(Buffer.concat([...prefixed, Buffer.of(1)]))
    .digest("hex");
}

test("a released key is HKDF-SHA-256 over length-prefixed app, instance, purpose and version", () => {
  const fields = [app, instance, Buffer.from("instance"), Buffer.of(0, 0, 0, 1)];
  equal(hex(deriveReleasedKey(secret, base)), oracle(secret, "caisson/released-key/v1", fields));
});

test("an application with an identity has a domain of its own", () => {
  const id = Buffer.alloc(32, 7);
  const fields = [id, instance, Buffer.from("instance"), Buffer.of(0, 0, 0, 1)];
  equal(
    hex(deriveReleasedKey(secret, { ...base, app: id })),
    oracle(secret, "caisson/identity-key/v1", fields),
  );
});

test("an application key is HKDF-SHA-256 over length-prefixed path and purpose", () => {
  const fields = [Buffer.from("wallet"), Buffer.from("signing")];
  equal(
    hex(deriveApplicationKey(secret, "wallet", "signing")),
    oracle(secret, "caisson/application-key/v1", fields),
  );
});

test("each part of the context changes the key", () => {
  const contexts: KeyContext[] = [
    base,
    { ...base, app: app.map((b) => b ^ 1) },
    { ...base, instance: instance.map((b) => b ^ 1) },
    { ...base, instance: new Uint8Array() },
    { ...base, purpose: "application" },
    { ...base, version: 2 },
  ];
  const keys = new Set(contexts.map((context) => hex(deriveReleasedKey(secret, context))));
  keys.add(hex(deriveKmsKey(secret, "identity")));
  equal(keys.size, contexts.length + 1);
});

test("bytes moved between app and instance, or path and purpose, change the key", () => {
  const moved = {
    ...base,
    app: Buffer.concat([app, instance.subarray(0, 1)]),
    instance: instance.subarray(1),
  };
  equal(hex(deriveReleasedKey(secret, moved)) === hex(deriveReleasedKey(secret, base)), false);
  equal(hex(deriveApplicationKey(secret, "ab", "c")) === hex(deriveApplicationKey(secret, "a", "bc")), false);
});

test("ids: 20 bytes each; another seed is another instance of the same application", () => {
  deepEqual([app.length, instance.length], [20, 20]);
  equal(hex(instanceId(app, new Uint8Array(20).fill(1))) === hex(instance), false);
});

test("the test vectors of docs/key-release.md", () => {
  const document = readFileSync(new URL("../../../docs/key-release.md", import.meta.url), "utf8");
  const rows = [...document.matchAll(/^\| (.+) \| `([0-9a-f]{40,64})` \|$/gm)];
  const published = Object.fromEntries(rows.map((row) => [row[1]!, row[2]!]));
  const description = Buffer.from('{"name":"hello"}');
  const hello = appId(description);
  const first = instanceId(hello, new Uint8Array(20));
  const shared = { app: hello, instance: new Uint8Array(), purpose: "application" } as const;
  const key = deriveReleasedKey(secret, { ...shared, version: 1 });
  deepEqual(published, {
    "compose hash": hex(composeHash(description)),
    "instance id": hex(first),
    "identity key": hex(identityKey(deriveKmsKey(secret, "identity")).publicKey),
    "application key, version 1": hex(key),
    "application key, version 2": hex(deriveReleasedKey(secret, { ...shared, version: 2 })),
    "instance key, version 1": hex(
      deriveReleasedKey(secret, { app: hello, instance: first, purpose: "instance", version: 1 }),
    ),
    "path `wallet`, purpose `signing`, of version 1": hex(deriveApplicationKey(key, "wallet", "signing")),
    "path `ab`, purpose `c`": hex(deriveApplicationKey(key, "ab", "c")),
    "path `a`, purpose `bc`": hex(deriveApplicationKey(key, "a", "bc")),
  });
});
