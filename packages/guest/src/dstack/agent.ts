// SPDX-License-Identifier: Apache-2.0
/**
 * dstack's guest-agent API, version 0 (its agent_rpc.proto): `/GetKey` and its like on dstack.sock,
 * `/prpc/Tappd.DeriveKey` and its like on tappd.sock. JSON both ways, bytes in lower-case hex.
 *
 * What cannot be had here is an error that says so: events after the boot (`EmitEvent`), since what a machine measured
 * before it gave its keys out is all that it measures; attestations in dstack's own binary form.
 */

import type { KeyObject } from "node:crypto";
import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  sign as signWith,
  verify as verifyWith,
} from "node:crypto";
import { measuredEvents, parseEventLog, RUNTIME_EVENT_TYPE, runtimeEventDigest } from "@caisson/measure";
import { toHex } from "@caisson/vocabulary/bytes";
import type { RuntimeEvent } from "@caisson/vocabulary/events";
import * as z from "zod/mini";
import { authorityCertificate, certificateBinding, issueCertificate } from "./certificate.ts";
import { derive, dstackKey, ed25519Key, type KeyAlgorithm, p256Key } from "./keys.ts";
import { keccak256, signRecoverable, verifySignature } from "./secp256k1.ts";

/** What the agent knows of its guest. */
export interface Guest {
  name: string;
  platform: "tdx" | "emulated";
  appId: Uint8Array;
  instanceId: Uint8Array;
  /** The canonical description: its SHA-256 is the compose hash. */
  description: Uint8Array;
  /** `applicationSecret` of the released key; undefined without a KMS, or while keys are withheld. */
  secret(): Uint8Array | undefined;
  /** A quote over 64 bytes. */
  quote(reportData: Uint8Array): Promise<Uint8Array>;
  bootLog(): Promise<Uint8Array>;
  events(): readonly RuntimeEvent[];
  /** Seconds since 1970. */
  now(): number;
}

/** A request that gets no answer; `message` is for who asked. */
export class AgentRefusal extends Error {}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const bytes = (most: number) =>
  z.pipe(
    z.string().check(z.regex(/^(?:[0-9a-fA-F]{2})*$/, "bytes are in hex"), z.maxLength(2 * most)),
    z.transform((text: string) => Buffer.from(text, "hex")),
  );
const text = (most = 256) => z._default(z.string().check(z.maxLength(most)), "");
const flag = z._default(z.boolean(), false);
const seconds = z.optional(z.int().check(z.gte(0), z.lte(253_402_300_799)));

const keyRequest = z.object({ path: text(), purpose: text(), algorithm: text(32) });
const tlsRequest = z.object({
  subject: text(),
  alt_names: z._default(z.array(z.string().check(z.maxLength(253))).check(z.maxLength(64)), []),
  usage_ra_tls: flag,
  usage_server_auth: flag,
  usage_client_auth: flag,
  not_before: seconds,
  not_after: seconds,
  with_app_info: z.optional(z.boolean()),
});
const deriveRequest = z.object({
  path: text(),
  subject: text(),
  alt_names: z._default(z.array(z.string().check(z.maxLength(253))).check(z.maxLength(64)), []),
});
const quoteRequest = z.object({ report_data: bytes(64) });
const legacyQuoteRequest = z.object({ report_data: bytes(4096), hash_algorithm: text(32), prefix: text() });
const signRequest = z.object({ algorithm: z.string(), data: bytes(1 << 16) });
const verifyRequest = z.object({
  algorithm: z.string(),
  data: bytes(1 << 16),
  signature: bytes(65),
  public_key: bytes(65),
});

/** Seconds of a certificate that nobody bounds: ten years. */
const lifetime = 10 * 365 * 86_400;
const version = { version: "0.5.7", rev: "caisson" };

function checked<T>(schema: z.ZodMiniType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new AgentRefusal(`${issue?.path.join(".") || "request"}: ${issue?.message}`);
}

function needSecret(guest: Guest): Uint8Array {
  const secret = guest.secret();
  if (secret !== undefined) return secret;
  throw new AgentRefusal("this application has no key: no KMS released one, or the clock is in doubt");
}

function algorithmOf(name: string): KeyAlgorithm {
  if (name === "" || name === "k256" || name === "secp256k1") return "secp256k1";
  if (name === "ed25519") return "ed25519";
  throw new AgentRefusal(`there is no algorithm '${name}': secp256k1 or ed25519`);
}

