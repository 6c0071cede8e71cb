// SPDX-License-Identifier: Apache-2.0
/** Bytes as text, for Node: versions before 25 have no `Uint8Array.fromHex`, and take `Buffer`. See `text.language.ts`. */
import * as crypto from "node:crypto";
import * as language from "./text.language.ts";

if (typeof crypto.hash !== "function") {
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
