// SPDX-License-Identifier: Apache-2.0
/** Public certificates over the attested key: from Let's Encrypt's test authority, with nonces refused; and what CAA allows. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "node:tls";
import { createFront } from "@caisson/front";
import { AcmeClient, datesOf, keepCertificate } from "@caisson/front/acme";
import { selfSigned } from "@caisson/front/certificate";
import { freeTcpPort } from "@caisson/host/ports";
import { cacheDirectory } from "@caisson/image/fetch";
import { caaRecords, encodeReport } from "@caisson/protocol/certificate-report";
import { generateKeyPair } from "@caisson/protocol/hpke-context";
import { pebbleProgram, startPebble } from "../support/pebble.ts";

const name = "guest.example.test";
const newKey = () => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;

async function shown(port: number): Promise<X509Certificate> {
  const socket = connect({ host: "127.0.0.1", port, servername: name, rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const certificate = socket.getPeerX509Certificate()!;
  socket.destroy();
  return certificate;
}

test("pebble issues for the attested key, renews, and refuses nonces meanwhile", {
  timeout: 300_000,
}, async (t) => {
  const program = pebbleProgram(cacheDirectory(process.env));
  if (program === undefined) return t.skip("there is no Go to build pebble with");
  const place = mkdtempSync(join(tmpdir(), "caisson-acme-"));
  const port = await freeTcpPort();
  const pebble = await startPebble(program, place, port);
  const key = newKey();
  const front = createFront({
    key: key.export({ format: "pem", type: "pkcs8" }) as string,
    certificate: selfSigned(key, [name], Date.now()),
    hpke: await generateKeyPair(),
    application: { host: "127.0.0.1", port: 1 },
    require: "tls",
    attest: () => Promise.reject(new Error("nobody asks")),
  });
  front.server.listen(port, "127.0.0.1");
  await once(front.server, "listening");
  t.after(() => {
    front.close();
    pebble.close();
    rmSync(place, { recursive: true });
  });
  const { directory, roots } = pebble;
  const accountKey = newKey();
  const own = (await shown(port)).issuer;
  const said: string[] = [];
  void keepCertificate(front, key, [name], { directory, roots, accountKey }, (what) =>
    said.push(encodeReport(what)),
  );
  const limit = performance.now() + 200_000;
  while ((await shown(port)).issuer === own && performance.now() < limit) await sleep(250);
  const first = await shown(port);
  match(first.issuer, /Pebble/, said.join("\n"));
  deepEqual(first.checkPrivateKey(key), true);
  match(said.join("\n"), /"issued","authority":"pebble\.letsencrypt\.org","account":"https:/);
  match(pebble.log(), /nonce/i);

  // As a renewal, by another process with the same account key: the account is the same.
  const again = new AcmeClient({ directory, roots, accountKey });
  const prove = () => () => undefined;
  await rejects(again.certificate([name], key, prove), /refuses|invalid/, "without a proof there is none");
  ok(said.join("\n").includes(again.account!), "the account follows from its key");
  const stranger = new AcmeClient({ directory, roots, accountKey: newKey() });
  await stranger.register();
  ok(stranger.account !== again.account);
  const { notAfter, renewal } = datesOf(first.toString());
  ok(renewal > Date.now() && renewal < notAfter);
});

/** RFC 8659, section 5, and RFC 8657: whether a set of records lets an authority issue to an account by a method. */
function permits(records: string[], who: { authority: string; account: string; method: string }): boolean {
  const issue = records.flatMap((record) => /^\S+ CAA 0 issue "([^"]*)"$/.exec(record)?.[1] ?? []);
  return issue.some((value) => {
    const [domain = "", ...rest] = value.split(";").map((part) => part.trim());
    const parameters = new Map(
      rest.filter((part) => part !== "").map((part) => part.split(/=(.*)/s) as [string, string]),
    );
    const { accounturi, validationmethods } = Object.fromEntries(parameters);
    return (
      domain === who.authority &&
      (accounturi === undefined || accounturi === who.account) &&
      (validationmethods === undefined || validationmethods.split(",").includes(who.method))
    );
  });
}

test("the printed CAA records let this account by this challenge, and nobody else", () => {
  const account = "https://ca.example/acct/7";
  const records = caaRecords([name], "ca.example", account);
  const right = { authority: "ca.example", account, method: "tls-alpn-01" };
  equal(permits(records, right), true);
  equal(permits(records, { ...right, account: "https://ca.example/acct/8" }), false);
  equal(permits(records, { ...right, method: "http-01" }), false);
  equal(permits(records, { ...right, method: "dns-01" }), false);
  equal(permits(records, { ...right, authority: "other.example" }), false);
  ok(records.some((record) => record.endsWith('issuewild ";"')));
});
