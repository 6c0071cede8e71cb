// SPDX-License-Identifier: Apache-2.0
/** What PID 1 tells a front is what a front reads. */
import { deepEqual, equal } from "node:assert/strict";
import { createPrivateKey, createPublicKey } from "node:crypto";
import test from "node:test";
import { type FrontSetup, readFrontSetup, writeFrontSetup } from "@caisson/protocol/front-setup";
import type { FrontDescription, GuestConfig } from "@caisson/protocol/guest-config";
import { type ChannelKeys, frontSetup, makeChannelKeys } from "./front.ts";

const config = { app: { name: "hello" } } as GuestConfig;
const front: FrontDescription = { port: 443, service: "hello", target: 8080, names: [], require: "tls" };
const acme = { directory: "https://acme.example/directory", roots: "PEM" };

/** What the front has read. */
function told(description: FrontDescription, keys: ChannelKeys, root?: Uint8Array): FrontSetup {
  const context = { config, ...(root !== undefined && { keys: { root } }) };
  const setup = frontSetup(context as Parameters<typeof frontSetup>[0], description, keys, "10.0.0.2");
  return readFrontSetup(new TextDecoder().decode(writeFrontSetup(setup)));
}

test("a front is told its keys, its application and its name", () => {
  const keys = makeChannelKeys();
  const { tlsKey, hpkeKey, ...rest } = told(front, keys);
  deepEqual(rest, {
    application: { host: "10.0.0.2", port: 8080 },
    require: "tls",
    names: ["hello.internal"],
  });
  const read = createPrivateKey({ key: Buffer.from(tlsKey, "base64"), format: "der", type: "pkcs8" });
  equal(createPublicKey(read).equals(createPublicKey(keys.tls)), true);
  equal(Buffer.from(hpkeKey, "base64").toString("base64url"), keys.hpke.export({ format: "jwk" }).d);
});

test("an account of its authority follows from the application's key, and without one there is none", () => {
  const named = { ...front, names: ["hello.example"], acme };
  const keys = makeChannelKeys();
  const root = new Uint8Array(32).fill(7);
  const [one, again] = [told(named, keys, root), told(named, keys, root)];
  deepEqual(one.names, ["hello.example"]);
  equal(one.acme?.directory, acme.directory);
  equal(one.acme?.roots, acme.roots);
  equal(one.acme?.accountKey, again.acme?.accountKey);
  equal(one.acme?.accountKey === told(named, keys, new Uint8Array(32).fill(8)).acme?.accountKey, false);
  equal(told(named, keys).acme, undefined);
});
