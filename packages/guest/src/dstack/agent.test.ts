// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { createHash, createHmac, createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import { test } from "node:test";
import { replay } from "@caisson/measure";
import { parseDstackLog } from "@caisson/measure/dstack-log";
import fc from "fast-check";
import { bootLog, quoteOver } from "../testing/trusted-domain.ts";
import { AgentRefusal, answer, type Guest } from "./agent.ts";
import { applicationSecret } from "./keys.ts";
import { keccak256, publicKeyOf, verifySignature } from "./secp256k1.ts";

const released = new Uint8Array(32).fill(7);
const secret = applicationSecret(released);
const digest = (seed: number) => new Uint8Array(48).fill(seed);
const quoted: Buffer[] = [];

const guest: Guest = {
  name: "shop",
  platform: "tdx",
  appId: new Uint8Array(20).fill(1),
  instanceId: new Uint8Array(20).fill(2),
  description: Buffer.from('{"name":"shop"}'),
  secret: () => secret,
  quote(reportData) {
    quoted.push(Buffer.from(reportData));
    return Promise.resolve(quoteOver(reportData));
  },
  bootLog: () => Promise.resolve(bootLog()),
  events: () => [
    { name: "app-id", payload: new Uint8Array(20).fill(1) },
    { name: "key-provider", payload: Buffer.from('{"id":"","name":"none"}') },
  ],
  now: () => Date.UTC(2026, 10, 26) / 1000,
};

/** What comes over the wire: texts, and lists of texts. */
type Answer = Record<
  | "key"
  | "signature"
  | "public_key"
  | "quote"
  | "event_log"
  | "report_data"
  | "tcb_info"
  | "compose_hash"
  | "app_id"
  | "app_cert"
  | "key_provider_info"
  | "hash_algorithm",
  string
> &
  Record<"signature_chain" | "certificate_chain", string[]>;
const ask = async (method: string, request: object = {}): Promise<Answer> =>
  JSON.parse(JSON.stringify(await answer(guest, method, request))) as Answer;
const hex = (text: string) => Buffer.from(text, "hex");

/** HKDF-SHA256 with one block of output (RFC 5869), by hand. */
function hkdf(key: Uint8Array, salt: string, info: string): string {
  const extracted = createHmac("sha256", salt).update(key).digest();
  return createHmac("sha256", extracted).update(info).update(Buffer.of(1)).digest("hex");
}

test("a key follows from its path alone; the application signs for what it is used", async () => {
  for (const [path, purpose] of [
    ["", ""],
    ["a/b", "signing"],
  ]) {
    const { key, signature_chain: chain } = await ask("GetKey", { path, purpose });
    equal(key, hkdf(secret, "RATLS", path!));
    const bound = keccak256(`${purpose}:${publicKeyOf(hex(key)).toString("hex")}`);
    ok(verifySignature(publicKeyOf(secret), bound, hex(chain[0]!)));
    equal(hex(chain[0]!).length, 65);
    equal(chain[1], "");
  }
  const named = await Promise.all(
    ["", "k256", "secp256k1", "ed25519"].map((algorithm) => ask("GetKey", { path: "x", algorithm })),
  );
  equal(new Set(named.map(({ key }) => key)).size, 1);
  // The chain is over another public key.
  equal(new Set(named.map(({ signature_chain: [first] }) => first)).size, 2);
});

test("another application has other keys", async () => {
  const other = { ...guest, secret: () => applicationSecret(new Uint8Array(32).fill(8)) };
  const { key } = (await answer(other, "GetKey", { path: "x" })) as { key: string };
  ok(key !== (await ask("GetKey", { path: "x" })).key);
});

