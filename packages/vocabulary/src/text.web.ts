// SPDX-License-Identifier: Apache-2.0
/**
 * Bytes as text, for browsers: what they lack is said once, where a package is loaded, not of the first document that
 * is read.
 */
if (!("fromHex" in Uint8Array)) {
  throw new Error("Caisson needs Uint8Array.fromHex: Chrome 140, Firefox 133, Safari 18.2 or newer");
}

export { encode, fromBase64, fromHex, toBase64, toHex } from "./text.language.ts";
