// SPDX-License-Identifier: Apache-2.0
/**
 * Facts of arithmetic and grammar that are worth keeping from one verification to the next: a point's key, ready for
 * use, what a certificate says, and that a key signed something. They depend on nothing but the bytes that name them, so that
 * time, policy and revocation are judged anew each time; a stranger can at most make an entry be forgotten.
 */
import { toHex } from "@caisson/vocabulary/bytes";
import { Recent } from "@caisson/vocabulary/recent";
import { digest, importP256, type PublicKey, verifyP256 } from "#crypto";

/** Of each kind 64 entries: roots, CAs and signers are few; keys of platforms and quotes come and go. */
const keys = new Recent<PublicKey>();

/** The key of an uncompressed point (65 bytes); undefined unless it is a point of P-256. */
export async function keyOfPoint(point: Uint8Array): Promise<PublicKey | undefined> {
  const name = toHex(point);
  const known = keys.get(name);
  if (known !== undefined) return known;
  const key = await importP256(point);
  if (key !== undefined) keys.set(name, key);
  return key;
}

/** A P-256 key and its uncompressed point, of 65 bytes. */
interface Signer {
  point: Uint8Array;
  key: PublicKey;
}

/**
 * Signatures that were right, the newest of them: what was right once is not checked again. Of authorities all
 * verifications have one; a service that sees the same platforms again and again keeps one for those
 * (`Judgement.platforms`).
 */
export class Signatures {
  readonly #right: Recent<true>;

  constructor(most?: number) {
    this.#right = new Recent(most);
  }

  /** Whether `signature` (64 bytes, r ‖ s) is the key's over `data`. */
  async isRight({ point, key }: Signer, signature: Uint8Array, data: Uint8Array): Promise<boolean> {
    const name = [point, signature, await digest("sha256", data)].map(toHex).join(" ");
    if (this.#right.get(name) !== undefined) return true;
    const right = await verifyP256(key, signature, data);
    if (right) this.#right.set(name, true);
    return right;
  }
}

/** Whether `signature` is the signer's over `data`, by what `known` remembers where that is given. */
export const isSignedBy = (
  signer: Signer,
  signature: Uint8Array,
  data: Uint8Array,
  known: Signatures | undefined,
): Promise<boolean> =>
  known === undefined ? verifyP256(signer.key, signature, data) : known.isRight(signer, signature, data);

/** Those on certificates of authorities. */
export const authorities = new Signatures();
