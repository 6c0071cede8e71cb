// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { applicationId, description as describe } from "@caisson/protocol/guest-config";
import { plainService } from "@caisson/protocol/testing/service";
import { readIdentity, writeCanonical } from "@caisson/releases";
import { claimIdentity, readIdentityFile } from "./identity.ts";

const keys = { threshold: 1, keys: [{ type: "ed25519", key: "11".repeat(32) }] };
const document = (changes: object = {}) =>
  writeCanonical({
    version: "caisson/identity/v1",
    name: "payments",
    generation: 0,
    previous: null,
    owners: keys,
    stop: keys,
    rebuild: null,
    secrets: null,
    log: null,
    immutable: null,
    ...changes,
  });
const description = (service: object = {}) => ({
  name: "payments",
  services: { payments: plainService(service) },
  networks: {},
  volumes: {},
});

test("the claimed identity is in the description, and is the application's id", async () => {
  const app = await claimIdentity(description(), document());
  const { hash } = await readIdentity(document());
  equal(app.identity, hash);
  equal(applicationId({ app }).toHex(), hash);
  // Whatever else the description says, the id stays.
  const other = await claimIdentity(description({ memory: 64 << 20 }), document());
  equal(applicationId({ app: other }).toHex(), hash);
});

test("without an identity the description is as it was, byte for byte", async () => {
  const app = description();
  deepEqual(describe({ app: await claimIdentity(app, undefined) }), describe({ app }));
  equal(applicationId({ app }).length, 20);
});

test("secrets without owners, later generations and other files are refused", async () => {
  const refused = { code: "app/identity" };
  await rejects(claimIdentity(description({ secrets: [{ name: "DB_URL" }] }), undefined), refused);
  await rejects(
    claimIdentity(description(), document({ generation: 1, previous: "00".repeat(32) })),
    refused,
  );
  await rejects(claimIdentity(description(), new TextEncoder().encode("{}")), refused);
  await rejects(readIdentityFile("/nowhere/identity.json"), refused);
});
