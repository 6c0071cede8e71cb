// SPDX-License-Identifier: Apache-2.0
/**
 * dstack's guest-agent API against the JavaScript SDK that dstack publishes, from its registry, over real sockets. It is
 * installed apart from this repository: it needs older releases of what it stands on.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { judge, serveAgent } from "../support/dstack-agent.ts";
import { loadOracle } from "../support/quote-oracle.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-dstack-"));
const socket = join(place, "dstack.sock");
const packages = ["@phala/dstack-sdk@0.5.8", "@noble/hashes@1.8.0", "@noble/curves@1.9.7"];

/** The part of the SDK that is used here. */
interface Client {
  getKey(
    path: string,
    purpose?: string,
    algorithm?: string,
  ): Promise<{ key: Uint8Array; signature_chain: Uint8Array[] }>;
  getTlsKey(
    options: object,
  ): Promise<{ certificate_chain: string[]; asUint8Array(size: number): Uint8Array }>;
  getQuote(
    data: string,
  ): Promise<{ quote: string; event_log: string; replayRtmrs(): Record<string, string> }>;
  info(): Promise<{ app_id: string; tcb_info: { app_compose: string; compose_hash: string } }>;
  version(): Promise<{ version: string }>;
  isReachable(): Promise<boolean>;
  emitEvent(event: string, payload: string): Promise<void>;
  attest(data: string): Promise<object>;
  sign(algorithm: string, data: Uint8Array): Promise<{ signature: Uint8Array; public_key: Uint8Array }>;
  verify(
    algorithm: string,
    data: Uint8Array,
    signature: Uint8Array,
    key: Uint8Array,
  ): Promise<{ valid: boolean }>;
  deriveKey(path: string, subject: string): Promise<{ key: string; certificate_chain: string[] }>;
  tdxQuote(data: string, algorithm: string): Promise<{ quote: string; hash_algorithm: string }>;
}

let servers: Server[] = [];
let client: Client;
let older: Client;

before(async () => {
  writeFileSync(join(place, "package.json"), '{ "private": true }');
  execFileSync(
    "npm",
    ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact", ...packages],
    {
      cwd: place,
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  loadOracle();
  servers = await serveAgent(socket, `${socket}.tappd`);
  const sdk = (await import(join(place, "node_modules/@phala/dstack-sdk/dist/index.mjs"))) as Record<
    "DstackClient" | "TappdClient",
    new (
      endpoint: string,
    ) => Client
  >;
  client = new sdk.DstackClient(socket);
  older = new sdk.TappdClient(`${socket}.tappd`);
});
after(() => {
  for (const server of servers) server.close();
  rmSync(place, { recursive: true });
});

test("it finds the agent and learns who it is", async () => {
  ok(await client.isReachable());
  ok(/^\d+\.\d+\.\d+$/.test((await client.version()).version));
  const { app_id: id, tcb_info: tcb } = await client.info();
  equal(id, "01".repeat(20));
  equal(createHash("sha256").update(tcb.app_compose).digest("hex"), tcb.compose_hash);
});

test("keys, with their chains", async () => {
  const { key, signature_chain: chain } = await client.getKey("a/b", "signing");
  deepEqual([key.length, chain.length, chain[0]!.length], [32, 2, 65]);
  deepEqual((await client.getKey("a/b", "signing", "ed25519")).key, key);
  ok(!Buffer.from((await client.getKey("a/c")).key).equals(Buffer.from(key)));
});

test("a certificate for its own names, by the application's authority", async () => {
  const options = { subject: "front", altNames: ["shop.example"], usageRaTls: true, usageServerAuth: true };
  const found = await client.getTlsKey(options);
  const [leaf, authority] = found.certificate_chain.map((one) => new X509Certificate(one));
  ok(leaf!.verify(authority!.publicKey));
  equal(leaf!.subjectAltName, "DNS:shop.example");
  equal(found.asUint8Array(32).length, 32);
});

test("a quote whose log it replays to registers", async () => {
  const found = await client.getQuote("report");
  equal(Buffer.from(found.quote, "hex").subarray(568, 574).toString(), "report");
  const registers = found.replayRtmrs();
  const expected = (...digests: Buffer[]) =>
    digests.reduce(
      (register, digest) => createHash("sha384").update(register).update(digest).digest(),
      Buffer.alloc(48),
    );
  equal(registers[0], expected(Buffer.alloc(48, 1)).toString("hex"));
  const event = createHash("sha384")
    .update(Buffer.of(1, 0, 0, 8))
    .update(":app-id:")
    .update(Buffer.alloc(20, 1));
  equal(registers[3], expected(event.digest()).toString("hex"));
});

test("its quote verifies with our verifier and with dcap-qvl, and a changed one with neither", async () => {
  const quote = Buffer.from((await client.getQuote("report")).quote, "hex");
  const [own, other] = await judge(quote);
  deepEqual(own, { status: "UpToDate", advisories: [] });
  deepEqual(other, own);
  quote[568]! ^= 1;
  const changed = await judge(quote);
  deepEqual(changed[0], { code: "quote/signature" });
  match(changed[1].code!, /signature/i);
});

for (const algorithm of ["ed25519", "secp256k1", "secp256k1_prehashed"]) {
  test(`what it has signed with ${algorithm} verifies, and nothing else`, async () => {
    const data = Buffer.alloc(32, 5);
    const { signature, public_key: key } = await client.sign(algorithm, data);
    deepEqual(await client.verify(algorithm, data, signature, key), {
      valid: true,
      __name__: "VerifyResponse",
    });
    equal((await client.verify(algorithm, Buffer.alloc(32, 6), signature, key)).valid, false);
  });
}

test("the older client", async () => {
  ok(await older.isReachable());
  const derived = await older.deriveKey("path", "subject");
  equal((await older.deriveKey("path", "subject")).key, derived.key);
  const { quote, hash_algorithm: used } = await older.tdxQuote("data", "sha256");
  const bound = createHash("sha256").update("app-data:data").digest("hex");
  equal(Buffer.from(quote, "hex").subarray(568, 600).toString("hex"), bound);
  equal(used, "sha256");
});

test("what cannot be had fails in the client, too", async () => {
  await rejects(client.emitEvent("event", "payload"));
  await rejects(client.attest("data"), /GetQuote/);
  await rejects(client.getKey("path", "", "rsa"));
});
