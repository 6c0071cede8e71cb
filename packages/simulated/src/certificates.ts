// SPDX-License-Identifier: Apache-2.0
/** Certificates and CRLs as Intel's authorities issue them, of a plain description that a test may make wrong. */
import { bitString, der, integer, oid, sequence, time, utf8 } from "@caisson/verify/der-writer";
import type { TestKey } from "./p256.ts";

/** An extension to be encoded: `value` is the content of its OCTET STRING. */
export interface ExtensionSpec {
  oid: string;
  critical?: boolean;
  value: Uint8Array;
}

/** What certificates and CRLs share. `patch` may change the bytes that are signed, `corrupt` those that are sent. */
interface SignedSpec {
  issuer: string;
  issuerKey: TestKey;
  extensions: ExtensionSpec[];
  patch?: (tbs: Uint8Array) => Uint8Array;
  corrupt?: (encoding: Uint8Array) => Uint8Array;
}

export interface CertificateSpec extends SignedSpec {
  subject: string;
  key: TestKey;
  serial: Uint8Array;
  notBefore: Date;
  notAfter: Date;
}

export interface CrlSpec extends SignedSpec {
  thisUpdate: Date;
  nextUpdate: Date;
  revoked: Uint8Array[];
}

const ecdsaSha256 = sequence(oid("1.2.840.10045.4.3.2"));

function distinguishedName(commonName: string): Uint8Array {
  const attributes: [string, string][] = [
    ["2.5.4.3", commonName],
    ["2.5.4.10", "Intel Corporation"],
    ["2.5.4.7", "Santa Clara"],
    ["2.5.4.8", "CA"],
    ["2.5.4.6", "US"],
  ];
  return sequence(...attributes.map(([type, value]) => der(0x31, sequence(oid(type), utf8(value)))));
}

export function extensions(specs: readonly ExtensionSpec[]): Uint8Array {
  return sequence(
    ...specs.map(({ oid: id, critical = false, value }) =>
      sequence(oid(id), ...(critical ? [der(0x01, Uint8Array.of(0xff))] : []), der(0x04, value)),
    ),
  );
}

function sign(tbs: Uint8Array, { issuerKey, patch, corrupt }: SignedSpec): Uint8Array {
  const signed = patch === undefined ? tbs : patch(tbs);
  const signature = issuerKey.sign(signed);
  const value = sequence(integer(signature.subarray(0, 32)), integer(signature.subarray(32)));
  const encoding = sequence(signed, ecdsaSha256, bitString(value));
  return corrupt === undefined ? encoding : corrupt(encoding);
}

/** DER of a certificate. */
export function issueCertificate(spec: CertificateSpec): Uint8Array {
  const publicKey = sequence(
    sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")),
    bitString(spec.key.publicKey),
  );
  const tbs = sequence(
    der(0xa0, integer(2)),
    integer(spec.serial),
    ecdsaSha256,
    distinguishedName(spec.issuer),
    sequence(time(spec.notBefore), time(spec.notAfter)),
    distinguishedName(spec.subject),
    publicKey,
    der(0xa3, extensions(spec.extensions)),
  );
  return sign(tbs, spec);
}

/** DER of a CRL. */
export function issueCrl(spec: CrlSpec): Uint8Array {
  const entries = spec.revoked.map((serial) => sequence(integer(serial), time(spec.thisUpdate)));
  const tbs = sequence(
    integer(1),
    ecdsaSha256,
    distinguishedName(spec.issuer),
    time(spec.thisUpdate),
    time(spec.nextUpdate),
    ...(entries.length === 0 ? [] : [sequence(...entries)]),
    ...(spec.extensions.length === 0 ? [] : [der(0xa0, extensions(spec.extensions))]),
  );
  return sign(tbs, spec);
}
