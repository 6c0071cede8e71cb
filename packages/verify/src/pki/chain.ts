// SPDX-License-Identifier: Apache-2.0
/**
 * That a certificate was issued by the next one of its chain, up to a root that is trusted, and is what its place in the
 * chain asks for. What one vendor's certificates must hold is said by the `Role`s of its room.
 */
import { equal, toHex } from "@caisson/vocabulary/bytes";
import type { PublicKey } from "#crypto";
import { type CheckCode, VerifyError } from "../errors.ts";
import { authorities, isSignedBy, keyOfPoint, type Signatures } from "./remembered.ts";
import { type Certificate, keyUsage } from "./x509.ts";

/** What is trusted: one key by value. `rootKey`: uncompressed P-256 point, 65 bytes. */
export interface TrustAnchor {
  readonly name: string;
  readonly rootKey: Uint8Array;
}

/** What a certificate in a given place must be. */
export interface Role {
  /** Accepted common names. */
  readonly names: readonly string[];
  readonly ca: boolean;
  readonly pathLength?: number;
  readonly keyUsage: number;
  /** OIDs of the extensions that it must have. */
  readonly extensions: readonly string[];
  /** Every platform has one of its own, so that its signature is not worth remembering. */
  readonly ofOnePlatform?: boolean;
}

export const certSigner = keyUsage.keyCertSign | keyUsage.crlSign;

/** Refuses a certificate that is not what its place in the chain asks for. */
export function checkRole(certificate: Certificate, role: Role): void {
  const where = certificate.commonName;
  for (const expected of role.extensions) {
    if (!certificate.extensions.has(expected))
      throw new VerifyError("chain/extension", "an extension is missing", { where, expected });
  }
  if (!role.names.includes(certificate.commonName)) {
    throw new VerifyError(
      "chain/name",
      "a certificate has another name than its place in the chain asks for",
      {
        expected: role.names.join(" or "),
        actual: certificate.commonName,
      },
    );
  }
  if (certificate.ca !== role.ca || certificate.pathLength !== role.pathLength) {
    throw new VerifyError(
      "chain/constraints",
      "a certificate's basic constraints are not those of its role",
      {
        where,
        expected: `CA ${role.ca}, path length ${role.pathLength ?? "none"}`,
        actual: `CA ${certificate.ca}, path length ${certificate.pathLength ?? "none"}`,
      },
    );
  }
  if (
    (certificate.keyUsage & role.keyUsage) !== role.keyUsage ||
    (!role.ca && certificate.keyUsage & certSigner)
  ) {
    throw new VerifyError("chain/key-usage", "a certificate's key may not be used as its role asks for", {
      where,
    });
  }
}

/** Refuses what is not valid at `now`. `codes`: not yet valid, expired. */
export function checkWindow(
  what: string,
  window: { notBefore: number; notAfter: number },
  now: number,
  [tooEarly, tooLate]: readonly [CheckCode, CheckCode],
): void {
  if (now >= window.notBefore && now <= window.notAfter) return;
  const iso = (ms: number) => new Date(ms).toISOString();
  const early = now < window.notBefore;
  throw new VerifyError(early ? tooEarly : tooLate, `${what} ${early ? "is not valid yet" : "has expired"}`, {
    expected: `${iso(window.notBefore)} to ${iso(window.notAfter)}`,
    actual: iso(now),
  });
}

/** Codes of a certificate outside its validity. */
export const certificateWindow = ["chain/not-yet-valid", "chain/expired"] as const;

/** The key of a verified certificate, ready for use. Throws VerifyError "chain/key". */
async function keyOf(certificate: Certificate): Promise<PublicKey> {
  const key = await keyOfPoint(certificate.publicKey);
  if (key === undefined) {
    throw new VerifyError("chain/key", "a certificate's key is not a point of P-256", {
      where: certificate.commonName,
    });
  }
  return key;
}

/** A certificate whose issuer, role, validity and signature were checked. */
export interface Authority {
  readonly certificate: Certificate;
  readonly key: PublicKey;
}

/**
 * Verifies that `issuer` issued `certificate` for `role`, at `now`. `platforms`: signatures on platforms' that are
 * remembered.
 */
export async function verifyIssued(
  certificate: Certificate,
  issuer: Authority,
  role: Role,
  now: number,
  platforms?: Signatures,
): Promise<Authority> {
  await checkIssued(certificate, issuer, role, now, platforms);
  return { certificate, key: await keyOf(certificate) };
}

async function checkIssued(
  certificate: Certificate,
  issuer: Authority,
  role: Role,
  now: number,
  platforms?: Signatures,
): Promise<void> {
  checkRole(certificate, role);
  if (!equal(certificate.issuer, issuer.certificate.subject)) {
    throw new VerifyError("chain/issuer", "a certificate names another issuer than the next in its chain", {
      where: certificate.commonName,
      expected: issuer.certificate.commonName,
    });
  }
  const { authorityKeyId } = certificate;
  const { subjectKeyId } = issuer.certificate;
  if (authorityKeyId === undefined || subjectKeyId === undefined || !equal(authorityKeyId, subjectKeyId)) {
    throw new VerifyError(
      "chain/issuer",
      "a certificate names another issuer key than the next in its chain",
      {
        where: certificate.commonName,
      },
    );
  }
  checkWindow(`the certificate "${certificate.commonName}"`, certificate, now, certificateWindow);
  const { signature, tbs } = certificate;
  const signer = { point: issuer.certificate.publicKey, key: issuer.key };
  if (!(await isSignedBy(signer, signature, tbs, role.ofOnePlatform === true ? platforms : authorities))) {
    throw new VerifyError("chain/signature", "a certificate's signature is not its issuer's", {
      where: certificate.commonName,
    });
  }
}

/** Verifies the root: the pinned key, and its own signature over its name, constraints and validity. */
export async function verifyRoot(
  certificate: Certificate,
  trust: TrustAnchor,
  role: Role,
  now: number,
): Promise<Authority> {
  if (!equal(certificate.publicKey, trust.rootKey)) {
    throw new VerifyError("chain/untrusted-root", "the chain ends at a root that is not trusted", {
      expected: `${trust.name}, ${toHex(trust.rootKey)}`,
      actual: `${certificate.commonName}, ${toHex(certificate.publicKey)}`,
    });
  }
  const root = { certificate, key: await keyOf(certificate) };
  await checkIssued(certificate, root, role, now);
  return root;
}
