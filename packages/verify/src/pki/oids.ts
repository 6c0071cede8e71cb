// SPDX-License-Identifier: Apache-2.0
/** Object identifiers of what is read here, and how they are encoded (X.690, section 8.19). */

export const oids = {
  ecPublicKey: "1.2.840.10045.2.1",
  p256: "1.2.840.10045.3.1.7",
  p384: "1.3.132.0.34",
  rsaEncryption: "1.2.840.113549.1.1.1",
  rsaPss: "1.2.840.113549.1.1.10",
  mgf1: "1.2.840.113549.1.1.8",
  sha384: "2.16.840.1.101.3.4.2.2",
  ecdsaSha256: "1.2.840.10045.4.3.2",
  ecdsaSha384: "1.2.840.10045.4.3.3",
  commonName: "2.5.4.3",
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  basicConstraints: "2.5.29.19",
  crlNumber: "2.5.29.20",
  reasonCode: "2.5.29.21",
  crlDistributionPoints: "2.5.29.31",
  authorityKeyIdentifier: "2.5.29.35",
} as const;

/** Attributes of names that are read past: organization and its unit, locality, state, country. */
const nameOids = ["2.5.4.10", "2.5.4.11", "2.5.4.7", "2.5.4.8", "2.5.4.6"];

/** Content of an OBJECT IDENTIFIER in dotted form. */
export function encodeOid(dotted: string): Uint8Array {
  const [first, second, ...rest] = dotted.split(".").map(Number) as [number, number, ...number[]];
  const bytes = [first * 40 + second, ...rest].flatMap((arc) => {
    const digits = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) digits.unshift(0x80 | (left & 0x7f));
    return digits;
  });
  return Uint8Array.from(bytes);
}

function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0;
  for (let at = start; at < end; at++) hash = (31 * hash + bytes[at]!) | 0;
  return hash;
}

const known = new Map<number, { dotted: string; encoding: Uint8Array }>();

/** Adds identifiers that `recogniseOid` shall know: each room lists its own once, when it is loaded. */
export function knowOids(list: readonly string[]): void {
  for (const dotted of list) {
    const encoding = encodeOid(dotted);
    known.set(hashOf(encoding, 0, encoding.length), { dotted, encoding });
  }
}

knowOids([...Object.values(oids), ...nameOids]);

/**
 * The dotted form of an identifier that a room listed; undefined for all others. A certificate holds some twenty of
 * them, and recognising one takes a fifth of the time of decoding it.
 */
export function recogniseOid(bytes: Uint8Array, start: number, end: number): string | undefined {
  const found = known.get(hashOf(bytes, start, end));
  if (found === undefined || found.encoding.length !== end - start) return undefined;
  for (let at = start; at < end; at++) if (bytes[at] !== found.encoding[at - start]) return undefined;
  return found.dotted;
}
