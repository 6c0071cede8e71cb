// SPDX-License-Identifier: Apache-2.0
/**
 * Keys as dstack's guest agent derives them from an application's root (its ra-tls crate, kdf.rs): HKDF-SHA256 with
 * the salt "RATLS", the path as info. Purpose and algorithm do not enter it, so the same path gives the same bytes.
 *
 * The root is not dstack's: it is derived from the key that Caisson's KMS released, so keys are this application's and
 * never those that it has elsewhere. That key names no secp256k1 root of a KMS, so chains end with the application's.
 */
import { createECDH, createPrivateKey, createPublicKey, hkdfSync, type KeyObject } from "node:crypto";
import { deriveApplicationKey } from "@caisson/protocol/derivation";
import { keccak256, publicKeyOf, signRecoverable } from "./secp256k1.ts";

export type KeyAlgorithm = "secp256k1" | "ed25519";

export interface DstackKey {
  /** 32 bytes. */
  key: Buffer;
  /** Compressed SEC 1, or the 32 bytes of an Ed25519 key. */
  publicKey: Buffer;
  /** The application's signature over purpose and public key; where dstack has its KMS's signature, nothing. */
  chain: [Buffer, Buffer];
}

/** The application's secp256k1 key, from the key that was released to it. */
export const applicationSecret = (released: Uint8Array): Uint8Array =>
  deriveApplicationKey(released, "dstack", "app-k256-key");

/** 32 bytes for a path; several parts are joined. */
export const derive = (secret: Uint8Array, ...path: readonly string[]): Buffer =>
  Buffer.from(hkdfSync("sha256", secret, "RATLS", path.join(""), 32));

const ed25519Header = Buffer.from("302e020100300506032b657004220420", "hex");

export const ed25519Key = (secret: Uint8Array): KeyObject =>
  createPrivateKey({ key: Buffer.concat([ed25519Header, secret]), format: "der", type: "pkcs8" });

function publicOf(key: Buffer, algorithm: KeyAlgorithm): Buffer {
  if (algorithm === "secp256k1") return publicKeyOf(key);
  return createPublicKey(ed25519Key(key)).export({ format: "der", type: "spki" }).subarray(-32);
}

/** What `GetKey` answers; `secret` is `applicationSecret`. */
export function dstackKey(
  secret: Uint8Array,
  path: string,
  purpose: string,
  algorithm: KeyAlgorithm,
): DstackKey {
  const key = derive(secret, path);
  const publicKey = publicOf(key, algorithm);
  const digest = keccak256(`${purpose}:${publicKey.toString("hex")}`);
  return { key, publicKey, chain: [signRecoverable(secret, digest), Buffer.alloc(0)] };
}

/** The P-256 key of 32 bytes; bytes that are not a scalar of the group come up once in 2^32. */
export function p256Key(secret: Uint8Array): KeyObject {
  const ecdh = createECDH("prime256v1");
  ecdh.setPrivateKey(secret);
  const point = ecdh.getPublicKey();
  const part = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64url");
  const [d, x, y] = [secret, point.subarray(1, 33), point.subarray(33)].map(part);
  return createPrivateKey({ key: { kty: "EC", crv: "P-256", d: d!, x: x!, y: y! }, format: "jwk" });
}
