// SPDX-License-Identifier: Apache-2.0
import { fromHex } from "@caisson/vocabulary/bytes";
import type { PublicKey } from "./keys.ts";

const algorithms = {
  ed25519: { name: "Ed25519" },
  p256: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
};

/** Whether it is the key's signature, by WebCrypto; false where the key is not a point, too. See `signature.node.ts`. */
export async function checkSignature(
  { type, key }: PublicKey,
  message: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  const algorithm = algorithms[type];
  try {
    const raw = fromHex(key) as BufferSource;
    const own = await crypto.subtle.importKey("raw", raw, algorithm, false, ["verify"]);
    return await crypto.subtle.verify(algorithm, own, signature as BufferSource, message as BufferSource);
  } catch {
    return false;
  }
}
