// SPDX-License-Identifier: Apache-2.0
/** Writes DER, the opposite of `der.ts`, and PEM around it. */
import { toBase64 } from "@caisson/vocabulary/bytes";
import { tag } from "./der.ts";
import { encodeOid } from "./oids.ts";

/** One value: tag, minimal length, the concatenation of `content`. */
export function der(type: number, ...content: Uint8Array[]): Uint8Array {
  const body = Buffer.concat(content);
  const size = body.length.toString(16);
  const length =
    body.length < 0x80
      ? [body.length]
      : [...Buffer.from(size.padStart(size.length + (size.length % 2), "0"), "hex")];
  const prefix = body.length < 0x80 ? [] : [0x80 | length.length];
  return new Uint8Array(Buffer.concat([Uint8Array.of(type, ...prefix, ...length), body]));
}

export const sequence = (...content: Uint8Array[]): Uint8Array => der(tag.sequence, ...content);

/** An INTEGER of an unsigned big-endian number. */
export function integer(value: Uint8Array | number): Uint8Array {
  const hex = typeof value === "number" ? value.toString(16) : Buffer.from(value).toString("hex");
  let bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), "0"), "hex");
  while (bytes.length > 1 && bytes[0] === 0) bytes = bytes.subarray(1);
  return der(tag.integer, ...(bytes[0]! >= 0x80 ? [Uint8Array.of(0)] : []), bytes);
}

export const oid = (dotted: string): Uint8Array => der(tag.oid, encodeOid(dotted));

export const bitString = (bytes: Uint8Array): Uint8Array => der(tag.bitString, Uint8Array.of(0), bytes);

/** A named-bit list of at most 16 bits, bit 0 the most significant, without trailing zeros. */
export function namedBits(bits: number): Uint8Array {
  const bytes = (bits & 0xff) === 0 ? [bits >> 8] : [bits >> 8, bits & 0xff];
  let unused = 0;
  while (unused < 7 && ((bytes.at(-1)! >> unused) & 1) === 0) unused++;
  return der(tag.bitString, Uint8Array.of(unused, ...bytes));
}

export const utf8 = (text: string): Uint8Array => der(tag.utf8String, Buffer.from(text));

/** PEM of certificates, one after the other. */
export function toPem(...certificates: Uint8Array[]): string {
  return certificates
    .map((bytes) => {
      const lines = toBase64(bytes).match(/.{1,64}/g)!;
      return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
    })
    .join("");
}

/** UTCTime before 2050, GeneralizedTime from then on (RFC 5280, 4.1.2.5). */
export function time(date: Date): Uint8Array {
  const digits = `${date.toISOString().replace(/[-:T]|\.\d+Z$/g, "")}Z`;
  return date.getUTCFullYear() < 2050
    ? der(tag.utcTime, Buffer.from(digits.slice(2)))
    : der(tag.generalizedTime, Buffer.from(digits));
}
