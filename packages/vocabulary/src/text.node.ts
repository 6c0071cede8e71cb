// SPDX-License-Identifier: Apache-2.0
/** Bytes as text, for Node: versions before 25 have no `Uint8Array.fromHex`, and take `Buffer`. See `text.language.ts`. */
import { allocate } from "#allocate";
import * as language from "./text.language.ts";

// By its number, as asking for `crypto.hash` would load that module into every process, needed or not.
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 12) || (major === 21 && minor < 7)) {
  throw new Error(`Caisson needs Node 20.12 or newer; this is Node ${process.version}`);
}

/** Exported for tests, which run where the language has both. */
export const older: Omit<typeof language, "encode"> = {
  toHex: (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex"),

  fromHex: (text) =>
    /^(?:[0-9a-fA-F]{2})*$/.test(text) ? new Uint8Array(Buffer.from(text, "hex")) : undefined,

  toBase64: (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64"),

  fromBase64(text) {
    // Buffer takes what is not base64, too: what it read has to have been spelled like this.
    const bytes = Buffer.from(text, "base64");
    return bytes.toString("base64") === text ? new Uint8Array(bytes) : undefined;
  },
};

/** Exported for tests, as `older`. */
export const newer: typeof older = {
  ...language,

  fromHex(text) {
    const bytes = allocate(text.length >>> 1);
    try {
      bytes.setFromHex(text);
      return bytes;
    } catch {
      return undefined;
    }
  },
};

export const { toHex, fromHex, toBase64, fromBase64 } = "fromHex" in Uint8Array ? newer : older;

/** UTF-8 bytes: those of ASCII without the encoder, which makes a buffer for each. */
export function encode(text: string): Uint8Array {
  const bytes = allocate(text.length);
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit > 0x7f) return language.encode(text);
    bytes[i] = unit;
  }
  return bytes;
}
