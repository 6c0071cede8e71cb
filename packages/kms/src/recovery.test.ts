// SPDX-License-Identifier: Apache-2.0
/** A guest that recovers, and who keeps keepers from it. */
import { deepEqual, equal } from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import test from "node:test";
import { freeTcpPort } from "@caisson/host/ports";
import { sealingKey } from "@caisson/protocol/hpke";
import { recoverFromKeepers } from "./recovery.ts";
import { makeShares, passShare, sharesPath } from "./shares.ts";

const secret = new Uint8Array(32).fill(7);
const keepers = ["ada", "bob"].map((name, i) => ({ name, key: sealingKey(new Uint8Array(32).fill(i + 1)) }));

test("one sender who opens all connections and says nothing keeps no keeper from giving a share", async (t) => {
  const named = keepers.map(({ name, key }) => ({ name, key: key.publicKey.toHex() }));
  const document = await makeShares(secret, 2, named, 0);
  const port = await freeTcpPort();
  const { promise: begun, resolve } = Promise.withResolvers<string>();
  const recovered = recoverFromKeepers({
    document,
    attest: async () => ({}),
    host: "127.0.0.1",
    port,
    log: (line) => {
      const { event, key } = JSON.parse(line) as { event: string; key: string };
      if (event === "recovering") resolve(key);
    },
  });
  const to = await begun;
  const silent = Array.from({ length: 40 }, () => connect(port, "127.0.0.1").on("error", () => {}));
  t.after(() => silent.forEach((socket) => void socket.destroy()));
  await Promise.all(silent.map((socket) => once(socket, "connect")));
  for (const [i, { name, key }] of keepers.entries()) {
    const body = JSON.stringify(passShare(document, name, key, to));
    const answer = await fetch(`http://127.0.0.1:${port}${sharesPath}`, { method: "POST", body });
    deepEqual(await answer.json(), { given: i + 1, needed: 2 });
  }
  deepEqual(await recovered, secret);
});

test("a share that is not one is refused, and nothing is given then", async () => {
  const named = keepers.map(({ name, key }) => ({ name, key: key.publicKey.toHex() }));
  const document = await makeShares(secret, 2, named, 0);
  const port = await freeTcpPort();
  const { promise: begun, resolve } = Promise.withResolvers<string>();
  const log = (line: string) => resolve((JSON.parse(line) as { key: string }).key);
  const recovered = recoverFromKeepers({ document, attest: async () => ({}), host: "127.0.0.1", port, log });
  const to = await begun;
  const give = async (body: string) => {
    const answer = await fetch(`http://127.0.0.1:${port}${sharesPath}`, { method: "POST", body });
    return [answer.status, ((await answer.json()) as { error?: { code: string } }).error?.code];
  };
  const [ada, bob] = keepers.map(({ name, key }) => JSON.stringify(passShare(document, name, key, to)));
  deepEqual(await give("{"), [400, "shares/malformed"]);
  deepEqual(await give("x".repeat(9000)), [413, "http/too-large"]);
  deepEqual(await give(ada!.replace('"ada"', '"bob"')), [400, "shares/wrong"]);
  deepEqual(await give(ada!), [200, undefined]);
  deepEqual(await give(ada!), [200, undefined]);
  deepEqual(await give(bob!), [200, undefined]);
  equal((await recovered).length, 32);
});
