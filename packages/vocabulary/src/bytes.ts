// SPDX-License-Identifier: Apache-2.0
/** Bytes and their texts. Nothing here guesses: malformed text is `undefined`. */

export { fromBase64, fromHex, toBase64, toHex } from "#text";

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Text of UTF-8, to be compared: what is not UTF-8 becomes U+FFFD, and a byte order mark stays. */
export function fromUtf8(bytes: Uint8Array): string {
  return utf8.decode(bytes);
}

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