/** What a client may verify by itself: boot events by digest, runtime events by name and payload. */
async function eventLog(guest: Guest): Promise<object[]> {
  const log = parseEventLog(await guest.bootLog());
  const boot = measuredEvents(log, guest.platform === "tdx" ? "cc" : "pcr")
    .filter(({ register }) => register !== "mrtd" && register !== "rtmr3")
    .map(({ register, type, digest }) => ({
      imr: Number(register.at(-1)),
      event_type: type,
      digest: toHex(digest),
      event: "",
      event_payload: "",
    }));
  const runtime = guest.events().map(async ({ name, payload }) => ({
    imr: 3,
    event_type: RUNTIME_EVENT_TYPE,
    digest: toHex(await runtimeEventDigest(name, payload)),
    event: name,
    event_payload: toHex(payload),
  }));
  return [...boot, ...(await Promise.all(runtime))];
}

async function quote(guest: Guest, reportData: Uint8Array) {
  const padded = Buffer.alloc(64);
  padded.set(reportData);
  const [signed, log] = [await guest.quote(padded), JSON.stringify(await eventLog(guest))];
  return { quote: toHex(signed), event_log: log, report_data: toHex(padded), vm_config: "" };
}

/** Bytes of a TD quote v4: MRTD, and the four registers (Intel TDX DCAP, A.3.2); in v5, a type and a size come before. */
const registers = { mrtd: 184, rtmr0: 376, rtmr1: 424, rtmr2: 472, rtmr3: 520 } as const;

async function info(guest: Guest) {
  const signed = await guest.quote(new Uint8Array(64));
  const shift = (signed[0] ?? 0) >= 5 ? 6 : 0;
  const at = (offset: number) => Buffer.from(signed.subarray(offset + shift, offset + shift + 48));
  const values = Object.entries(registers).map(([name, offset]) => [name, toHex(at(offset))] as const);
  const aggregated = sha256(Buffer.concat(Object.values(registers).map(at)));
  const composeHash = sha256(guest.description);
  const provider = guest.events().find(({ name }) => name === "key-provider")?.payload;
  const tcb = {
    ...Object.fromEntries(values),
    mr_aggregated: aggregated,
    os_image_hash: "",
    compose_hash: composeHash,
    device_id: "",
    app_compose: Buffer.from(guest.description).toString("utf8"),
    event_log: await eventLog(guest),
  };
  const secret = guest.secret();
  return {
    app_id: toHex(guest.appId),
    instance_id: toHex(guest.instanceId),
    app_cert: secret === undefined ? "" : authorityCertificate(authorityKey(secret)),
    tcb_info: JSON.stringify(tcb),
    app_name: guest.name,
    device_id: "",
    mr_aggregated: aggregated,
    os_image_hash: "",
    key_provider_info: provider === undefined ? "" : Buffer.from(provider).toString("utf8"),
    compose_hash: composeHash,
    vm_config: "",
  };
}

const authorityKey = (secret: Uint8Array): KeyObject => p256Key(derive(secret, "app-ca"));
const pem = (key: KeyObject): string => key.export({ format: "pem", type: "pkcs8" }).toString();

async function tlsKey(guest: Guest, request: z.infer<typeof tlsRequest>) {
  const secret = needSecret(guest);
  const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const extensions: [number, Uint8Array][] = [];
  if (request.with_app_info ?? request.usage_ra_tls) extensions.push([3, guest.appId]);
  extensions.push([4, Buffer.from("app:custom")]);
  if (request.usage_ra_tls) {
    const bound = createHash("sha512").update(certificateBinding(key)).digest();
    extensions.push([1, await guest.quote(bound)], [2, Buffer.from(JSON.stringify(await eventLog(guest)))]);
  }
  const notBefore = request.not_before ?? guest.now();
  const notAfter = request.not_after ?? notBefore + lifetime;
  if (notAfter <= notBefore) throw new AgentRefusal("not_after is not after not_before");
  return certified(secret, key, {
    subject: request.subject,
    names: request.alt_names,
    server: request.usage_server_auth,
    client: request.usage_client_auth,
    notBefore,
    notAfter,
    extensions,
  });
}

function certified(secret: Uint8Array, key: KeyObject, request: Parameters<typeof issueCertificate>[2]) {
  const authority = authorityKey(secret);
  return {
    key: pem(key),
    certificate_chain: [issueCertificate(key, authority, request), authorityCertificate(authority)],
  };
}

/** Legacy: a key that follows from its path, with a certificate for servers and clients. */
function deriveKey(guest: Guest, { path, subject, alt_names }: z.infer<typeof deriveRequest>) {
  const secret = needSecret(guest);
  const notBefore = guest.now();
  return certified(secret, p256Key(derive(secret, "tappd", path)), {
    subject,
    names: alt_names,
    server: true,
    client: true,
    notBefore,
    notAfter: notBefore + lifetime,
    extensions: [[4, Buffer.from("app:custom")]],
  });
}

