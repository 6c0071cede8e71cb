// SPDX-License-Identifier: Apache-2.0
/** What both ends of a channel have to agree on. */
import { concat, equal, fromHex } from "./bytes.ts";

/** As many clients as one quote serves. */
export const channelNonceLimit = 1024;

/** The one suite, and what stands before and after the key (RFC 9180, section 7): X25519, HKDF-SHA256, AES-256-GCM. */
const [before, after] = [fromHex("000020")!, fromHex("000400010002")!];
const configSize = 41;

/** The X25519 key of a key configuration (RFC 9458, section 3.1); undefined unless it is of the one suite. */
export function hpkeKeyOf(config: Uint8Array): Uint8Array | undefined {
  const [start, end] = [config.subarray(0, before.length), config.subarray(configSize - after.length)];
  if (config.length !== configSize || !equal(start, before) || !equal(end, after)) return undefined;
  return config.subarray(before.length, configSize - after.length);
}

/** The key configuration of an X25519 key (32 bytes). */
export const hpkeConfigOf = (key: Uint8Array): Uint8Array<ArrayBuffer> => concat(before, key, after);
