// SPDX-License-Identifier: Apache-2.0
/** Certificates of `GetTlsKey`: X.509 v3 (RFC 5280) on P-256, with dstack's extensions for evidence. */
import { createPublicKey, type KeyObject, randomBytes, sign } from "node:crypto";
import { isIP } from "node:net";
import {
  bitString,
  der,
  integer,
  namedBits,
  oid,
  sequence,
  time,
  toPem,
  utf8,
} from "@caisson/verify/der-writer";

export interface CertificateRequest {
  subject: string;
  /** DNS names and IP addresses. */
  names: readonly string[];
  server: boolean;
  client: boolean;
  /** Seconds since 1970. */
  notBefore: number;
  notAfter: number;
  /** Of dstack's own arc, by its last part; the values are wrapped in an OCTET STRING. */
  extensions: readonly (readonly [number: number, value: Uint8Array])[];
}

export const ecdsaWithSha256 = sequence(oid("1.2.840.10045.4.3.2"));
const commonName = "2.5.4.3";
const set = 0x31;
const octetString = 0x04;
const boolean = 0x01;
const critical = der(boolean, Uint8Array.of(0xff));

export const name = (text: string): Uint8Array => sequence(der(set, sequence(oid(commonName), utf8(text))));

export const spki = (key: KeyObject): Uint8Array =>
  new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }));

export function extension(id: string, value: Uint8Array, isCritical = false): Uint8Array {
  return sequence(oid(id), ...(isCritical ? [critical] : []), der(octetString, value));
}

/** GeneralName: dNSName [2] or iPAddress [7]. */
function alternative(text: string): Uint8Array {
  const version = isIP(text);
  if (version === 0) return der(0x82, Buffer.from(text));
  const bytes = version === 4 ? text.split(".").map(Number) : expanded(text);
  return der(0x87, Uint8Array.from(bytes));
}

/** The 16 bytes of an IPv6 address without a zone. */
function expanded(text: string): number[] {
  const [left = "", right] = new URL(`http://[${text}]`).hostname.slice(1, -1).split("::");
  const groups = (part: string) =>
    part === "" ? [] : part.split(":").map((one) => Number.parseInt(one, 16));
  const [before, after] = [groups(left), right === undefined ? [] : groups(right)];
  const middle = Array.from({ length: 8 - before.length - after.length }, () => 0);
  return [...before, ...middle, ...after].flatMap((group) => [group >> 8, group & 0xff]);
}

/** Subject alternative names (RFC 5280, 4.2.1.6). */
export const alternativeNames = (names: readonly string[]): Uint8Array =>
  extension("2.5.29.17", sequence(...names.map(alternative)));

function signed(issuer: KeyObject, content: Uint8Array): string {
  const signature = new Uint8Array(sign("sha256", content, issuer));
  return toPem(sequence(content, ecdsaWithSha256, bitString(signature)));
}

/** Times in seconds since 1970; PEM. */
export function certificate(
  subject: string,
  issuer: string,
  key: KeyObject,
  issuerKey: KeyObject,
  validity: { notBefore: number; notAfter: number },
  serial: Uint8Array,
  extensions: readonly Uint8Array[],
): string {
  const date = (seconds: number) => time(new Date(seconds * 1000));
  const content = sequence(
    der(0xa0, integer(2)),
    integer(serial),
    ecdsaWithSha256,
    name(issuer),
    sequence(date(validity.notBefore), date(validity.notAfter)),
    name(subject),
    spki(key),
    der(0xa3, sequence(...extensions)),
  );
  return signed(issuerKey, content);
}

const authority = "Application CA";

/** The application's own authority, the same at every start but for its signature; PEM. */
export function authorityCertificate(key: KeyObject): string {
  const validity = { notBefore: Date.UTC(2020, 0, 1) / 1000, notAfter: Date.UTC(2049, 11, 31) / 1000 };
  return certificate(authority, authority, key, key, validity, Uint8Array.of(1), [
    extension("2.5.29.19", sequence(critical, integer(0)), true),
    extension("2.5.29.15", namedBits(0x0400), true),
  ]);
}

/** Positive, and of at most 20 bytes. */
export function randomSerial(): Uint8Array {
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  return serial;
}

/** A certificate for `key` that the authority issued; PEM. */
export function issueCertificate(
  key: KeyObject,
  authorityKey: KeyObject,
  request: CertificateRequest,
): string {
  const usages = [
    ...(request.server ? [oid("1.3.6.1.5.5.7.3.1")] : []),
    ...(request.client ? [oid("1.3.6.1.5.5.7.3.2")] : []),
  ];
  return certificate(request.subject, authority, key, authorityKey, request, randomSerial(), [
    extension("2.5.29.15", namedBits(0x8000), true),
    ...(usages.length > 0 ? [extension("2.5.29.37", sequence(...usages))] : []),
    ...(request.names.length > 0 ? [alternativeNames(request.names)] : []),
    ...request.extensions.map(([last, value]) =>
      extension(`1.3.6.1.4.1.62397.1.${last}`, der(octetString, value)),
    ),
  ]);
}

/** What report data binds for a certificate: SHA-512 of this and the key's SubjectPublicKeyInfo. */
export const certificateBinding = (key: KeyObject): Uint8Array =>
  Buffer.concat([Buffer.from("ratls-cert:"), spki(key)]);
