// SPDX-License-Identifier: Apache-2.0
/** Certificate revocation lists (RFC 5280, section 5): complete lists of one issuer. */

import { equal, toHex } from "@caisson/vocabulary/bytes";
import { verifyP256 } from "#crypto";
import { VerifyError } from "../errors.ts";
import { type Authority, checkWindow } from "./chain.ts";
import { DerReader, tag } from "./der.ts";
import { oids } from "./oids.ts";
import {
  type Certificate,
  type Extension,
  type Profile,
  p256Profile,
  readAuthorityKeyId,
  readExtensions,
} from "./x509.ts";

/** A parsed list; nothing about it is verified yet. Times in milliseconds since 1970. */
export interface Crl {
  readonly tbs: Uint8Array;
  readonly signature: Uint8Array;
  readonly issuer: Uint8Array;
  /** Undefined where the profile allows a list without. */
  readonly authorityKeyId: Uint8Array | undefined;
  /** thisUpdate and nextUpdate. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** Serial numbers, hexadecimal without sign byte. */
  readonly revoked: ReadonlySet<string>;
}

/** How a vendor signs its lists, and whether each names its issuer's key and has a number. */
export interface CrlProfile extends Pick<Profile, "algorithm" | "signature"> {
  readonly identified: boolean;
}

const p256Crls: CrlProfile = {
  ...p256Profile,
  identified: true,
};

/** Reads one list. Throws VerifyError "der/malformed", "crl/malformed" or "crl/extension". */
export function parseCrl(encoding: Uint8Array, profile: CrlProfile = p256Crls): Crl {
  const outer = new DerReader(encoding);
  const list = outer.enter(tag.sequence);
  outer.end();
  const signed = list.read(tag.sequence);
  profile.algorithm(list);
  const signature = profile.signature(list);
  list.end();

  const tbs = signed.enter();
  if (tbs.number(1) !== 1) throw new VerifyError("crl/malformed", "this is not a CRL version 2");
  profile.algorithm(tbs);
  const issuer = tbs.read(tag.sequence).encoding;
  const [notBefore, notAfter] = [tbs.time(), tbs.time()];
  const revoked = new Set<string>();
  // An absent list means that nothing is revoked; an empty one is not DER.
  if (tbs.nextTag === tag.sequence) {
    const entries = tbs.enter(tag.sequence);
    do {
      const entry = entries.enter(tag.sequence);
      revoked.add(toHex(entry.unsigned()));
      entry.time();
      if (entry.more) refuseCritical(readExtensions(entry), [oids.reasonCode]);
      entry.end();
    } while (entries.more);
  }
  const extensions: Extension[] = [];
  if (tbs.more) {
    const wrapper = tbs.enter(0xa0);
    extensions.push(...readExtensions(wrapper));
    wrapper.end();
  } else if (profile.identified) throw new VerifyError("crl/extension", "a CRL has no extensions");
  tbs.end();
  // A critical extension that is not understood may narrow what the list covers (5.2: deltas, distribution points).
  refuseCritical(extensions, []);
  const byOid = (oid: string) => extensions.find((extension) => extension.oid === oid)?.value.enter();
  const authority = byOid(oids.authorityKeyIdentifier);
  const authorityKeyId = authority === undefined ? undefined : readAuthorityKeyId(authority);
  if (profile.identified && (authorityKeyId === undefined || byOid(oids.crlNumber) === undefined)) {
    throw new VerifyError("crl/extension", "a CRL has no authority key identifier, or no CRL number");
  }
  return { tbs: signed.encoding, signature, issuer, authorityKeyId, notBefore, notAfter, revoked };
}

function refuseCritical(
  extensions: readonly { oid: string; critical: boolean }[],
  known: readonly string[],
): void {
  for (const { oid, critical } of extensions) {
    if (critical && !known.includes(oid)) {
      throw new VerifyError("crl/extension", "an unknown CRL extension is critical", { actual: oid });
    }
  }
}

/** Codes of a list outside its validity. */
export const crlWindow = ["crl/not-yet-valid", "crl/expired"] as const;

/** Verifies that `issuer` signed the list, and that it is the one for `now`. */
export async function verifyCrl(crl: Crl, issuer: Authority, now: number): Promise<void> {
  await verifyListOf(issuer.certificate, crl, now, () => verifyP256(issuer.key, crl.signature, crl.tbs));
}

/** The same whatever the issuer's key; `signed` says whether it signed the list. */
export async function verifyListOf(
  issuer: Certificate,
  crl: Crl,
  now: number,
  signed: () => Promise<boolean>,
): Promise<void> {
  const { commonName: name, subjectKeyId } = issuer;
  const { authorityKeyId } = crl;
  const named =
    authorityKeyId === undefined || (subjectKeyId !== undefined && equal(authorityKeyId, subjectKeyId));
  if (!equal(crl.issuer, issuer.subject) || !named) {
    throw new VerifyError("crl/issuer", "a CRL comes from another issuer than it must", { expected: name });
  }
  checkWindow(`the CRL of "${name}"`, crl, now, crlWindow);
  if (!(await signed())) {
    throw new VerifyError("crl/signature", "a CRL's signature is not its issuer's", { expected: name });
  }
}

/** Refuses a certificate that the list of its issuer names. A revocation counts whatever its date says. */
export function checkNotRevoked(certificate: Certificate, crl: Crl): void {
  if (!equal(certificate.issuer, crl.issuer)) {
    throw new VerifyError("crl/issuer", "there is no CRL of a certificate's issuer", {
      where: certificate.commonName,
    });
  }
  if (crl.revoked.has(certificate.serial)) {
    throw new VerifyError("certificate/revoked", "a certificate was revoked", {
      where: certificate.commonName,
      actual: `serial ${certificate.serial}`,
    });
  }
}
