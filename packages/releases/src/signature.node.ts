// SPDX-License-Identifier: Apache-2.0
import { createPublicKey, verify } from "node:crypto";
import type { PublicKey } from "./keys.ts";

/** DER of SubjectPublicKeyInfo up to the key (RFC 8410, RFC 5480). */
const prefix = {
  ed25519: "302a300506032b6570032100",
  p256: "3059301306072a8648ce3d020106082a8648ce3d030107034200",
};

/** Whether it is the key's signature, by OpenSSL; false where the key is not a point, too. See `signature.web.ts`. */
export async function checkSignature(
  { type, key }: PublicKey,
  message: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  try {
    const spki = Buffer.from(prefix[type] + key, "hex");
    const own = createPublicKey({ key: spki, format: "der", type: "spki" });
    return type === "ed25519"
      ? verify(null, message, own, signature)
      : verify("sha256", message, { key: own, dsaEncoding: "ieee-p1363" }, signature);
  } catch {
    return false;
  }
}
