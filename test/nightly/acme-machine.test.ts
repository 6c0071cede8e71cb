// SPDX-License-Identifier: Apache-2.0
/**
 * A public certificate inside a machine: the authority is Let's Encrypt's test one, whose roots the spec names; its
 * validation comes over the network that an attacker on the way holds first.
 */
import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { type AddressInfo, connect as connectTcp, createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { connect } from "node:tls";
import { Guest } from "@caisson/client";
import { cacheDirectory } from "@caisson/image/fetch";
import type { ConsoleEvent } from "@caisson/protocol/console";
import { readPolicy, readReferences } from "@caisson/verify";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { pebbleProgram, startPebble } from "../support/pebble.ts";
import { launchServices, type ServiceMachine, writeAppSpec } from "../support/services.ts";

const name = "guest.example.test";
/** By which a machine reaches this host (QEMU's user network). */
const host = "10.0.2.2";
/** Seconds of a certificate: renewed after two thirds. */
const validity = 120;

type Certificate = Extract<ConsoleEvent, { kind: "certificate" }>;

/** A certificate as a client that trusts `ca` alone sees it; `authorized` is that client's own word. */
async function shown(port: number, ca: string) {
  const socket = connect({ host: "127.0.0.1", port, servername: name, rejectUnauthorized: false, ca });
  await once(socket, "secureConnect");
  const certificate = socket.getPeerX509Certificate()!;
  const { authorized } = socket;
  socket.destroy();
  return { certificate, authorized };
}

/** Where the authority looks for its proofs: leads nowhere, until it is told where. Ends with the test. */
async function startRelay(t: TestContext) {
  const relay = { port: 0, target: 0 };
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    if (relay.target === 0) return void socket.destroy();
    const behind = connectTcp(relay.target, "127.0.0.1");
    behind.on("error", () => socket.destroy());
    socket.on("close", () => behind.destroy());
    socket.pipe(behind).pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  relay.port = (server.address() as AddressInfo).port;
  return relay;
}

/** Without roots, whoever it is. */
const get = (url: string, ca?: string): Promise<string> =>
  new Promise((resolve, reject) => {
    request(url, ca === undefined ? { rejectUnauthorized: false } : { ca }, (answer) => {
      text(answer).then(resolve, reject);
    })
      .once("error", reject)
      .end();
  });

/** The `count`-th event about a certificate that says this. */
function certificateEvent(
  machine: ServiceMachine,
  state: Certificate["state"],
  count = 1,
): Promise<Certificate> {
  const seen = new Set<ConsoleEvent>();
  const wanted = (event: ConsoleEvent): event is Certificate =>
    event.kind === "certificate" && event.state === state && seen.add(event).size >= count;
  return machine.vm.event(wanted).then((event) => {
    ok(event?.kind === "certificate", JSON.stringify(machine.vm.events.slice(-8)));
    return event;
  });
}

async function ready(machine: ServiceMachine): Promise<number> {
  const event = await machine.vm.event(({ kind }) => kind === "ready");
  ok(event !== undefined, JSON.stringify(machine.vm.events.slice(-8)));
  return machine.ports[0]!.host;
}

/** The key with which connections end is the one in accepted evidence. */
async function attested({ policy, references, collateral }: ServiceMachine, port: number): Promise<void> {
  const judgement = {
    policy: readPolicy(policy),
    references: readReferences(references, "the prediction"),
    collateral,
  };
  const guest = new Guest(`https://127.0.0.1:${port}`, judgement, ["tls"]);
  (await guest.connect()).destroy();
  equal(guest.attestation?.report.verdict, "accepted");
}

test("a machine gets a certificate over its attested key, renews it, and keeps its account over a restart", {
  timeout: 900_000,
}, async (t) => {
  const program = pebbleProgram(cacheDirectory(process.env));
  if (program === undefined) return t.skip("there is no Go to build pebble with");
  const place = temporaryDirectory("acme", t);
  const relay = await startRelay(t);
  const pebble = await startPebble(program, place, relay.port, { host, validity });
  t.after(() => pebble.close());
  const issuer = await get(pebble.issuer, pebble.roots);
  writeFileSync(join(place, "authority.pem"), pebble.roots);
  // Not beside the spec: what is built there would be a part of the application, and another one the second time.
  mkdirSync(join(place, "app"));
  writeFileSync(
    join(place, "app/server.mjs"),
    `import { createServer } from "node:http";
createServer(({ url }, response) => (url === "/stream" ? response.write("on") : response.end("ok"))).listen(8080);
`,
  );
  writeAppSpec(
    place,
    "acme",
    `  node: ./app/server.mjs
  port: 8080
front:
  port: 8443
  names: [${name}]
  acme:
    directory: ${pebble.directory}
    roots: ./authority.pem
`,
  );
  let machine = await launchServices(place, 1024);
  t.after(() => machine.stop());
  const port = await ready(machine);

  await t.test(
    "a proof that does not arrive: the machine says which, and the self-signed certificate stays",
    async () => {
      const failed = await certificateEvent(machine, "failed");
      equal(failed.state === "failed" && failed.reason, "acme/refused", JSON.stringify(failed));
      deepEqual(failed.names, [name]);
      const { certificate, authorized } = await shown(port, issuer);
      equal(certificate.verify(certificate.publicKey), true);
      equal(authorized, false);
      await attested(machine, port);
    },
  );

  relay.target = port;
  const first = await certificateEvent(machine, "issued");
  const before = await shown(port, issuer);

  await t.test(
    "then it is issued, and whoever trusts the authority, or evidence, accepts the connection",
    async () => {
      match(before.certificate.issuer, /Pebble/);
      equal(before.authorized, true);
      equal(before.certificate.checkHost(name), name);
      await attested(machine, port);
      ok(first.state === "issued");
      deepEqual([first.authority, first.names], ["pebble.letsencrypt.org", [name]]);
      match(first.account, new RegExp(`^https://${host}:\\d+/my-account/`));
      ok(Date.parse(first.renewal) < Date.parse(first.notAfter));
    },
  );

  await t.test("it is renewed over the same key, by the same account", async () => {
    const second = await certificateEvent(machine, "issued", 2);
    const after = await shown(port, issuer);
    notEqual(after.certificate.serialNumber, before.certificate.serialNumber);
    const spki = ({ publicKey }: X509Certificate) => publicKey.export({ type: "spki", format: "der" });
    deepEqual(spki(after.certificate), spki(before.certificate));
    equal(after.authorized, true);
    ok(first.state === "issued" && second.state === "issued");
    equal(second.account, first.account);
    await attested(machine, port);
    // Whoever posts the same at once had its nonce refused.
    match(pebble.log(), /(POST \/\S+) [^\n]*\n[^\n]*\1 /, "nonces were refused meanwhile");
  });

  await t.test("more connections than most have are held, and others are served", async (t) => {
    const held: IncomingMessage[] = [];
    t.after(() => {
      for (const answer of held) answer.destroy();
    });
    while (held.length < 600) {
      const some = Array.from({ length: 8 }, async () => {
        const asked = request(`https://127.0.0.1:${port}/stream`, {
          rejectUnauthorized: false,
          agent: false,
        }).end();
        const [answer] = (await once(asked, "response")) as [IncomingMessage];
        answer.on("error", () => undefined);
        return answer;
      });
      held.push(...(await Promise.all(some)));
    }
    await attested(machine, port);
    equal(await get(`https://127.0.0.1:${port}/`), "ok");
    equal(held.filter(({ destroyed }) => destroyed).length, 0);
    for (const answer of held) answer.destroy();
  });

  await t.test("after a restart there is another key, and the same account", async () => {
    await machine.stop();
    machine = await launchServices(place, 1024);
    relay.target = await ready(machine);
    const again = await certificateEvent(machine, "issued");
    ok(first.state === "issued" && again.state === "issued");
    equal(again.account, first.account);
    const { certificate, authorized } = await shown(relay.target, issuer);
    equal(authorized, true);
    notEqual(certificate.fingerprint256, before.certificate.fingerprint256);
    await attested(machine, relay.target);
  });
});
