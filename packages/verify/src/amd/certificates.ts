// SPDX-License-Identifier: Apache-2.0
/**
 * AMD's certificates and revocation lists: ARK, ASK or ASVK (RSA 4096) and VCEK or VLEK (P-384), all signed with
 * RSASSA-PSS, SHA-384 and a salt of 48 bytes (AMD 57230, VCEK certificate and KDS interface). What the certificate says of
 * its signature must be exactly that: a library would follow whatever it says.
 */
import { equal, toHex } from "@caisson/vocabulary/bytes";
import { Recent } from "@caisson/vocabulary/recent";
import { digest, importRsa, verifyPss } from "#crypto";
import { VerifyError } from "../errors.ts";
import { certificateWindow, checkRole, checkWindow, type Role } from "../pki/chain.ts";
import { type Crl, parseCrl, verifyListOf } from "../pki/crl.ts";
import { DerReader, tag } from "../pki/der.ts";
import { oids } from "../pki/oids.ts";
import { type Certificate, keyUsage, type Profile, p384Profile, parseCertificate } from "../pki/x509.ts";
import { authorityExtensions } from "./oids.ts";
import type { Product } from "./products.ts";
import type { AmdRoot } from "./roots.ts";

const wrongAlgorithm = (what: string): never => {
  throw new VerifyError("certificate/malformed", `a signature of AMD's is not what it must be: ${what}`, {
    expected: "RSASSA-PSS with SHA-384, MGF1 with SHA-384, 48 bytes of salt",
  });
};

/** AlgorithmIdentifier of SHA-384, with NULL or without parameters. */
function readSha384(reader: DerReader): void {
  const algorithm = reader.enter(tag.sequence);
  if (algorithm.oid() !== oids.sha384) wrongAlgorithm("another hash");
  if (algorithm.more && algorithm.content(tag.null).length !== 0) wrongAlgorithm("parameters of the hash");
  algorithm.end();
}

/** RSASSA-PSS-params (RFC 4055, 3.1): every default would be SHA-1, so that each part must be there. */
function readPssAlgorithm(reader: DerReader): void {
  const algorithm = reader.enter(tag.sequence);
  if (algorithm.oid() !== oids.rsaPss) wrongAlgorithm("another algorithm");
  const parameters = algorithm.enter(tag.sequence);
  algorithm.end();
  const hash = parameters.enter(0xa0);
  readSha384(hash);
  hash.end();
  const mask = parameters.enter(0xa1);
  const generator = mask.enter(tag.sequence);
  mask.end();
  if (generator.oid() !== oids.mgf1) wrongAlgorithm("another mask");
  readSha384(generator);
  generator.end();
  const salt = parameters.enter(0xa2);
  if (salt.number(1024) !== 48) wrongAlgorithm("another length of the salt");
  salt.end();
  if (parameters.more) {
    // The default, which AMD encodes in some certificates.
    const trailer = parameters.enter(0xa3);
    if (trailer.number(255) !== 1) wrongAlgorithm("another trailer");
    trailer.end();
  }
  parameters.end();
}

/** 512 bytes. */
function readPssSignature(reader: DerReader): Uint8Array {
  const signature = reader.bitString();
  return signature.length === 512 ? signature : wrongAlgorithm("another length");
}

/** The whole SubjectPublicKeyInfo of an RSA key of 4096 bits and exponent 65537. */
function readRsaKey(info: DerReader, encoding: Uint8Array): Uint8Array {
  const algorithm = info.enter(tag.sequence);
  if (algorithm.oid() !== oids.rsaEncryption) wrongKey();
  if (algorithm.more && algorithm.content(tag.null).length !== 0) wrongKey();
  algorithm.end();
  const key = new DerReader(info.bitString());
  info.end();
  const numbers = key.enter(tag.sequence);
  key.end();
  const modulus = numbers.unsigned();
  const exponent = numbers.number(0x7fffffff);
  numbers.end();
  if (modulus.length !== 512 || exponent !== 65537) wrongKey();
  return encoding;
}

function wrongKey(): never {
  throw new VerifyError("chain/key", "a key of AMD's is not RSA with 4096 bits and exponent 65537");
}

const signedByAmd = { algorithm: readPssAlgorithm, signature: readPssSignature };
const authorityProfile: Profile = {
  ...signedByAmd,
  key: readRsaKey,
  trailingZeros: true,
};
const endorsementProfile: Profile = {
  ...signedByAmd,
  key: p384Profile.key,
  zeroSerial: true,
};

export const parseAuthority = (encoding: Uint8Array): Certificate =>
  parseCertificate(encoding, authorityProfile);
