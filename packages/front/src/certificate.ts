// SPDX-License-Identifier: Apache-2.0
/** Certificates over the attested key: by itself, for ACME's validation (RFC 8737), and the request for a public one. */
import { createHash, type KeyObject, sign } from "node:crypto";
import {
  alternativeNames,
  certificate,
  ecdsaWithSha256,
  extension,
  name,
  randomSerial,
  spki,
} from "@caisson/guest/certificate";
import { bitString, der, integer, namedBits, oid, sequence } from "@caisson/verify/der-writer";

const day = 24 * 3600;
/** Clocks of clients may be behind; a key lives for one boot, which may be long. */
const [before, after] = [day, 3650 * day];

/** PEM. `names` (DNS names or addresses) is not empty; `now` in milliseconds since 1970. */
export function selfSigned(
  key: KeyObject,
  names: readonly string[],
  now: number,
  extensions: readonly Uint8Array[] = [],
): string {
  const seconds = Math.floor(now / 1000);
  const validity = { notBefore: seconds - before, notAfter: seconds + after };
  return certificate(names[0]!.slice(0, 64), names[0]!.slice(0, 64), key, key, validity, randomSerial(), [
    extension("2.5.29.15", namedBits(0x8000), true),
    extension("2.5.29.37", sequence(oid("1.3.6.1.5.5.7.3.1"))),
    alternativeNames(names),
    ...extensions,
  ]);
}

/** The certificate that proves control over a name: SHA-256 of the key authorization, critical. PEM. */
export function challengeCertificate(
  key: KeyObject,
  host: string,
  authorization: string,
  now: number,
): string {
  const digest = createHash("sha256").update(authorization).digest();
  const proof = extension("1.3.6.1.5.5.7.1.31", der(0x04, digest), true);
  return selfSigned(key, [host], now, [proof]);
}

/** A certification request (RFC 2986) for these names; DER. */
export function certificateRequest(key: KeyObject, names: readonly string[]): Uint8Array {
  const wanted = sequence(oid("1.2.840.113549.1.9.14"), der(0x31, sequence(alternativeNames(names))));
  const content = sequence(integer(0), name(names[0]!.slice(0, 64)), spki(key), der(0xa0, wanted));
  return sequence(content, ecdsaWithSha256, bitString(new Uint8Array(sign("sha256", content, key))));
}
