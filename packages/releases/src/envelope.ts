// SPDX-License-Identifier: Apache-2.0
/**
 * Signed envelopes: DSSE 1.0 (https://github.com/secure-systems-lab/dsse).
 *
 * Invariants: what is judged is the bytes that were signed, never the envelope again; key ids are hints and are not
 * read; a threshold counts public keys that signed, so one key counts once, however often and in whatever form.
 */
import { concat, fromBase64, toBase64 } from "@caisson/vocabulary/bytes";
import { text as utf8 } from "@caisson/vocabulary/frame";
import { list, object, optional, type Schema, SchemaError, text } from "@caisson/vocabulary/schema";
import { readValue } from "./canonical.ts";
import { ReleaseError } from "./errors.ts";
import { hashed, isVerified, type PublicKey, verifySignature } from "./keys.ts";

export interface Envelope {
  payload: Uint8Array;
  payloadType: string;
  signatures: readonly Uint8Array[];
}

/** Bytes of a payload, and signatures in an envelope. */
const payloadLimit = 48 * 1024;
const maximumSignatures = 64;

/** Base64 with padding in either alphabet, as DSSE demands of readers. */
function base64(limit: number): Schema<Uint8Array> {
  return (value) => {
    if (typeof value === "string" && value.length <= Math.ceil(limit / 3) * 4) {
      // One alphabet or the other, never both.
      const mixed = /[-_]/.test(value) && /[+/]/.test(value);
      const bytes = mixed ? undefined : fromBase64(value.replaceAll("-", "+").replaceAll("_", "/"));
      if (bytes !== undefined) return bytes;
    }
    throw new SchemaError("", `expected base64 of at most ${limit} bytes`);
  };
}

/** Loose, because DSSE's readers ignore fields that they do not know; nothing outside of the payload is believed. */
const schema = object(
  {
    payload: base64(payloadLimit),
    payloadType: text("a payload type", /^[ -~]+$/, 200),
    signatures: list(
      object({ sig: base64(128), keyid: optional((value: unknown) => value) }, "loose"),
      0,
      maximumSignatures,
    ),
  },
  "loose",
);

/** Reads parsed JSON. Throws ReleaseError "envelope/malformed". */
export function readEnvelope(value: unknown): Envelope {
  const { payload, payloadType, signatures } = readValue(value, schema, "envelope/malformed");
  return { payload, payloadType, signatures: signatures.map(({ sig }) => sig) };
}

/** The bytes that are signed: PAE(type, body). */
export function signedBytes({ payload, payloadType }: Pick<Envelope, "payload" | "payloadType">): Uint8Array {
  const type = utf8(payloadType);
  return concat(utf8(`DSSEv1 ${type.length} `), type, utf8(` ${payload.length} `), payload);
}

/** The envelope as JSON that `readEnvelope` takes. */
export function writeEnvelope({ payload, payloadType, signatures }: Envelope): object {
  return {
    payload: toBase64(payload),
    payloadType,
    signatures: signatures.map((signature) => ({ sig: toBase64(signature) })),
  };
}

/**
 * Those of the keys, which are different ones, that signed; once `enough` did, the others are not asked. A signature is
 * one key's. What was verified before comes first, so that rubbish between costs nothing then.
 */
export async function signersOf(
  envelope: Envelope,
  keys: readonly PublicKey[],
  enough = keys.length,
): Promise<PublicKey[]> {
  const message = await hashed(signedBytes(envelope));
  const open = new Set(envelope.signatures);
  const signed = new Set<PublicKey>();
  for (const isSigned of [isVerified, verifySignature]) {
    for (const key of keys) {
      if (signed.size >= enough) break;
      if (signed.has(key)) continue;
      for (const signature of open) {
        if (!(await isSigned(key, message, signature))) continue;
        signed.add(key);
        open.delete(signature);
        break;
      }
    }
  }
  return keys.filter((key) => signed.has(key));
}

/** The payload, once its type is known to be `payloadType`. Throws ReleaseError "envelope/malformed". */
export function payloadOf(envelope: Envelope, payloadType: string): Uint8Array {
  if (envelope.payloadType === payloadType) return envelope.payload;
  throw new ReleaseError("envelope/malformed", "the payload is of another type", {
    expected: payloadType,
    actual: envelope.payloadType,
  });
}