/** dstack's names of digests, by those of OpenSSL. */
const digests: Readonly<Record<string, string>> = {
  "": "sha512",
  sha256: "sha256",
  sha384: "sha384",
  sha512: "sha512",
  "sha3-256": "sha3-256",
  "sha3-384": "sha3-384",
  "sha3-512": "sha3-512",
  keccak256: "keccak-256",
  keccak384: "keccak-384",
  keccak512: "keccak-512",
};

async function legacyQuote(guest: Guest, request: z.infer<typeof legacyQuoteRequest>) {
  const { report_data: data, hash_algorithm: algorithm, prefix } = request;
  if (algorithm === "raw") {
    if (data.length !== 64) throw new AgentRefusal("report_data: raw report data has 64 bytes");
    return { ...(await quote(guest, data)), hash_algorithm: "raw", prefix: "" };
  }
  const digest = Object.hasOwn(digests, algorithm) ? digests[algorithm] : undefined;
  if (digest === undefined) throw new AgentRefusal(`there is no digest '${algorithm}'`);
  const used = prefix === "" ? "app-data" : prefix;
  const bound = createHash(digest).update(`${used}:`).update(data).digest();
  return {
    ...(await quote(guest, bound)),
    hash_algorithm: algorithm === "" ? "sha512" : algorithm,
    prefix: used,
  };
}

const signing = { path: "vms", purpose: "signing" } as const;

function prehashed(data: Uint8Array): Uint8Array {
  if (data.length === 32) return data;
  throw new AgentRefusal("data: a digest of 32 bytes is wanted");
}

function sign(guest: Guest, { algorithm, data }: z.infer<typeof signRequest>) {
  const kind = algorithmOf(algorithm.replace(/_prehashed$/, ""));
  const { key, publicKey, chain } = dstackKey(needSecret(guest), signing.path, signing.purpose, kind);
  const signature =
    kind === "ed25519"
      ? signWith(null, data, ed25519Key(key))
      : signRecoverable(key, algorithm.endsWith("_prehashed") ? prehashed(data) : keccak256(data));
  return {
    signature: toHex(signature),
    signature_chain: [signature, ...chain].map(toHex),
    public_key: toHex(publicKey),
  };
}

function verify({ algorithm, data, signature, public_key: key }: z.infer<typeof verifyRequest>) {
  const kind = algorithmOf(algorithm.replace(/_prehashed$/, ""));
  if (kind === "secp256k1") {
    const digest = algorithm.endsWith("_prehashed") ? prehashed(data) : keccak256(data);
    return { valid: verifySignature(key, digest, signature) };
  }
  if (key.length !== 32) throw new AgentRefusal("public_key: an Ed25519 key has 32 bytes");
  const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key]);
  return {
    valid: verifyWith(null, data, createPublicKey({ key: spki, format: "der", type: "spki" }), signature),
  };
}

/**
 * The answer to a request: `method` is "GetKey", or "Tappd.DeriveKey" for those of the older socket. Throws AgentRefusal.
 */
export async function answer(guest: Guest, method: string, request: unknown): Promise<object> {
  switch (method) {
    case "GetKey": {
      const { path, purpose, algorithm } = checked(keyRequest, request);
      const { key, chain } = dstackKey(needSecret(guest), path, purpose, algorithmOf(algorithm));
      return { key: toHex(key), signature_chain: chain.map(toHex) };
    }
    case "GetTlsKey":
      return tlsKey(guest, checked(tlsRequest, request));
    case "GetQuote":
      return quote(guest, checked(quoteRequest, request).report_data);
    case "Tappd.RawQuote":
      return quote(guest, checked(quoteRequest, request).report_data);
    case "Info":
    case "Tappd.Info":
      return info(guest);
    case "Version":
    case "Tappd.Version":
      return version;
    case "Sign":
      return sign(guest, checked(signRequest, request));
    case "Verify":
      return verify(checked(verifyRequest, request));
    case "Tappd.DeriveKey":
      return deriveKey(guest, checked(deriveRequest, request));
    case "Tappd.TdxQuote":
      return legacyQuote(guest, checked(legacyQuoteRequest, request));
    case "EmitEvent":
      throw new AgentRefusal(
        "events cannot be added: all that is measured was measured before the keys were released",
      );
    case "Attest":
      throw new AgentRefusal("attestations in dstack's binary form are not made: ask for GetQuote");
    case "GpuInfo":
      throw new AgentRefusal("this machine has no graphics processor");
    default:
      throw new AgentRefusal(`there is no method '${method.slice(0, 40)}'`);
  }
}
