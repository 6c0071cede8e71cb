// SPDX-License-Identifier: Apache-2.0
/**
 * Is it genuine? Whether AWS vouches for an attestation document of Nitro: for an enclave, or for a machine with a NitroTPM.
 * Its trust ends at AWS, which runs the hypervisor; no processor's maker is asked.
 *
 * Everything is judged at the document's own time: the key that signs lives about three hours. That the document is of today,
 * the verifier's nonce in it says.
 */
import { equal, toHex } from "@caisson/vocabulary/bytes";
import { digest, importP384, verifyP384 } from "#crypto";
import { VerifyError } from "../errors.ts";
import { certificateWindow, checkWindow } from "../pki/chain.ts";
import { type Certificate, keyUsage, p384Profile, parseCertificate } from "../pki/x509.ts";
import type { Answers } from "../report.ts";
import { type NitroDocument, parseNitro } from "./document.ts";

export interface NitroRoot {
  readonly name: string;
  /** SHA-256 of the certificate's public key, the uncompressed point of 97 bytes; hexadecimal. */
  readonly keySha256: string;
}

/** From the certificate that AWS publishes (AWS_NitroEnclaves_Root-G1), whose SHA-256 begins with 641a0321. */
const nitroRoot: NitroRoot = {
  name: "AWS Nitro Enclaves Root CA G1",
  keySha256: "fb7059380c01ce8378535808971f48adb2611f2d332c9e18bbfa1b84cf7cade2",
};

/** A document that is genuine. */
export interface GenuineNitro {
  readonly document: NitroDocument;
  readonly root: NitroRoot;
  /** When the first certificate expires; milliseconds since 1970. */
  readonly validUntil: number;
}

/** How far a document's clock may be ahead of the verifier's. */
const SKEW_MS = 5 * 60_000;

/** Verifies a document. Throws VerifyError of kind "rejected", whose code says which check failed. */
export async function verifyNitro(
  bytes: Uint8Array,
  now: Date,
  answers: Answers,
  root: NitroRoot = nitroRoot,
): Promise<GenuineNitro> {
  const document = parseNitro(bytes);
  answers.judging = "past";
  answers.pass("nitro/format", { actual: document.kind === "tpm" ? "of a NitroTPM" : "of an enclave" });
  const chain = [...document.cabundle, document.certificate].map((der) => parseCertificate(der, p384Profile));
  await verifyChain(chain, root, document.timestamp);
  answers.pass("chain/platform", { actual: `up to ${root.name}` });
  answers.notChecked("chain/revocation", "the certificate of the key is of one machine and lives for hours");
  const key = await importP384(chain.at(-1)!.publicKey);
  if (key === undefined || !(await verifyP384(key, document.signature, document.signed))) {
    throw new VerifyError("nitro/signature", "the document is not signed by the key of its certificate");
  }
  answers.pass("nitro/signature");
  const at = new Date(document.timestamp).toISOString();
  if (document.timestamp > now.getTime() + SKEW_MS) {
    throw new VerifyError("nitro/future", "the document is of a later time than now", {
      expected: `at most ${now.toISOString()}`,
      actual: at,
    });
  }
  answers.pass("nitro/time", { actual: at });
  return { document, root, validUntil: Math.min(...chain.map(({ notAfter }) => notAfter)) };
}

/** The root is pinned by its key; every other certificate is signed by the one before it. */
async function verifyChain(chain: readonly Certificate[], root: NitroRoot, at: number): Promise<void> {
  const [top] = chain;
  const key = toHex(await digest("sha256", top!.publicKey));
  if (key !== root.keySha256) {
    throw new VerifyError("chain/untrusted-root", "the chain ends at a root that is not trusted", {
      expected: `${root.name}, ${root.keySha256}`,
      actual: `${top!.commonName}, ${key}`,
    });
  }
  for (const [i, certificate] of chain.entries()) {
    await checkIssued(certificate, chain[Math.max(0, i - 1)]!, at);
    const below = chain.length - 2 - i;
    if (below >= 0) checkAuthority(certificate, below);
    else checkSigner(certificate);
  }
}

async function checkIssued(certificate: Certificate, issuer: Certificate, at: number): Promise<void> {
  const where = certificate.commonName;
  const { authorityKeyId } = certificate;
  const named =
    authorityKeyId === undefined ||
    (issuer.subjectKeyId !== undefined && equal(authorityKeyId, issuer.subjectKeyId));
  if (!equal(certificate.issuer, issuer.subject) || !named) {
    throw new VerifyError("chain/issuer", "a certificate names another issuer than the one before it", {
      where,
      expected: issuer.commonName,
    });
  }
  checkWindow(`the certificate "${where}"`, certificate, at, certificateWindow);
  const key = await importP384(issuer.publicKey);
  if (key === undefined || !(await verifyP384(key, certificate.signature, certificate.tbs))) {
    throw new VerifyError("chain/signature", "a certificate's signature is not its issuer's", { where });
  }
}

/** `below`: certificates of authorities between this one and the signer (RFC 5280, 4.2.1.9). */
function checkAuthority(
  { commonName: where, ca, pathLength, keyUsage: uses }: Certificate,
  below: number,
): void {
  if (!ca || (pathLength ?? below) < below) {
    throw new VerifyError("chain/constraints", "a certificate may not issue what it issued", {
      where,
      expected: `a CA, with a path length of ${below} at least`,
      actual: `CA ${ca}, path length ${pathLength ?? "none"}`,
    });
  }
  if ((uses & keyUsage.keyCertSign) === 0) {
    throw new VerifyError("chain/key-usage", "a certificate's key may not sign certificates", { where });
  }
}

function checkSigner({ commonName: where, ca, keyUsage: uses }: Certificate): void {
  if (ca) throw new VerifyError("chain/constraints", "the signer of a document is an authority", { where });
  if ((uses & keyUsage.digitalSignature) === 0 || (uses & keyUsage.keyCertSign) !== 0) {
    throw new VerifyError("chain/key-usage", "a certificate's key may not sign documents", { where });
  }
}
