// SPDX-License-Identifier: Apache-2.0
/** Bytes as text, by the language itself. Nothing here guesses: malformed text is `undefined`. */

/** Lower-case hexadecimal. */
export function toHex(bytes: Uint8Array): string {
  return bytes.toHex();
}

/** Bytes of hexadecimal text of either case; undefined for anything else. */
export function fromHex(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.fromHex(text);
  } catch {
    return undefined;
  }
}

/** Standard base64 with padding (RFC 4648, section 4), canonical. */
export function toBase64(bytes: Uint8Array): string {
  return bytes.toBase64();
}

/** Bytes of canonical base64; undefined for other alphabets, white space, missing padding or stray bits. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  // The built-in reader skips white space, which would give one value many spellings.
  if (/\s/.test(text)) return undefined;
  try {
    return Uint8Array.fromBase64(text, { lastChunkHandling: "strict" });
  } catch {
    return undefined;
  }
}

const encoder = new TextEncoder();

/** UTF-8 bytes. */
export function encode(text: string): Uint8Array {
  return encoder.encode(text);
}
