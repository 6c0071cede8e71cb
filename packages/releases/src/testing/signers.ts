// SPDX-License-Identifier: Apache-2.0
/** Keys that tests sign with: the same seed gives the same key. */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto";
import type { Envelope } from "../envelope.ts";
import { signedBytes } from "../envelope.ts";
import type { KeyType, PublicKey } from "../keys.ts";
import type { NoteKey } from "../log/note.ts";

export interface Signer {
  publicKey: PublicKey;
  sign: (message: Uint8Array) => Uint8Array;
}

const seedOf = (name: string) => createHash("sha256").update(name).digest();

function ed25519(name: string): KeyObject {
  const key = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seedOf(name)]);
  return createPrivateKey({ key, format: "der", type: "pkcs8" });
}

/** RFC 5915 in RFC 5208, without the public key. */
function p256(name: string): KeyObject {
  const head = "3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420";
  return createPrivateKey({
    key: Buffer.concat([Buffer.from(head, "hex"), seedOf(name)]),
    format: "der",
    type: "pkcs8",
  });
}

const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** The other signature of P-256 that is valid for the same message: (r, n − s). */
export function otherForm(signature: Uint8Array): Uint8Array {
  const s = BigInt(`0x${signature.subarray(32).toHex()}`);
  return Uint8Array.fromHex(signature.subarray(0, 32).toHex() + (order - s).toString(16).padStart(64, "0"));
}

export function signer(name: string, type: KeyType = "ed25519"): Signer {
  if (type === "ed25519") {
    const key = ed25519(name);
    const raw = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(12);
    return {
      publicKey: { type, key: raw.toString("hex") },
      sign: (message) => new Uint8Array(sign(null, message, key)),
    };
  }
  const key = p256(name);
  const point = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(26);
  return {
    publicKey: { type, key: point.toString("hex") },
    sign: (message) => {
      const signature = new Uint8Array(sign("sha256", message, { key, dsaEncoding: "ieee-p1363" }));
      const isHigh = BigInt(`0x${signature.subarray(32).toHex()}`) > order / 2n;
      return isHigh ? otherForm(signature) : signature;
    },
  };
}

/** An envelope that these signed. */
export function signedBy(
  unsigned: Pick<Envelope, "payload" | "payloadType">,
  ...signers: readonly Signer[]
): Envelope {
  const message = signedBytes(unsigned);
  return { ...unsigned, signatures: signers.map((one) => one.sign(message)) };
}

export const noteKeyOf = (name: string, kind: NoteKey["kind"], { publicKey }: Signer): NoteKey => ({
  name,
  kind,
  key: Uint8Array.fromHex(publicKey.key),
});
