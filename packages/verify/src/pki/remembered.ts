// SPDX-License-Identifier: Apache-2.0
/**
 * Facts of arithmetic and grammar that are worth keeping from one verification to the next: a point's key, ready for
 * use, what a certificate says, and that a key signed one. They depend on nothing but the bytes that name them, so that
 * time, policy and revocation are judged anew each time; a stranger can at most make an entry be forgotten.
 */
import { toHex } from "@caisson/vocabulary/bytes";
import { Recent } from "@caisson/vocabulary/recent";
import { digest, importP256, type PublicKey, verifyP256 } from "#crypto";

/** Of each kind 64 entries: roots, CAs and signers are few; keys of platforms and quotes come and go. */
const keys = new Recent<PublicKey>();
const signatures = new Recent<true>();

/** The key of an uncompressed point (65 bytes); undefined unless it is a point of P-256. */
export async function keyOfPoint(point: Uint8Array): Promise<PublicKey | undefined> {
  const name = toHex(point);
  const known = keys.get(name);
  if (known !== undefined) return known;
  const key = await importP256(point);
  if (key !== undefined) keys.set(name, key);
  return key;
}

/**
 * Whether the key of `point` signed a certificate; what it signed once is not checked again. `encoding` is the whole
 * certificate, signed part and signature.
 */
export async function signedCertificate(
  { point, key }: { point: Uint8Array; key: PublicKey },
  { encoding, tbs, signature }: { encoding: Uint8Array; tbs: Uint8Array; signature: Uint8Array },
): Promise<boolean> {
  const name = `${toHex(point)} ${toHex(await digest("sha256", encoding))}`;
  if (signatures.get(name) !== undefined) return true;
  const right = await verifyP256(key, signature, tbs);
  if (right) signatures.set(name, true);
  return right;
}
