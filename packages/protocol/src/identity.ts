// SPDX-License-Identifier: Apache-2.0
/**
 * Who a guest is: what the events `app-id`, `compose-hash`, `instance-id` and `key-provider` carry.
 *
 * Invariant: the application decides its id (its measured description is hashed); the host chooses only which of
 * the application's instances this is, and what it chose is measured.
 */
import { createHash } from "node:crypto";
import { canonicalJson } from "@caisson/vocabulary/canonical-json";
import { frame, text } from "@caisson/vocabulary/frame";

/** Bytes of an instance id, and of the id of an application without an identity document. */
export const ID_SIZE = 20;
/** Bytes of an application's id with one. */
export const IDENTITY_SIZE = 32;

/** Payload of `compose-hash`: SHA-256 of the application's description, 32 bytes. */
export function composeHash(description: Uint8Array): Uint8Array {
  return sha256(description);
}

/** Payload of `app-id` without an identity document: the first 20 bytes of the compose hash. */
export function appId(description: Uint8Array): Uint8Array {
  return composeHash(description).subarray(0, ID_SIZE);
}

/** Payload of `instance-id`: 20 bytes from the application's id and the seed in the host's instance document. */
export function instanceId(app: Uint8Array, seed: Uint8Array): Uint8Array {
  return sha256(frame("caisson/instance-id/v1", app, seed)).subarray(0, ID_SIZE);
}

/**
 * Payload of `key-provider`: canonical JSON `{"id":"<hex identity key>","name":"kms"}`, or `{"id":"","name":"none"}`
 * where no KMS is used. `identityKey` is 32 bytes.
 */
export function keyProvider(identityKey: Uint8Array | undefined): Uint8Array {
  const id = identityKey === undefined ? "" : Buffer.from(identityKey).toString("hex");
  return text(canonicalJson({ name: identityKey === undefined ? "none" : "kms", id }));
}

function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash("sha256").update(bytes).digest());
}