test("signatures verify here, and by the public key that comes with them", async () => {
  const data = Buffer.from("message");
  for (const [algorithm, signed] of [
    ["ed25519", data],
    ["secp256k1", data],
    ["secp256k1_prehashed", createHash("sha256").update(data).digest()],
  ] as const) {
    const request = { algorithm, data: signed.toString("hex") };
    const { signature, signature_chain: chain, public_key: key } = await ask("Sign", request);
    equal(chain.length, 3);
    equal(chain[0], signature);
    const bound = keccak256(`signing:${key}`);
    ok(verifySignature(publicKeyOf(secret), bound, hex(chain[1]!)));
    deepEqual(await ask("Verify", { ...request, signature, public_key: key }), { valid: true });
    const other = {
      ...request,
      data: signed.toString("hex").replace(/^./, (first: string) => (first === "0" ? "1" : "0")),
    };
    deepEqual(await ask("Verify", { ...other, signature, public_key: key }), { valid: false });
  }
});

test("a certificate: the application's authority issued it for these names and uses, and a quote binds its key", async () => {
  const request = {
    subject: "front",
    alt_names: ["shop.example", "10.0.0.1", "fe80::1"],
    usage_ra_tls: true,
    usage_server_auth: true,
    not_after: guest.now() + 60,
  };
  const { key, certificate_chain: chain } = await ask("GetTlsKey", request);
  const [leaf, authority] = (chain as string[]).map((one) => new X509Certificate(one));
  ok(
    leaf!.checkIssued(authority!) &&
      leaf!.verify(authority!.publicKey) &&
      authority!.verify(authority!.publicKey),
  );
  equal(authority!.ca, true);
  equal(leaf!.ca, false);
  equal(leaf!.subject, "CN=front");
  equal(leaf!.subjectAltName, "DNS:shop.example, IP Address:10.0.0.1, IP Address:FE80:0:0:0:0:0:0:1");
  deepEqual(leaf!.keyUsage, ["1.3.6.1.5.5.7.3.1"]);
  equal(leaf!.validToDate.getTime() / 1000, guest.now() + 60);
  ok(leaf!.checkPrivateKey(createPrivateKey(key)));
  const spki = createPublicKey(leaf!.publicKey.export({ format: "pem", type: "spki" })).export({
    format: "der",
    type: "spki",
  });
  deepEqual(quoted.at(-1), createHash("sha512").update("ratls-cert:").update(spki).digest());
  ok(leaf!.raw.includes(quoteOver(quoted.at(-1)!).subarray(0, 632)), "the quote is in it");
});

test("a quote's log explains its registers", async () => {
  const { quote, event_log: log, report_data: data } = await ask("GetQuote", { report_data: "abcd" });
  equal(data, `abcd${"00".repeat(62)}`);
  equal(hex(quote).subarray(568, 632).toString("hex"), data);
  const events = await parseDstackLog(log);
  const registers = await replay(events);
  const extend = (value: Uint8Array) =>
    createHash("sha384").update(new Uint8Array(48)).update(value).digest("hex");
  equal(Buffer.from(registers.rtmr0).toString("hex"), extend(digest(1)));
  equal(Buffer.from(registers.rtmr2).toString("hex"), extend(digest(3)));
  deepEqual(
    events.filter(({ register }) => register === "rtmr3").map(({ name }) => name),
    ["app-id", "key-provider"],
  );
});

test("who it is: its description hashes to the compose hash", async () => {
  const info = await ask("Info");
  const tcb = JSON.parse(info.tcb_info);
  equal(info.compose_hash, createHash("sha256").update(tcb.app_compose).digest("hex"));
  equal(tcb.mrtd, "ee".repeat(48));
  equal(info.app_id, "01".repeat(20));
  deepEqual(JSON.parse(info.key_provider_info), { id: "", name: "none" });
  ok(new X509Certificate(info.app_cert).ca);
});

