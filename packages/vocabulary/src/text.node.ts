// SPDX-License-Identifier: Apache-2.0
/** Bytes as text, for Node: versions before 25 have no `Uint8Array.fromHex`, and take `Buffer`. See `text.language.ts`. */
import * as language from "./text.language.ts";

// By its number, as asking for `crypto.hash` would load that module into every process, needed or not.
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 12) || (major === 21 && minor < 7)) {
  throw new Error(`Caisson needs Node 20.12 or newer; this is Node ${process.version}`);
}

/** Exported for tests, which run where the language has both. */
export const older: typeof language = {
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

export const { toHex, fromHex, toBase64, fromBase64 } = "fromHex" in Uint8Array ? language : older;
