// SPDX-License-Identifier: Apache-2.0
/** What both ends of a channel have to agree on. */
import { concat, equal, fromHex } from "./bytes.ts";
import { frame, text } from "./frame.ts";

/** As many clients as one quote serves. */
export const channelNonceLimit = 1024;

/** RFC 9266, section 2: what both ends of one TLS 1.3 session, and nobody else, can compute; 32 bytes, without context. */
export const sessionExporter = { label: "EXPORTER-Channel-Binding", size: 32 } as const;

/**
 * What stands in the tree of nonces in place of the nonce (32 bytes) for a client that wants its own TLS session bound:
 * nonce and exporter (32 bytes each), and whose end speaks. Longer than any nonce, so that nobody can have it put there as
 * one over a session of his own.
 */
export const sessionEntry = (nonce: Uint8Array, exporter: Uint8Array): Uint8Array<ArrayBuffer> =>
  frame("caisson/channel-session/v1", text("server"), nonce, exporter);

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
