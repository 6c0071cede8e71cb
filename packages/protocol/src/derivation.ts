// SPDX-License-Identifier: Apache-2.0
/**
 * The tree of keys: root secret → keys of an application and of one instance → keys that the application asks for.
 *
 * Invariants: every step is HKDF-SHA-256 (RFC 5869) with its own salt; its info is a `frame`, so that neither
 * ("ab", "c") and ("a", "bc") nor two purposes ever meet in one key; nothing is derived by concatenation.
 * Test vectors: docs/key-release.md.
 */
import { hkdfSync } from "node:crypto";
import { frame, text, u32, u64 } from "@caisson/vocabulary/frame";
import { IDENTITY_SIZE } from "./identity.ts";

/** What distinguishes one released key from every other. */
export interface KeyContext {
  /** 20 bytes, or 32 of an application with an identity document: `applicationId` of guest-config.ts. */
  app: Uint8Array;
  /** 20 bytes, or empty for a key that all instances of the application share. */
  instance: Uint8Array;
  purpose: "application" | "instance";
  /** 1 … 2^32 − 1; a policy raises it to retire a key. */
  version: number;
}

/** 32 bytes; `secret` is the KMS's root secret (32 bytes). */
export function deriveReleasedKey(secret: Uint8Array, context: KeyContext): Uint8Array {
  const { app, instance, purpose, version } = context;
  const domain = app.length === IDENTITY_SIZE ? "caisson/identity-key/v1" : "caisson/released-key/v1";
  return hkdf(secret, domain, app, instance, text(purpose), u32(version));
}

/**
 * A key that an application asks its guest for: 32 bytes from a released key, for a path (the application's own
 * name for the key) and a purpose (what it does with it: "signing", "disk").
 */
export function deriveApplicationKey(released: Uint8Array, path: string, purpose: string): Uint8Array {
  return hkdf(released, "caisson/application-key/v1", text(path), text(purpose));
}

/** The secret of a volume (its id of 32 bytes): 32 bytes, the same through every upgrade of what opens it. */
export function deriveVolumeSecret(secret: Uint8Array, volume: Uint8Array, version: number): Uint8Array {
  return hkdf(secret, "caisson/volume-secret/v1", volume, u32(version));
}

/** The key under which one opening of a volume, by its epoch, says what it has written: 32 bytes. */
export function deriveAnchorKey(secret: Uint8Array, volume: Uint8Array, epoch: bigint): Uint8Array {
  return hkdf(secret, "caisson/volume-anchor-key/v1", volume, u64(epoch));
}

/** What a guest derives from a volume's secret. */
export interface VolumeKeys {
  /** AES-256-XTS, 64 bytes. */
  cipher: Uint8Array;
  /** Ids of the file system, 16 bytes each: as secret as what is in it (docs/state.md). */
  fsid: Uint8Array;
  device: Uint8Array;
  chunkTree: Uint8Array;
  /** AES-256-GCM of the record that repairs a torn stamp, 32 bytes. */
  redo: Uint8Array;
}

/** The keys of a volume from its secret of 32 bytes. */
export function deriveVolumeKeys(secret: Uint8Array): VolumeKeys {
  const key = (purpose: string, size: number): Uint8Array => {
    const domain = "caisson/volume-key/v1";
    return new Uint8Array(hkdfSync("sha256", secret, domain, frame(domain, text(purpose)), size));
  };
  return {
    cipher: key("cipher", 64),
    fsid: key("fsid", 16),
    device: key("device", 16),
    chunkTree: key("chunk-tree", 16),
    redo: key("redo", 32),
  };
}

/**
 * Seed of the X25519 key to which owners seal an application's secrets, 32 bytes; `app` is 32 bytes. The KMS alone has it:
 * a guest that did could read what later releases are given.
 */
export function deriveSealingSeed(secret: Uint8Array, app: Uint8Array, version: number): Uint8Array {
  return hkdf(secret, "caisson/sealing-key/v1", app, u32(version));
}

/** What a KMS needs for itself: its identity key's seed, and keys for the rows of its database and its nonces. */
export type KmsPurpose = "identity" | "rows" | "nonces";

/** 32 bytes from the root secret for the KMS's own use; apart from every released key by its domain. */
export function deriveKmsKey(secret: Uint8Array, purpose: KmsPurpose): Uint8Array {
  return hkdf(secret, "caisson/kms-key/v1", text(purpose));
}

function hkdf(secret: Uint8Array, domain: string, ...fields: Uint8Array[]): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", secret, domain, frame(domain, ...fields), 32));
}
