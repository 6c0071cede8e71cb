// SPDX-License-Identifier: Apache-2.0
/**
 * A certificate authority made on the spot, for time servers on loopback: X.509 v3, ECDSA with P-256 and SHA-256
 * (RFC 5280, RFC 5758). Nothing outside development configurations trusts what it issues.
 */
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { isIPv4 } from "node:net";

/** Unix milliseconds. */
export interface Validity {
  notBefore: number;
  notAfter: number;
}

export interface TestAuthority {
  /** PEM. */
  certificate: string;
  key: KeyObject;
  name: string;
}

/** PEM texts of a server's certificate and its private key. */
export interface ServerCertificate {
  certificate: string;
  key: string;
}

/** A self-signed root, or an intermediate authority below `issuer`. */
export function createTestAuthority(name: string, validity: Validity, issuer?: TestAuthority): TestAuthority {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const extensions = [
    extension("551d13", true, sequence(boolean(true))), // basicConstraints: a CA
    extension("551d0f", true, der(0x03, Uint8Array.of(1, 0x06))), // keyUsage: keyCertSign, cRLSign
  ];
  const certificate = issueCertificate(
    name,
    publicKey,
    validity,
    extensions,
    issuer?.name ?? name,
    issuer?.key ?? privateKey,
  );
  return { certificate, key: privateKey, name };
}

/** A certificate for a TLS server called by any of `names` or IPv4 `addresses`. */
export function issueServerCertificate(
  authority: TestAuthority,
  names: readonly string[],
  addresses: readonly string[],
  validity: Validity,
): ServerCertificate {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const alternatives = [
    ...names.map((name) => der(0x82, Buffer.from(name, "ascii"))),
    ...addresses.filter(isIPv4).map((address) => der(0x87, Uint8Array.from(address.split("."), Number))),
  ];
  const extensions = [
    extension("551d13", true, sequence()), // basicConstraints: not a CA
    extension("551d0f", true, der(0x03, Uint8Array.of(7, 0x80))), // keyUsage: digitalSignature
    extension("551d25", false, sequence(der(0x06, Buffer.from("2b06010505070301", "hex")))), // serverAuth
    extension("551d11", false, sequence(...alternatives)), // subjectAltName
  ];
  const subject = names[0] ?? addresses[0]!;
  return {
    certificate: issueCertificate(subject, publicKey, validity, extensions, authority.name, authority.key),
    key: privateKey.export({ type: "pkcs8", format: "pem" }) as string,
  };
}

function issueCertificate(
  subject: string,
  subjectKey: KeyObject,
  validity: Validity,
  extensions: Uint8Array[],
  issuer: string,
  issuerKey: KeyObject,
): string {
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40; // positive, and no leading zero
  const algorithm = sequence(der(0x06, Buffer.from("2a8648ce3d040302", "hex"))); // ecdsa-with-SHA256
  const publicKey = subjectKey.export({ type: "spki", format: "der" });
  const subjectKeyId = createHash("sha1").update(publicKey).digest();
  const tbs = sequence(
    der(0xa0, der(0x02, Uint8Array.of(2))), // version 3
    der(0x02, serial),
    algorithm,
    distinguishedName(issuer),
    sequence(time(validity.notBefore), time(validity.notAfter)),
    distinguishedName(subject),
    publicKey,
    der(0xa3, sequence(...extensions, extension("551d0e", false, der(0x04, subjectKeyId)))),
  );
  const signature = sign("sha256", tbs, { key: issuerKey, dsaEncoding: "der" });
  const certificate = sequence(tbs, algorithm, der(0x03, Buffer.concat([Uint8Array.of(0), signature])));
  const base64 = Buffer.from(certificate).toString("base64").replace(/.{64}/g, "$&\n").trimEnd();
  return `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`;
}

function der(tag: number, value: Uint8Array): Uint8Array {
  const length = value.length;
  const head =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Uint8Array.from(head), value]);
}

const sequence = (...parts: Uint8Array[]) => der(0x30, Buffer.concat(parts));
const boolean = (value: boolean) => der(0x01, Uint8Array.of(value ? 0xff : 0));

function extension(id: string, critical: boolean, value: Uint8Array): Uint8Array {
  return sequence(der(0x06, Buffer.from(id, "hex")), ...(critical ? [boolean(true)] : []), der(0x04, value));
}

function distinguishedName(commonName: string): Uint8Array {
  const attribute = sequence(der(0x06, Buffer.from("550403", "hex")), der(0x0c, Buffer.from(commonName)));
  return sequence(der(0x31, attribute));
}

/** UTCTime through 2049, GeneralizedTime from then on (RFC 5280, section 4.1.2.5). */
function time(milliseconds: number): Uint8Array {
  const digits = new Date(milliseconds).toISOString().replace(/[-:T]|\.\d+/g, "");
  const year = Number(digits.slice(0, 4));
  return year >= 1950 && year < 2050
    ? der(0x17, Buffer.from(digits.slice(2), "ascii"))
    : der(0x18, Buffer.from(digits, "ascii"));
}