test("registers are found in quotes of both versions", async () => {
  for (const [version, offset] of [
    [4, 184],
    [5, 190],
  ] as const) {
    const bytes = Buffer.alloc(700);
    bytes.writeUInt16LE(version, 0);
    bytes.fill(0xab, offset, offset + 48);
    const other: Guest = { ...guest, quote: () => Promise.resolve(bytes) };
    const { tcb_info: tcb } = (await answer(other, "Info", {})) as { tcb_info: string };
    equal((JSON.parse(tcb) as { mrtd: string }).mrtd, "ab".repeat(48));
  }
});

test("the older socket: deterministic keys, report data by digest", async () => {
  const derived = await ask("Tappd.DeriveKey", { path: "a", subject: "s" });
  equal((await ask("Tappd.DeriveKey", { path: "a", subject: "t" })).key, derived.key);
  ok((await ask("Tappd.DeriveKey", { path: "b" })).key !== derived.key);
  await ask("Tappd.TdxQuote", { report_data: "6161", hash_algorithm: "sha256" });
  const bound = createHash("sha256").update("app-data:aa").digest();
  deepEqual(quoted.at(-1), Buffer.concat([bound, Buffer.alloc(32)]));
  equal((await ask("Tappd.TdxQuote", { report_data: "61" })).hash_algorithm, "sha512");
});

test("without a key there are quotes, and no keys", async () => {
  const none: Guest = { ...guest, secret: () => undefined };
  await answer(none, "GetQuote", { report_data: "" });
  equal(((await answer(none, "Info", {})) as { app_cert: string }).app_cert, "");
  for (const method of ["GetKey", "GetTlsKey", "Tappd.DeriveKey"]) {
    await rejects(answer(none, method, {}), AgentRefusal);
  }
});

const refused: [method: string, request: object, said: RegExp][] = [
  ["EmitEvent", { event: "x", payload: "" }, /before the keys were released/],
  ["Attest", { report_data: "" }, /GetQuote/],
  ["Nothing", {}, /no method/],
  ["GetKey", { path: 1 }, /path/],
  ["GetKey", { algorithm: "rsa" }, /no algorithm 'rsa'/],
  ["GetQuote", { report_data: "00".repeat(65) }, /report_data/],
  ["GetQuote", { report_data: "0" }, /hex/],
  ["Sign", { algorithm: "secp256k1_prehashed", data: "00" }, /32 bytes/],
  ["Tappd.TdxQuote", { report_data: "00", hash_algorithm: "raw" }, /64 bytes/],
  ["Tappd.TdxQuote", { report_data: "00", hash_algorithm: "md5" }, /no digest 'md5'/],
  ["GetTlsKey", { not_before: 10, not_after: 10 }, /not after/],
];
for (const [method, request, said] of refused) {
  test(`refused: ${method} ${JSON.stringify(request).slice(0, 60)}`, () =>
    rejects(answer(guest, method, request), (error: Error) => {
      ok(error instanceof AgentRefusal);
      match(error.message, said);
      return true;
    }));
}

test("any request of any method is an answer or a refusal", async () => {
  const methods = [
    "GetKey",
    "GetTlsKey",
    "GetQuote",
    "Sign",
    "Verify",
    "Tappd.DeriveKey",
    "Tappd.TdxQuote",
    "Tappd.RawQuote",
  ];
  const keys = [
    "path",
    "purpose",
    "algorithm",
    "subject",
    "alt_names",
    "report_data",
    "hash_algorithm",
    "data",
    "signature",
    "public_key",
    "not_after",
  ];
  const value = fc.oneof(
    fc.string({ maxLength: 8 }),
    fc.constantFrom("00", "ed25519", "secp256k1", "é", "::1", "1.2.3.4"),
    fc.integer(),
    fc.array(fc.string({ maxLength: 4 }), { maxLength: 2 }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...methods),
      fc.dictionary(fc.constantFrom(...keys), value),
      async (method, request) => {
        try {
          ok(typeof (await answer(guest, method, request)) === "object");
        } catch (error) {
          if (!(error instanceof AgentRefusal)) throw error;
        }
      },
    ),
    { numRuns: 150 },
  );
});
