// SPDX-License-Identifier: Apache-2.0
/**
 * Public keys and their signatures: Ed25519 (RFC 8032), and ECDSA over P-256 with SHA-256 for hardware tokens.
 *
 * Invariants: a key has one spelling (Ed25519: 32 bytes; P-256: 65, uncompressed), and a signature one form: 64 bytes;
 * for P-256 r ‖ s with s in the lower half, because with (r, s) the pair (r, n − s) is valid too.
 *
 * That a key signed some bytes is remembered: a fact of arithmetic, which no time and no revocation changes. Whoever asks
 * judges those anew each time. What did not verify is not remembered, so only owners of keys can push something out.
 */

import { fromHex, toHex } from "@caisson/vocabulary/bytes";
import { sha256 } from "@caisson/vocabulary/merkle";
import { Recent } from "@caisson/vocabulary/recent";
import { object, oneOf, type Schema, SchemaError, text } from "@caisson/vocabulary/schema";
import { checkSignature } from "#signature";

export type KeyType = "ed25519" | "p256";

/** `key` in lower-case hexadecimal. */
export interface PublicKey {
  type: KeyType;
  key: string;
}

const anyKey = object({ type: oneOf("ed25519", "p256"), key: text("hexadecimal", /^[0-9a-f]+$/, 130) });

export const publicKeySchema: Schema<PublicKey> = (value) => {
  const key = anyKey(value);
  const whole = key.type === "ed25519" ? /^[0-9a-f]{64}$/ : /^04[0-9a-f]{128}$/;
  if (whole.test(key.key)) return key;
  throw new SchemaError(
    "key",
    key.type === "ed25519" ? "expected 32 bytes" : "expected 65 bytes, 04 ‖ x ‖ y",
  );
};

/** The order of P-256 (SEC 2, section 2.4.2). */
const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const halfOrder = order / 2n;

/** The form of a P-256 signature that is taken: (r, s) or (r, n − s), whichever is lower. */
export function lowForm(signature: Uint8Array): Uint8Array {
  const s = BigInt(`0x${toHex(signature.subarray(32))}`);
  if (s <= halfOrder) return signature;
  const low = (order - s).toString(16).padStart(64, "0");
  return fromHex(toHex(signature.subarray(0, 32)) + low)!;
}

/** Bytes that keys may have signed, and their SHA-256 (hex). */
export interface Message {
  bytes: Uint8Array;
  hash: string;
}

export const hashed = async (bytes: Uint8Array): Promise<Message> => ({
  bytes,
  hash: toHex(await sha256(bytes)),
});

const verified = new Recent<true>(1024);
const factOf = ({ type, key }: PublicKey, { hash }: Message, signature: Uint8Array): string =>
  `${type} ${key} ${hash} ${toHex(signature)}`;

/** Whether this signature was verified before. */
export const isVerified = (key: PublicKey, message: Message, signature: Uint8Array): boolean =>
  verified.get(factOf(key, message, signature)) !== undefined;

/** Whether `signature` is the key's over `message`; false where the key is not a point, too. */
export async function verifySignature(
  key: PublicKey,
  message: Message,
  signature: Uint8Array,
): Promise<boolean> {
  if (signature.length !== 64) return false;
  if (isVerified(key, message, signature)) return true;
  const { type } = key;
  if (type === "p256" && BigInt(`0x${toHex(signature.subarray(32))}`) > halfOrder) return false;
  const right = await checkSignature(key, message.bytes, signature);
  if (right) verified.set(factOf(key, message, signature), true);
  return right;
}
