// SPDX-License-Identifier: Apache-2.0
/** Changes of certificates, revocation lists and plain bytes, of which one makes evidence wrong. */

import type { CertificateSpec, CrlSpec } from "@caisson/simulated/certificates";
import { TestKey } from "@caisson/simulated/p256";
import type { ErrorCode } from "../../errors.ts";
import { DerReader, tag } from "../../pki/der.ts";
import { der, sequence } from "../../pki/der-writer.ts";

export const second = 1000;
export const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
export const other = TestKey.derive("someone else", "key");
export const after = (date: Date, ms: number) => new Date(date.getTime() + ms);

/** Rebuilds a SEQUENCE with one of its values changed. */
export function edit(
  encoding: Uint8Array,
  index: number,
  change: (value: Uint8Array) => Uint8Array,
): Uint8Array {
  const reader = new DerReader(encoding).enter(tag.sequence);
  const values: Uint8Array[] = [];
  while (reader.more) values.push(reader.any().encoding);
  return sequence(...values.map((value, i) => (i === index ? change(value) : value)));
}
export const replaceWith = (bytes: number[] | Uint8Array) => () => Uint8Array.from(bytes);

/** Replaces the first occurrence of some bytes (hexadecimal) by as many others. */
export function swap(from: string, to: string): (bytes: Uint8Array) => Uint8Array {
  return (bytes) => {
    const at = Buffer.from(bytes).indexOf(Buffer.from(from, "hex"));
    if (at < 0) throw new Error(`${from} is not there`);
    const copy = Uint8Array.from(bytes);
    copy.set(Buffer.from(to, "hex"), at);
    return copy;
  };
}
export const flip = (offset: number) => (bytes: Uint8Array) => {
  const copy = Uint8Array.from(bytes);
  copy[offset < 0 ? copy.length + offset : offset]! ^= 1;
  return copy;
};
export const append =
  (...extra: number[]) =>
  (bytes: Uint8Array) =>
    Uint8Array.from([...bytes, ...extra]);
export const put =
  (offset: number, ...values: number[]) =>
  (bytes: Uint8Array) => {
    const copy = Uint8Array.from(bytes);
    copy.set(values, offset);
    return copy;
  };
/** The same value with one more byte of length than it needs: 30 82 … becomes 30 83 00 …. */
export const longerLength = (encoding: Uint8Array) =>
  Uint8Array.from([encoding[0]!, encoding[1]! + 1, 0, ...encoding.subarray(2)]);

export const withoutExtension = (spec: { extensions: { oid: string }[] }, id: string) => {
  spec.extensions = spec.extensions.filter((extension) => extension.oid !== id) as never;
};
export const setExtension = (spec: CertificateSpec | CrlSpec, id: string, value: Uint8Array) => {
  for (const extension of spec.extensions) if (extension.oid === id) extension.value = value;
};

export const ids = {
  ski: "2.5.29.14",
  usage: "2.5.29.15",
  constraints: "2.5.29.19",
  crlNumber: "2.5.29.20",
  distribution: "2.5.29.31",
  aki: "2.5.29.35",
};
export const yes = der(tag.boolean, Uint8Array.of(0xff));

export type Change<T> = [what: string, code: ErrorCode, change: (spec: T) => void];

/** The certificates of a PEM file, each with its lines around it. */
export const splitPem = (pem: string) => pem.match(/-----BEGIN[^]*?-----END CERTIFICATE-----\n/g) as string[];
