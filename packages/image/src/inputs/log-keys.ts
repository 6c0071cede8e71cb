// SPDX-License-Identifier: Apache-2.0
/** X25519 keys as age writes them: Bech32 (BIP 173) of 32 bytes, `age1…` in lower and `AGE-SECRET-KEY-1…` in upper case. */
import { bech32 } from "@scure/base";

const prefixes = { recipient: "age", identity: "age-secret-key-" } as const;

function decode(text: string, prefix: string): Uint8Array | undefined {
  const found = bech32.decodeUnsafe(text, 90);
  if (found === undefined || found.prefix !== prefix) return undefined;
  const bytes = bech32.fromWordsUnsafe(found.words);
  return bytes instanceof Uint8Array && bytes.length === 32 ? bytes : undefined;
}

/** A public key: `age1…`, or `x25519:` and 64 hex digits; undefined for anything else. */
export function readRecipient(text: string): Uint8Array | undefined {
  if (/^x25519:[0-9a-f]{64}$/.test(text)) return Uint8Array.fromHex(text.slice("x25519:".length));
  return text === text.toLowerCase() ? decode(text, prefixes.recipient) : undefined;
}

export const recipientText = (publicKey: Uint8Array): string =>
  bech32.encode(prefixes.recipient, bech32.toWords(publicKey));

/** A private key; undefined for anything else. */
export function readIdentity(text: string): Uint8Array | undefined {
  return text === text.toUpperCase() ? decode(text.toLowerCase(), prefixes.identity) : undefined;
}

export const identityText = (secret: Uint8Array): string =>
  bech32.encode(prefixes.identity, bech32.toWords(secret)).toUpperCase();
