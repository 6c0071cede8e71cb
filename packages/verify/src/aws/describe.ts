// SPDX-License-Identifier: Apache-2.0
/** What a Nitro document says, field by field, before anything is judged. */
import { isZero, toHex } from "@caisson/vocabulary/bytes";
import { VerifyError } from "../errors.ts";
import type { Description } from "../evidence/description.ts";
import { p384Profile, parseCertificate } from "../pki/x509.ts";
import { type NitroDocument, parseNitro } from "./document.ts";

/** Describes a document. Throws VerifyError "nitro/…" for what is not one. */
export function describeNitro(bytes: Uint8Array): Description {
  const document = parseNitro(bytes);
  const { kind, moduleId, timestamp, pcrs, publicKey, userData, nonce } = document;
  const first = pcrs.get(0);
  const field = (value: Uint8Array | undefined) => (value === undefined ? "none" : toHex(value));
  return {
    warnings:
      kind === "enclave" && (first === undefined || isZero(first))
        ? ["this is a DEBUG enclave: its host reads its console"]
        : [],
    groups: {
      document: {
        kind: kind === "tpm" ? "AWS NitroTPM" : "AWS Nitro enclave",
        module: moduleId,
        time: new Date(timestamp).toISOString(),
        nonce: field(nonce),
        "public key": field(publicKey),
        "user data": field(userData),
      },
      PCRs: Object.fromEntries([...pcrs].map(([index, value]) => [`PCR ${index}`, toHex(value)])),
      certificates: certificates(document),
    },
  };
}

/** The signer first. One that cannot be read is said so, for the document can be looked at all the same. */
function certificates({ certificate, cabundle }: NitroDocument): Record<string, string> {
  const day = (ms: number) => new Date(ms).toISOString().slice(0, 16);
  const lines = [certificate, ...cabundle.toReversed()].map((der, i): [string, string] => {
    try {
      const { commonName, notBefore, notAfter } = parseCertificate(der, p384Profile);
      return [`${i + 1}`, `${commonName}, ${day(notBefore)} to ${day(notAfter)}`];
    } catch (error) {
      if (!(error instanceof VerifyError)) throw error;
      return [`${i + 1}`, `cannot be read: ${error.message} [${error.code}]`];
    }
  });
  return Object.fromEntries(lines);
}