/** A VCEK or VLEK. */
export const parseEndorsement = (encoding: Uint8Array): Certificate =>
  parseCertificate(encoding, endorsementProfile);

/** What AMD's lists are signed with. That they name their issuer's key is not asked: none could be seen here. */
export const parseAmdCrl = (encoding: Uint8Array): Crl =>
  parseCrl(encoding, { ...signedByAmd, identified: false });

/** ASK (`vcek`) or ASVK (`vlek`) and root of one product, parsed: what lies above an endorsement key. */
export interface AmdAuthorities {
  readonly intermediate: Certificate;
  readonly root: Certificate;
}

/** Whose key signs the reports: the chip's own, or its provider's. */
export type EndorsementKind = "vcek" | "vlek";

const rootRole = (product: Product): Role => ({
  names: [`ARK-${product}`],
  ca: true,
  keyUsage: keyUsage.keyCertSign | keyUsage.crlSign,
  extensions: authorityExtensions,
});
const intermediateRole = (product: Product, kind: EndorsementKind): Role => ({
  names: [kind === "vcek" ? `SEV-${product}` : `SEV-VLEK-${product}`],
  ca: true,
  pathLength: 0,
  keyUsage: keyUsage.keyCertSign,
  extensions: authorityExtensions,
});
const endorsementRole = (kind: EndorsementKind): Role => ({
  names: [`SEV-${kind.toUpperCase()}`],
  ca: false,
  keyUsage: 0,
  extensions: [],
});

/** That a key of AMD's signed something does not change: what it signed once is not checked again. */
const signatures = new Recent<true>();

async function signedBy(issuer: Certificate, { tbs, signature, encoding }: Certificate): Promise<boolean> {
  const [key, what] = await Promise.all([digest("sha256", issuer.publicKey), digest("sha256", encoding)]);
  const name = `${toHex(key)} ${toHex(what)}`;
  if (signatures.get(name) !== undefined) return true;
  const right = await verifySignature(issuer, signature, tbs);
  if (right) signatures.set(name, true);
  return right;
}

async function verifySignature(
  issuer: Certificate,
  signature: Uint8Array,
  data: Uint8Array,
): Promise<boolean> {
  const key = await importRsa(issuer.publicKey, "pss");
  return key !== undefined && verifyPss(key, signature, data);
}

async function checkIssued(
  certificate: Certificate,
  issuer: Certificate,
  role: Role,
  now: number,
): Promise<void> {
  checkRole(certificate, role);
  const where = certificate.commonName;
  const { authorityKeyId } = certificate;
  const { subjectKeyId } = issuer;
  const named =
    authorityKeyId === undefined || (subjectKeyId !== undefined && equal(authorityKeyId, subjectKeyId));
  if (!equal(certificate.issuer, issuer.subject) || !named) {
    throw new VerifyError("chain/issuer", "a certificate names another issuer than the next in its chain", {
      where,
      expected: issuer.commonName,
    });
  }
  checkWindow(`the certificate "${where}"`, certificate, now, certificateWindow);
  if (!(await signedBy(issuer, certificate))) {
    throw new VerifyError("chain/signature", "a certificate's signature is not its issuer's", { where });
  }
}

/** Verifies an endorsement key's chain up to the pinned root of its product; returns that root. */
export async function verifyChain(
  endorsement: Certificate,
  { intermediate, root }: AmdAuthorities,
  kind: EndorsementKind,
  product: Product,
  roots: readonly AmdRoot[],
  now: number,
): Promise<AmdRoot> {
  const key = toHex(await digest("sha256", root.publicKey));
  const anchor = roots.find((one) => one.product === product && one.keySha256 === key);
  if (anchor === undefined) {
    throw new VerifyError(
      "chain/untrusted-root",
      "the chain ends at a root that is not trusted for this product",
      {
        expected: roots
          .flatMap((one) => (one.product === product ? [`${one.name}, ${one.keySha256}`] : []))
          .join(" or "),
        actual: `${root.commonName}, ${key}`,
      },
    );
  }
  await checkIssued(root, root, rootRole(product), now);
  await checkIssued(intermediate, root, intermediateRole(product, kind), now);
  await checkIssued(endorsement, intermediate, endorsementRole(kind), now);
  return anchor;
}

/** Verifies that the root signed a list, and that the list is the one for `now`. */
export const verifyAmdCrl = (crl: Crl, root: Certificate, now: number): Promise<void> =>
  verifyListOf(root, crl, now, () => verifySignature(root, crl.signature, crl.tbs));
